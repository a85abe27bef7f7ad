// The exported operators: copy the caller's records, check them, run.
#include "checks.h"
#include "common/defaults.h"
#include "run.h"

namespace simplematch::abi {
namespace {

// A device and a problem, checked.
template <class Problem>
struct Call {
    Device device;
    Problem problem;
    Sizes sizes;

    Call(const Problem* given, const Device* where) : device(where == nullptr ? kDefault<Device> : *where) {
        check_device(device);
        problem = check_pointer("problem", given);
        sizes = check_problem(problem);
    }
    bool on_cpu() const { return device.kind == SIMPLEMATCH_CPU; }
};

void check_values(const GatherProblem& problem, const Sizes& sizes) {
    check_image_sizes("sampling.image_sizes", problem.sampling.image_sizes, sizes.batch);
}
void check_values(const LocalizeProblem& problem, const Sizes& sizes) {
    check_counts(problem.rows, sizes);
    check_image_sizes("localization.image_sizes", problem.localization.image_sizes, sizes.batch);
}
void check_values(const MatchProblem& problem, const Sizes& sizes) {
    check_counts(problem.rows, sizes);
    check_image_sizes("sampling.image_sizes", problem.sampling.image_sizes, sizes.batch);
    check_image_sizes("localization.image_sizes", problem.localization.image_sizes, sizes.batch);
}
void check_values(const SimilarityProblem&, const Sizes&) {}
void check_values(const CrossEntropyProblem& problem, const Sizes& sizes) {
    check_counts(problem.rows, sizes);
    check_image_sizes("sampling.image_sizes", problem.sampling.image_sizes, sizes.batch);
}
void check_values(const NeighbourProblem&, const Sizes&) {}
void check_values(const UpsampledProblem& problem, const Sizes& sizes) {
    check_counts(problem.rows, sizes);
    check_image_sizes("localization.image_sizes", problem.localization.image_sizes, sizes.batch);
}
void check_values(const CorrelationProblem& problem, const Sizes& sizes) { check_counts(problem.rows, sizes); }

void check_forward(const MatchResult& forward, const MatchProblem& problem, const Sizes& sizes) {
    check_peaks(forward.matches, problem.rows, sizes);
}
void check_forward(const Matches& forward, const LocalizeProblem& problem, const Sizes& sizes) {
    check_peaks(forward, problem.rows, sizes);
}
void check_forward(const Matches& forward, const UpsampledProblem& problem, const Sizes& sizes) {
    check_peaks(forward, problem.rows, sizes);
}
void check_forward(const SimilarityResult&, const SimilarityProblem&, const Sizes&) {}
void check_forward(const CrossEntropyResult& forward, const CrossEntropyProblem&, const Sizes& sizes) {
    check_true_cells(forward, sizes);
}

void check_read(const MatchResult& forward, const Upstream& upstream, const Sizes& sizes) {
    check_covariance(forward.matches, upstream, sizes);
}
void check_read(const Matches& forward, const Upstream& upstream, const Sizes& sizes) {
    check_covariance(forward, upstream, sizes);
}
template <class Forward, class Arriving>
void check_read(const Forward&, const Arriving&, const Sizes&) {}

template <class Problem, class Result>
simplematch_status forward(const Problem* problem, const Result* result, const Device* device) {
    return guard([&] {
        const Call<Problem> call(problem, device);
        check_result(check_pointer("result", result), call.problem, call.sizes);
        check_workspace(call.device, workspace(call.device, call.problem));
        if (call.on_cpu()) check_values(call.problem, call.sizes);
        run(call.device, call.problem, *result);
    });
}

template <class Problem>
simplematch_status forward_workspace(const Problem* problem, const Device* device, int64_t* bytes) {
    return guard([&] {
        const Call<Problem> call(problem, device);
        check_pointer("bytes", bytes);
        *bytes = workspace(call.device, call.problem);
    });
}

// `forward`: what the backward reads of the forward's results, if anything.
template <class Problem, class Arriving, class Gradients, class... Result>
simplematch_status backward(const Problem* problem, const Arriving* upstream, const Gradients* gradients,
                            const Device* device, const Result*... forward) {
    return guard([&] {
        const Call<Problem> call(problem, device);
        (check_result(check_pointer("forward", forward), call.problem, call.sizes), ...);
        Arriving arriving = check_pointer("upstream", upstream);
        check_upstream(arriving, call.sizes);
        (check_read(*forward, arriving, call.sizes), ...);
        Gradients wanted = check_pointer("gradients", gradients);
        check_gradients(wanted, call.problem);
        check_workspace(call.device, workspace_backward(call.device, call.problem, wanted));
        if (call.on_cpu()) {
            check_values(call.problem, call.sizes);
            (check_forward(*forward, call.problem, call.sizes), ...);
        }
        run_backward(call.device, call.problem, *forward..., arriving, wanted);
    });
}

template <class Problem, class Gradients>
simplematch_status backward_workspace(const Problem* problem, const Gradients* gradients, const Device* device,
                                      int64_t* bytes) {
    return guard([&] {
        const Call<Problem> call(problem, device);
        Gradients wanted = check_pointer("gradients", gradients);
        check_gradients(wanted, call.problem);
        check_pointer("bytes", bytes);
        *bytes = workspace_backward(call.device, call.problem, wanted);
    });
}

}  // namespace
}  // namespace simplematch::abi

