#include "dispatch.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

// check_device() has refused the devices that this build doesn't have.
#if defined(SIMPLEMATCH_HAS_CUDA)
#include "simplematch/cuda.h"
#define ON_CUDA(device, ...) \
    if ((device).kind == SIMPLEMATCH_CUDA) return __VA_ARGS__
#else
#define ON_CUDA(device, ...) static_cast<void>(device)
#endif

namespace simplematch::abi {
namespace {

int threads_of(const simplematch_device& device) {
#if defined(_OPENMP)
    if (device.threads == 0) return omp_get_max_threads();
#endif
    return device.threads == 0 ? 1 : device.threads;
}

#if defined(SIMPLEMATCH_HAS_CUDA)
cuda::Device gpu_of(const simplematch_device& device) { return {device.index, device.stream, device.workspace}; }
#endif

}  // namespace

int64_t workspace([[maybe_unused]] const MatchProblem& p, const simplematch_device& device) {
    ON_CUDA(device, cuda::sparse_window_match_workspace(p, device.index));
    return 0;
}

int64_t workspace(const LocalizeProblem&, const simplematch_device&) { return 0; }

int64_t workspace(const GatherProblem&, const simplematch_device&) { return 0; }

int64_t workspace([[maybe_unused]] const SimilarityProblem& p, const simplematch_device& device) {
    ON_CUDA(device, cuda::cosine_similarity_workspace(p, device.index));
    return 0;
}

int64_t workspace_backward([[maybe_unused]] const MatchProblem& p, [[maybe_unused]] const MatchGradients& gradients,
                           const simplematch_device& device) {
    ON_CUDA(device, cuda::sparse_window_match_backward_workspace(p, gradients, device.index));
    return 0;
}

int64_t workspace_backward(const LocalizeProblem&, const simplematch_device&) { return 0; }

int64_t workspace_backward(const GatherProblem&, const simplematch_device&) { return 0; }

int64_t workspace_backward([[maybe_unused]] const SimilarityProblem& p, const simplematch_device& device) {
    ON_CUDA(device, cuda::cosine_similarity_backward_workspace(p, device.index));
    return 0;
}

void run(MatchProblem problem, const ForwardResult& result, const simplematch_device& device) {
    ON_CUDA(device, cuda::sparse_window_match(problem, result, gpu_of(device)));
    problem.threads = threads_of(device);
    sparse_window_match(problem, result);
}

void run_backward(MatchProblem problem, const ForwardResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, const simplematch_device& device) {
    ON_CUDA(device, cuda::sparse_window_match_backward(problem, forward, upstream, gradients, gpu_of(device)));
    problem.threads = threads_of(device);
    sparse_window_match_backward(problem, forward, upstream, gradients);
}

void run(LocalizeProblem problem, const Matches& matches, const simplematch_device& device) {
    ON_CUDA(device, cuda::localize(problem, matches, gpu_of(device)));
    problem.threads = threads_of(device);
    localize(problem, matches);
}

void run_backward(LocalizeProblem problem, const Matches& forward, const Upstream& upstream, const View& scores_gradient,
                  const View& temperature_gradient, const simplematch_device& device) {
    ON_CUDA(device, cuda::localize_backward(
                        problem, forward, upstream, scores_gradient, temperature_gradient, gpu_of(device)));
    problem.threads = threads_of(device);
    localize_backward(problem, forward, upstream, scores_gradient, temperature_gradient);
}

void run(const GatherProblem& p, void* descriptors, const simplematch_device& device) {
    ON_CUDA(device, cuda::gather_keypoints(p.features, p.keypoints, p.sampling, descriptors, gpu_of(device)));
    gather_keypoints(p.features, p.keypoints, p.sampling, descriptors, threads_of(device));
}

void run_backward(const GatherProblem& p, const View& gradient, const View& features_gradient,
                  const View& keypoints_gradient, const simplematch_device& device) {
    ON_CUDA(device, cuda::gather_keypoints_backward(gradient, p.features, p.keypoints, p.sampling, features_gradient,
                                                    keypoints_gradient, gpu_of(device)));
    gather_keypoints_backward(
        gradient, p.features, p.keypoints, p.sampling, features_gradient, keypoints_gradient, threads_of(device));
}

void run(SimilarityProblem problem, void* scores, void* target_norm, const simplematch_device& device) {
    ON_CUDA(device, cuda::cosine_similarity(problem, scores, target_norm, gpu_of(device)));
    problem.threads = threads_of(device);
    cosine_similarity(problem, scores, target_norm);
}

void run_backward(SimilarityProblem problem, const View& gradient, const void* scores, const void* target_norm,
                  const View& descriptors_gradient, const View& target_gradient, const simplematch_device& device) {
    ON_CUDA(device, cuda::cosine_similarity_backward(problem, gradient, scores, target_norm, descriptors_gradient,
                                                     target_gradient, gpu_of(device)));
    problem.threads = threads_of(device);
    cosine_similarity_backward(problem, gradient, scores, target_norm, descriptors_gradient, target_gradient);
}

}  // namespace simplematch::abi
