// The operators on the CPU, of checked arguments. `threads` 0: as many as OpenMP gives.
//
// Every element of every result and gradient is written. Results do not depend on the number of threads.
#pragma once

#include "common/records.h"

namespace simplematch::cpu {

void run(const MatchProblem& problem, const MatchResult& result, int threads);
void run_backward(const MatchProblem& problem, const MatchResult& forward, const Upstream& upstream,
                  const MatchGradients& gradients, int threads);

void run(const LocalizeProblem& problem, const Matches& result, int threads);
void run_backward(const LocalizeProblem& problem, const Matches& forward, const Upstream& upstream,
                  const LocalizeGradients& gradients, int threads);

void run(const GatherProblem& problem, const GatherResult& result, int threads);
void run_backward(const GatherProblem& problem, const GatherUpstream& upstream, const GatherGradients& gradients,
                  int threads);

void run(const SimilarityProblem& problem, const SimilarityResult& result, int threads);
void run_backward(const SimilarityProblem& problem, const SimilarityResult& forward, const SimilarityUpstream& upstream,
                  const SimilarityGradients& gradients, int threads);

void run(const MatchAllProblem& problem, const MatchAllResult& result, int threads);
void run_backward(const MatchAllProblem& problem, const MatchAllResult& forward, const MatchAllUpstream& upstream,
                  const MatchAllGradients& gradients, int threads);

void run(const PairProblem& problem, const PairResult& result, int threads);
void run_backward(const PairProblem& problem, const PairResult& forward, const PairUpstream& upstream,
                  const PairGradients& gradients, int threads);

void run(const CrossEntropyProblem& problem, const CrossEntropyResult& result, int threads);
void run_backward(const CrossEntropyProblem& problem, const CrossEntropyResult& forward,
                  const CrossEntropyUpstream& upstream, const MatchGradients& gradients, int threads);

void run(const NeighbourProblem& problem, const NeighbourResult& result, int threads);
void run_backward(const NeighbourProblem& problem, const NeighbourUpstream& upstream,
                  const NeighbourGradients& gradients, int threads);

void run(const UpsampledProblem& problem, const Matches& result, int threads);
void run_backward(const UpsampledProblem& problem, const Matches& forward, const Upstream& upstream,
                  const UpsampledGradients& gradients, int threads);

void run(const CorrelationProblem& problem, const CorrelationResult& result, int threads);
void run_backward(const CorrelationProblem& problem, const CorrelationUpstream& upstream,
                  const CorrelationGradients& gradients, int threads);

// The instructions in use, as simplematch_simd_level() says.
const char* simd_level();

}  // namespace simplematch::cpu
