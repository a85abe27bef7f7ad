// Checks of the records of a call: tensors that agree with each other, results and gradients that fit them.
//
// What is given as a reference that is not const is the library's copy of a caller's record: besides, it loses what is not
// checked because nobody may use it (strides of sides of one element, the sampling of a problem without keypoints).
#pragma once

#include "option_checks.h"

namespace simplematch::abi {

// What the parts of a problem agree on.
struct Sizes {
    int64_t batch, queries, channels, height, width;
    int32_t features;    // dtype of the features, or of the scores that a call is given
    int32_t arithmetic;  // dtype T of results
    int64_t samples = 0;  // K of local_correlation and pair_scores
};

// The members of a Rows, as messages name them.
struct RowsNames {
    const char *num_keypoints, *valid, *target_mask;
};
constexpr RowsNames kRowsNames = {"rows.num_keypoints", "rows.valid", "rows.target_mask"};
constexpr RowsNames kRowsNamesOfA = {"rows_a.num_keypoints", "rows_a.valid", "rows_a.target_mask"};
constexpr RowsNames kRowsNamesOfB = {"rows_b.num_keypoints", "rows_b.valid", "rows_b.target_mask"};

Sizes check_problem(MatchProblem& problem);
Sizes check_problem(LocalizeProblem& problem);
Sizes check_problem(GatherProblem& problem);
Sizes check_problem(SimilarityProblem& problem);
Sizes check_problem(CrossEntropyProblem& problem);
Sizes check_problem(NeighbourProblem& problem);
Sizes check_problem(UpsampledProblem& problem);  // height and width of the upsampled map
Sizes check_problem(CorrelationProblem& problem);
Sizes check_problem(MatchAllProblem& problem);  // N queries, the cells of a, and the map b
Sizes check_problem(PairProblem& problem);      // likewise

void check_result(const MatchResult& result, const MatchProblem& problem, const Sizes& sizes);
void check_result(const Matches& result, const LocalizeProblem& problem, const Sizes& sizes);
void check_result(const GatherResult& result, const GatherProblem& problem, const Sizes& sizes);
void check_result(const SimilarityResult& result, const SimilarityProblem& problem, const Sizes& sizes);
void check_result(const CrossEntropyResult& result, const CrossEntropyProblem& problem, const Sizes& sizes);
void check_result(const NeighbourResult& result, const NeighbourProblem& problem, const Sizes& sizes);
void check_result(const Matches& result, const UpsampledProblem& problem, const Sizes& sizes);
void check_result(const CorrelationResult& result, const CorrelationProblem& problem, const Sizes& sizes);
void check_result(const MatchAllResult& result, const MatchAllProblem& problem, const Sizes& sizes);
void check_result(const PairResult& result, const PairProblem& problem, const Sizes& sizes);

void check_upstream(Upstream& upstream, const Sizes& sizes);
// The covariance of the forward is there if a gradient arrives at it.
void check_covariance(const Matches& forward, const Upstream& upstream, const Sizes& sizes);
void check_upstream(GatherUpstream& upstream, const Sizes& sizes);
void check_upstream(SimilarityUpstream& upstream, const Sizes& sizes);
void check_upstream(CrossEntropyUpstream& upstream, const Sizes& sizes);
void check_upstream(NeighbourUpstream& upstream, const Sizes& sizes);
void check_upstream(CorrelationUpstream& upstream, const Sizes& sizes);
void check_upstream(MatchAllUpstream& upstream, const Sizes& sizes);
void check_upstream(PairUpstream& upstream, const Sizes& sizes);

void check_gradients(MatchGradients& wanted, const MatchProblem& problem);
void check_gradients(LocalizeGradients& wanted, const LocalizeProblem& problem);
void check_gradients(GatherGradients& wanted, const GatherProblem& problem);
void check_gradients(SimilarityGradients& wanted, const SimilarityProblem& problem);
void check_gradients(CorrelationGradients& wanted, const CorrelationProblem& problem);
void check_gradients(NeighbourGradients& wanted, const NeighbourProblem& problem);
void check_gradients(UpsampledGradients& wanted, const UpsampledProblem& problem);
void check_gradients(MatchGradients& wanted, const CrossEntropyProblem& problem);
void check_gradients(MatchAllGradients& wanted, const MatchAllProblem& problem);
void check_gradients(PairGradients& wanted, const PairProblem& problem);

// These read memory, so they serve the CPU alone; where there is nothing to check, the templates match.
void check_values(const MatchProblem& problem, const Sizes& sizes);
void check_values(const LocalizeProblem& problem, const Sizes& sizes);
void check_values(const GatherProblem& problem, const Sizes& sizes);
void check_values(const CrossEntropyProblem& problem, const Sizes& sizes);
void check_values(const UpsampledProblem& problem, const Sizes& sizes);
void check_values(const CorrelationProblem& problem, const Sizes& sizes);
void check_values(const MatchAllProblem& problem, const Sizes& sizes);
void check_values(const PairProblem& problem, const Sizes& sizes);
template <class Problem>
void check_values(const Problem&, const Sizes&) {}

// What the backward goes by, as the forward wrote it.
void check_forward(const MatchResult& forward, const MatchProblem& problem, const Sizes& sizes);
void check_forward(const Matches& forward, const LocalizeProblem& problem, const Sizes& sizes);
void check_forward(const Matches& forward, const UpsampledProblem& problem, const Sizes& sizes);
void check_forward(const CrossEntropyResult& forward, const CrossEntropyProblem& problem, const Sizes& sizes);
void check_forward(const MatchAllResult& forward, const MatchAllProblem& problem, const Sizes& sizes);
template <class Forward, class Problem>
void check_forward(const Forward&, const Problem&, const Sizes&) {}

}  // namespace simplematch::abi
