// The operators on a GPU, of checked arguments, with every address in the memory of one device.
//
// A call puts its kernels on the stream and returns; nothing is allocated and nothing waits, so calls may be captured in
// a graph. Scratch memory comes from the caller: as many bytes as `workspace` says, aligned to 256. A failed launch throws
// std::runtime_error.
#pragma once

#include "common/records.h"

namespace simplematch::cuda {

// Why no kernel can run on this machine, or null.
const char* why_not();
int device_count();

int64_t workspace(const MatchProblem& problem, const Device& device);
int64_t workspace_backward(const MatchProblem& problem, const MatchGradients& gradients, const Device& device);
void run(const MatchProblem& problem, const MatchResult& result, const Device& device);
void run_backward(const MatchProblem& problem, const MatchResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, const Device& device);

inline int64_t workspace(const LocalizeProblem&, const Device&) { return 0; }
inline int64_t workspace_backward(const LocalizeProblem&, const LocalizeGradients&, const Device&) { return 0; }
void run(const LocalizeProblem& problem, const Matches& result, const Device& device);
void run_backward(const LocalizeProblem& problem, const Matches& forward, const Upstream& upstream,
                  const LocalizeGradients& gradients, const Device& device);

inline int64_t workspace(const GatherProblem&, const Device&) { return 0; }
inline int64_t workspace_backward(const GatherProblem&, const GatherGradients&, const Device&) { return 0; }
void run(const GatherProblem& problem, const GatherResult& result, const Device& device);
void run_backward(const GatherProblem& problem, const GatherUpstream& upstream, const GatherGradients& gradients,
                  const Device& device);

int64_t workspace(const SimilarityProblem& problem, const Device& device);
int64_t workspace_backward(const SimilarityProblem& problem, const SimilarityGradients& gradients, const Device& device);
void run(const SimilarityProblem& problem, const SimilarityResult& result, const Device& device);
void run_backward(const SimilarityProblem& problem, const SimilarityResult& forward, const SimilarityUpstream& upstream,
                  const SimilarityGradients& gradients, const Device& device);

int64_t workspace(const MatchAllProblem& problem, const Device& device);
int64_t workspace_backward(const MatchAllProblem& problem, const MatchAllGradients& gradients, const Device& device);
void run(const MatchAllProblem& problem, const MatchAllResult& result, const Device& device);
void run_backward(const MatchAllProblem& problem, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                  const MatchAllGradients& gradients, const Device& device);

inline int64_t workspace(const PairProblem&, const Device&) { return 0; }
int64_t workspace_backward(const PairProblem& problem, const PairGradients& gradients, const Device& device);
void run(const PairProblem& problem, const PairResult& result, const Device& device);
void run_backward(const PairProblem& problem, const PairResult& forward, const PairUpstream& upstream,
                  const PairGradients& gradients, const Device& device);

int64_t workspace(const CrossEntropyProblem& problem, const Device& device);
int64_t workspace_backward(const CrossEntropyProblem& problem, const MatchGradients& gradients, const Device& device);
void run(const CrossEntropyProblem& problem, const CrossEntropyResult& result, const Device& device);
void run_backward(const CrossEntropyProblem& problem, const CrossEntropyResult& forward,
                  const CrossEntropyUpstream& upstream, const MatchGradients& gradients, const Device& device);

inline int64_t workspace(const NeighbourProblem&, const Device&) { return 0; }
inline int64_t workspace_backward(const NeighbourProblem&, const NeighbourGradients&, const Device&) { return 0; }
void run(const NeighbourProblem& problem, const NeighbourResult& result, const Device& device);
void run_backward(const NeighbourProblem& problem, const NeighbourUpstream& upstream, const NeighbourGradients& gradients,
                  const Device& device);

int64_t workspace(const UpsampledProblem& problem, const Device& device);
int64_t workspace_backward(const UpsampledProblem& problem, const UpsampledGradients& gradients, const Device& device);
void run(const UpsampledProblem& problem, const Matches& result, const Device& device);
void run_backward(const UpsampledProblem& problem, const Matches& forward, const Upstream& upstream,
                  const UpsampledGradients& gradients, const Device& device);

int64_t workspace(const CorrelationProblem& problem, const Device& device);
int64_t workspace_backward(const CorrelationProblem& problem, const CorrelationGradients& gradients, const Device& device);
void run(const CorrelationProblem& problem, const CorrelationResult& result, const Device& device);
void run_backward(const CorrelationProblem& problem, const CorrelationUpstream& upstream,
                  const CorrelationGradients& gradients, const Device& device);

}  // namespace simplematch::cuda
