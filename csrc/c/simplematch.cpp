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

// The functions of an operator but for its backward.
#define SIMPLEMATCH_DEFINE_FORWARD(NAME, PROBLEM, RESULT, GRADIENTS)                                                       \
    simplematch_status simplematch_##NAME(const PROBLEM* problem, const RESULT* result, const Device* device) {            \
        return abi::forward(problem, result, device);                                                                      \
    }                                                                                                                      \
    simplematch_status simplematch_##NAME##_workspace(const PROBLEM* problem, const Device* device, int64_t* bytes) {      \
        return abi::forward_workspace(problem, device, bytes);                                                             \
    }                                                                                                                      \
    simplematch_status simplematch_##NAME##_backward_workspace(const PROBLEM* problem, const GRADIENTS* gradients,         \
                                                               const Device* device, int64_t* bytes) {                     \
        return abi::backward_workspace(problem, gradients, device, bytes);                                                 \
    }

// All functions of an operator whose backward reads what the forward left,
#define SIMPLEMATCH_DEFINE(NAME, PROBLEM, RESULT, UPSTREAM, GRADIENTS)                                                     \
    SIMPLEMATCH_DEFINE_FORWARD(NAME, PROBLEM, RESULT, GRADIENTS)                                                           \
    simplematch_status simplematch_##NAME##_backward(const PROBLEM* problem, const RESULT* forward,                        \
                                                     const UPSTREAM* upstream, const GRADIENTS* gradients,                 \
                                                     const Device* device) {                                               \
        return abi::backward(problem, upstream, gradients, device, forward);                                               \
    }

// and of one whose backward does not.
#define SIMPLEMATCH_DEFINE_INDEPENDENT(NAME, PROBLEM, RESULT, UPSTREAM, GRADIENTS)                                         \
    SIMPLEMATCH_DEFINE_FORWARD(NAME, PROBLEM, RESULT, GRADIENTS)                                                           \
    simplematch_status simplematch_##NAME##_backward(const PROBLEM* problem, const UPSTREAM* upstream,                     \
                                                     const GRADIENTS* gradients, const Device* device) {                   \
        return abi::backward(problem, upstream, gradients, device);                                                        \
    }

SIMPLEMATCH_DEFINE(sparse_window_match, MatchProblem, MatchResult, Upstream, MatchGradients)
SIMPLEMATCH_DEFINE(localize, LocalizeProblem, Matches, Upstream, LocalizeGradients)
SIMPLEMATCH_DEFINE_INDEPENDENT(gather_keypoints, GatherProblem, GatherResult, GatherUpstream, GatherGradients)
SIMPLEMATCH_DEFINE(cosine_similarity, SimilarityProblem, SimilarityResult, SimilarityUpstream, SimilarityGradients)
SIMPLEMATCH_DEFINE(sparse_match_cross_entropy, CrossEntropyProblem, CrossEntropyResult, CrossEntropyUpstream, MatchGradients)
SIMPLEMATCH_DEFINE(match_all, MatchAllProblem, MatchAllResult, MatchAllUpstream, MatchAllGradients)
SIMPLEMATCH_DEFINE(pair_scores, PairProblem, PairResult, PairUpstream, PairGradients)
SIMPLEMATCH_DEFINE_INDEPENDENT(neighbour_products, NeighbourProblem, NeighbourResult, NeighbourUpstream, NeighbourGradients)
SIMPLEMATCH_DEFINE(localize_upsampled, UpsampledProblem, Matches, Upstream, UpsampledGradients)
SIMPLEMATCH_DEFINE_INDEPENDENT(local_correlation, CorrelationProblem, CorrelationResult, CorrelationUpstream,
                               CorrelationGradients)

#undef SIMPLEMATCH_DEFINE_FORWARD
#undef SIMPLEMATCH_DEFINE
#undef SIMPLEMATCH_DEFINE_INDEPENDENT
