// The exported operators: check everything, convert, run.
#include "checks.h"
#include "dispatch.h"

namespace simplematch::abi {
namespace {

simplematch_device device_of(const simplematch_device* device) {
    const simplematch_device chosen = device == nullptr ? simplematch_device_default() : *device;
    check_device(chosen);
    return chosen;
}

// What all calls check first. `work` is (kernels' problem, sizes, device) -> nothing.
template <class Problem, class Work>
simplematch_status operate(const Problem* problem, const simplematch_device* device, Work&& work) {
    return guard([&] {
        const simplematch_device chosen = device_of(device);
        const Sizes sizes = check_problem(check_pointer("problem", problem));
        work(problem_of(*problem), sizes, chosen);
    });
}

template <class Problem>
simplematch_status forward_query(const Problem* problem, const simplematch_device* device, int64_t* bytes) {
    return operate(problem, device, [&](const auto& p, const Sizes&, const simplematch_device& chosen) {
        check_pointer("bytes", bytes);
        *bytes = workspace(p, chosen);
    });
}

template <class Problem>
simplematch_status backward_query(const Problem* problem, const simplematch_device* device, int64_t* bytes) {
    return operate(problem, device, [&](const auto& p, const Sizes&, const simplematch_device& chosen) {
        check_pointer("bytes", bytes);
        *bytes = workspace_backward(p, chosen);
    });
}

void check_gradients(const simplematch_match_gradients& wanted, const simplematch_match_problem& problem) {
    check_gradient("gradients.source", wanted.source, "source", problem.source, 4);
    check_gradient("gradients.keypoints", wanted.keypoints, "keypoints", problem.keypoints, 3);
    check_gradient("gradients.target", wanted.target, "target", problem.target, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", problem.temperature, 2);
}

void check_row_values(const simplematch_rows& rows, const Sizes& sizes, const simplematch_device& device) {
    if (device.kind == SIMPLEMATCH_CPU) check_counts(rows, sizes);
}

void check_forward_values(const simplematch_matches& forward, const simplematch_rows& rows, const Sizes& sizes,
                          const simplematch_device& device) {
    check_row_values(rows, sizes, device);
    if (device.kind == SIMPLEMATCH_CPU) check_peaks(forward, rows, sizes);
}

}  // namespace
}  // namespace simplematch::abi

using namespace simplematch::abi;

simplematch_status simplematch_sparse_window_match(
    const simplematch_match_problem* problem, const simplematch_match_result* result, const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace(p, chosen));
        check_result(check_pointer("result", result), *problem, sizes);
        check_row_values(problem->rows, sizes, chosen);
        run(p, result_of(*result), chosen);
    });
}

simplematch_status simplematch_sparse_window_match_workspace(
    const simplematch_match_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return forward_query(problem, device, bytes);
}

simplematch_status simplematch_sparse_window_match_backward(
    const simplematch_match_problem* problem, const simplematch_match_result* forward,
    const simplematch_upstream* upstream, const simplematch_match_gradients* gradients, const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_result(check_pointer("forward", forward), *problem, sizes);
        check_upstream(check_pointer("upstream", upstream), sizes);
        const simplematch_match_gradients& wanted = check_pointer("gradients", gradients);
        check_gradients(wanted, *problem);
        check_workspace(chosen, workspace_backward(p, gradients_of(wanted), chosen));
        check_forward_values(forward->matches, problem->rows, sizes, chosen);
        run_backward(p, result_of(*forward), upstream_of(*upstream), gradients_of(wanted), chosen);
    });
}

simplematch_status simplematch_sparse_window_match_backward_workspace(
    const simplematch_match_problem* problem, const simplematch_match_gradients* gradients,
    const simplematch_device* device, int64_t* bytes) {
    return operate(problem, device, [&](const auto& p, const Sizes&, const simplematch_device& chosen) {
        check_gradients(check_pointer("gradients", gradients), *problem);
        check_pointer("bytes", bytes);
        *bytes = workspace_backward(p, gradients_of(*gradients), chosen);
    });
}

simplematch_status simplematch_localize(
    const simplematch_localize_problem* problem, const simplematch_matches* matches, const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace(p, chosen));
        check_matches(check_pointer("matches", matches), sizes);
        check_row_values(problem->rows, sizes, chosen);
        run(p, matches_of(*matches), chosen);
    });
}

