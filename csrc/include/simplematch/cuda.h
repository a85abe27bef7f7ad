// The operators on a GPU: the problems of simplematch/cpu.h, with every address in the memory of one device.
//
// A call puts its kernels on the stream and returns; nothing is allocated and nothing waits, so calls may be captured in
// a graph. Scratch memory comes from the caller: as many bytes as the function of the same name and `_workspace` says,
// aligned to 256. `threads` of a problem is not used. A failed launch throws std::runtime_error.
#pragma once

#include "simplematch/cpu.h"

namespace simplematch::cuda {

struct Device {
    int index = 0;
    void* stream = nullptr;     // cudaStream_t
    void* workspace = nullptr;
};

// Why no kernel can run on this machine, or null.
const char* why_not();
int device_count();

int64_t sparse_window_match_workspace(const MatchProblem& problem, int device);
void sparse_window_match(const MatchProblem& problem, const ForwardResult& result, const Device& device);

int64_t sparse_window_match_backward_workspace(const MatchProblem& problem, const MatchGradients& gradients, int device);
void sparse_window_match_backward(const MatchProblem& problem, const ForwardResult& forward, const Upstream& upstream,
                                  const MatchGradients& gradients, const Device& device);

void localize(const LocalizeProblem& problem, const Matches& matches, const Device& device);
void localize_backward(const LocalizeProblem& problem, const Matches& matches, const Upstream& upstream,
                       const View& scores_gradient, const View& temperature_gradient, const Device& device);

void gather_keypoints(const View& features, const View& keypoints, const Sampling& sampling, void* descriptors,
                      const Device& device);
void gather_keypoints_backward(const View& gradient, const View& features, const View& keypoints, const Sampling& sampling,
                               const View& features_gradient, const View& keypoints_gradient, const Device& device);

int64_t cosine_similarity_workspace(const SimilarityProblem& problem, int device);
void cosine_similarity(const SimilarityProblem& problem, void* scores, void* target_norm, const Device& device);

int64_t cosine_similarity_backward_workspace(const SimilarityProblem& problem, int device);
void cosine_similarity_backward(const SimilarityProblem& problem, const View& gradient, const void* scores,
                                const void* target_norm, const View& descriptors_gradient, const View& target_gradient,
                                const Device& device);

}  // namespace simplematch::cuda