using namespace simplematch;

simplematch_status simplematch_sparse_window_match(
    const MatchProblem* problem, const MatchResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_sparse_window_match_workspace(
    const MatchProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_sparse_window_match_backward(
    const MatchProblem* problem, const MatchResult* forward, const Upstream* upstream, const MatchGradients* gradients,
    const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_sparse_window_match_backward_workspace(
    const MatchProblem* problem, const MatchGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_localize(const LocalizeProblem* problem, const Matches* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_localize_workspace(const LocalizeProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_localize_backward(
    const LocalizeProblem* problem, const Matches* forward, const Upstream* upstream, const LocalizeGradients* gradients,
    const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_localize_backward_workspace(
    const LocalizeProblem* problem, const LocalizeGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_gather_keypoints(
    const GatherProblem* problem, const GatherResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_gather_keypoints_workspace(
    const GatherProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_gather_keypoints_backward(
    const GatherProblem* problem, const GatherUpstream* upstream, const GatherGradients* gradients, const Device* device) {
    return abi::backward(problem, upstream, gradients, device);
}

simplematch_status simplematch_gather_keypoints_backward_workspace(
    const GatherProblem* problem, const GatherGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_cosine_similarity(
    const SimilarityProblem* problem, const SimilarityResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_cosine_similarity_workspace(
    const SimilarityProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_cosine_similarity_backward(
    const SimilarityProblem* problem, const SimilarityResult* forward, const SimilarityUpstream* upstream,
    const SimilarityGradients* gradients, const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_cosine_similarity_backward_workspace(
    const SimilarityProblem* problem, const SimilarityGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_sparse_match_cross_entropy(
    const CrossEntropyProblem* problem, const CrossEntropyResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_sparse_match_cross_entropy_workspace(
    const CrossEntropyProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_sparse_match_cross_entropy_backward(
    const CrossEntropyProblem* problem, const CrossEntropyResult* forward, const CrossEntropyUpstream* upstream,
    const MatchGradients* gradients, const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_sparse_match_cross_entropy_backward_workspace(
    const CrossEntropyProblem* problem, const MatchGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_match_all(const MatchAllProblem* problem, const MatchAllResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_match_all_workspace(const MatchAllProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_match_all_backward(
    const MatchAllProblem* problem, const MatchAllResult* forward, const MatchAllUpstream* upstream,
    const MatchAllGradients* gradients, const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_match_all_backward_workspace(
    const MatchAllProblem* problem, const MatchAllGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_neighbour_products(
    const NeighbourProblem* problem, const NeighbourResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_neighbour_products_workspace(
    const NeighbourProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_neighbour_products_backward(
    const NeighbourProblem* problem, const NeighbourUpstream* upstream, const NeighbourGradients* gradients,
    const Device* device) {
    return abi::backward(problem, upstream, gradients, device);
}

simplematch_status simplematch_neighbour_products_backward_workspace(
    const NeighbourProblem* problem, const NeighbourGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_localize_upsampled(
    const UpsampledProblem* problem, const Matches* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_localize_upsampled_workspace(
    const UpsampledProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_localize_upsampled_backward(
    const UpsampledProblem* problem, const Matches* forward, const Upstream* upstream,
    const UpsampledGradients* gradients, const Device* device) {
    return abi::backward(problem, upstream, gradients, device, forward);
}

simplematch_status simplematch_localize_upsampled_backward_workspace(
    const UpsampledProblem* problem, const UpsampledGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}

simplematch_status simplematch_local_correlation(
    const CorrelationProblem* problem, const CorrelationResult* result, const Device* device) {
    return abi::forward(problem, result, device);
}

simplematch_status simplematch_local_correlation_workspace(
    const CorrelationProblem* problem, const Device* device, int64_t* bytes) {
    return abi::forward_workspace(problem, device, bytes);
}

simplematch_status simplematch_local_correlation_backward(
    const CorrelationProblem* problem, const CorrelationUpstream* upstream, const CorrelationGradients* gradients,
    const Device* device) {
    return abi::backward(problem, upstream, gradients, device);
}

simplematch_status simplematch_local_correlation_backward_workspace(
    const CorrelationProblem* problem, const CorrelationGradients* gradients, const Device* device, int64_t* bytes) {
    return abi::backward_workspace(problem, gradients, device, bytes);
}