simplematch_status simplematch_localize_workspace(
    const simplematch_localize_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return forward_query(problem, device, bytes);
}

simplematch_status simplematch_localize_backward(
    const simplematch_localize_problem* problem, const simplematch_matches* forward, const simplematch_upstream* upstream,
    const simplematch_tensor* scores_gradient, const simplematch_tensor* temperature_gradient,
    const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace_backward(p, chosen));
        check_matches(check_pointer("forward", forward), sizes);
        check_upstream(check_pointer("upstream", upstream), sizes);
        check_gradient("scores_gradient", check_pointer("scores_gradient", scores_gradient), "scores", problem->scores, 4);
        check_gradient("temperature_gradient", check_pointer("temperature_gradient", temperature_gradient), "temperature",
                       problem->temperature, 2);
        check_forward_values(*forward, problem->rows, sizes, chosen);
        run_backward(p, matches_of(*forward), upstream_of(*upstream), view_of(*scores_gradient),
                     view_of(*temperature_gradient), chosen);
    });
}

simplematch_status simplematch_localize_backward_workspace(
    const simplematch_localize_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return backward_query(problem, device, bytes);
}

simplematch_status simplematch_gather_keypoints(
    const simplematch_gather_problem* problem, void* descriptors, const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace(p, chosen));
        check_descriptors(descriptors, *problem, sizes);
        run(p, address_of(descriptors), chosen);
    });
}

simplematch_status simplematch_gather_keypoints_workspace(
    const simplematch_gather_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return forward_query(problem, device, bytes);
}

simplematch_status simplematch_gather_keypoints_backward(
    const simplematch_gather_problem* problem, const simplematch_tensor* gradient,
    const simplematch_tensor* features_gradient, const simplematch_tensor* keypoints_gradient,
    const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace_backward(p, chosen));
        check_arriving(check_pointer("gradient", gradient), "(B, N, C)", {sizes.batch, sizes.queries, sizes.channels},
                       problem->features.dtype);
        check_gradient("features_gradient", check_pointer("features_gradient", features_gradient), "features",
                       problem->features, 4);
        check_gradient("keypoints_gradient", check_pointer("keypoints_gradient", keypoints_gradient), "keypoints",
                       problem->keypoints, 3);
        run_backward(p, required_view_of(*gradient), view_of(*features_gradient), view_of(*keypoints_gradient), chosen);
    });
}

simplematch_status simplematch_gather_keypoints_backward_workspace(
    const simplematch_gather_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return backward_query(problem, device, bytes);
}

simplematch_status simplematch_cosine_similarity(
    const simplematch_similarity_problem* problem, void* scores, void* target_norm, const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace(p, chosen));
        check_scores(scores, target_norm, sizes);
        run(p, address_of(scores), address_of(target_norm), chosen);
    });
}

simplematch_status simplematch_cosine_similarity_workspace(
    const simplematch_similarity_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return forward_query(problem, device, bytes);
}

simplematch_status simplematch_cosine_similarity_backward(
    const simplematch_similarity_problem* problem, const simplematch_tensor* gradient, const void* scores,
    const void* target_norm, const simplematch_tensor* descriptors_gradient, const simplematch_tensor* target_gradient,
    const simplematch_device* device) {
    return operate(problem, device, [&](const auto& p, const Sizes& sizes, const simplematch_device& chosen) {
        check_workspace(chosen, workspace_backward(p, chosen));
        check_arriving(check_pointer("gradient", gradient), "(B, N, H, W)",
                       {sizes.batch, sizes.queries, sizes.height, sizes.width}, sizes.arithmetic);
        check_scores(scores, target_norm, sizes);
        check_gradient("descriptors_gradient", check_pointer("descriptors_gradient", descriptors_gradient), "descriptors",
                       problem->descriptors, 4);
        check_gradient("target_gradient", check_pointer("target_gradient", target_gradient), "target", problem->target, 4);
        run_backward(p, required_view_of(*gradient), address_of(const_cast<void*>(scores)),
                     address_of(const_cast<void*>(target_norm)), view_of(*descriptors_gradient), view_of(*target_gradient),
                     chosen);
    });
}

simplematch_status simplematch_cosine_similarity_backward_workspace(
    const simplematch_similarity_problem* problem, const simplematch_device* device, int64_t* bytes) {
    return backward_query(problem, device, bytes);
}
