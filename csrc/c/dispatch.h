// Where an operator runs. The one place that knows which devices there are.
#pragma once

#include "convert.h"

namespace simplematch::abi {

// Bytes of scratch memory that the caller gives.
int64_t workspace(const MatchProblem& problem, const simplematch_device& device);
int64_t workspace(const LocalizeProblem& problem, const simplematch_device& device);
int64_t workspace(const GatherProblem& problem, const simplematch_device& device);
int64_t workspace(const SimilarityProblem& problem, const simplematch_device& device);
int64_t workspace_backward(const MatchProblem& problem, const MatchGradients& gradients, const simplematch_device& device);
int64_t workspace_backward(const LocalizeProblem& problem, const simplematch_device& device);
int64_t workspace_backward(const GatherProblem& problem, const simplematch_device& device);
int64_t workspace_backward(const SimilarityProblem& problem, const simplematch_device& device);

void run(MatchProblem problem, const ForwardResult& result, const simplematch_device& device);
void run_backward(MatchProblem problem, const ForwardResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, const simplematch_device& device);

void run(LocalizeProblem problem, const Matches& matches, const simplematch_device& device);
void run_backward(LocalizeProblem problem, const Matches& forward, const Upstream& upstream, const View& scores_gradient,
                  const View& temperature_gradient, const simplematch_device& device);

void run(const GatherProblem& problem, void* descriptors, const simplematch_device& device);
void run_backward(const GatherProblem& problem, const View& gradient, const View& features_gradient,
                  const View& keypoints_gradient, const simplematch_device& device);

void run(SimilarityProblem problem, void* scores, void* target_norm, const simplematch_device& device);
void run_backward(SimilarityProblem problem, const View& gradient, const void* scores, const void* target_norm,
                  const View& descriptors_gradient, const View& target_gradient, const simplematch_device& device);

}  // namespace simplematch::abi
