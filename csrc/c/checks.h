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
    int64_t samples = 0;  // K of local_correlation
};

Sizes check_problem(MatchProblem& problem);
Sizes check_problem(LocalizeProblem& problem);
Sizes check_problem(GatherProblem& problem);
Sizes check_problem(SimilarityProblem& problem);
Sizes check_problem(CrossEntropyProblem& problem);
Sizes check_problem(NeighbourProblem& problem);
Sizes check_problem(UpsampledProblem& problem);  // height and width of the upsampled map
Sizes check_problem(CorrelationProblem& problem);

void check_result(const MatchResult& result, const MatchProblem& problem, const Sizes& sizes);
void check_result(const Matches& result, const LocalizeProblem& problem, const Sizes& sizes);
void check_result(const GatherResult& result, const GatherProblem& problem, const Sizes& sizes);
void check_result(const SimilarityResult& result, const SimilarityProblem& problem, const Sizes& sizes);
void check_result(const CrossEntropyResult& result, const CrossEntropyProblem& problem, const Sizes& sizes);
void check_result(const NeighbourResult& result, const NeighbourProblem& problem, const Sizes& sizes);
void check_result(const Matches& result, const UpsampledProblem& problem, const Sizes& sizes);
void check_result(const CorrelationResult& result, const CorrelationProblem& problem, const Sizes& sizes);

void check_upstream(Upstream& upstream, const Sizes& sizes);
// The covariance of the forward is there if a gradient arrives at it.
void check_covariance(const Matches& forward, const Upstream& upstream, const Sizes& sizes);
void check_upstream(GatherUpstream& upstream, const Sizes& sizes);
void check_upstream(SimilarityUpstream& upstream, const Sizes& sizes);
void check_upstream(CrossEntropyUpstream& upstream, const Sizes& sizes);
void check_upstream(NeighbourUpstream& upstream, const Sizes& sizes);
void check_upstream(CorrelationUpstream& upstream, const Sizes& sizes);

void check_gradients(MatchGradients& wanted, const MatchProblem& problem);
void check_gradients(LocalizeGradients& wanted, const LocalizeProblem& problem);
void check_gradients(GatherGradients& wanted, const GatherProblem& problem);
void check_gradients(SimilarityGradients& wanted, const SimilarityProblem& problem);
void check_gradients(CorrelationGradients& wanted, const CorrelationProblem& problem);
void check_gradients(NeighbourGradients& wanted, const NeighbourProblem& problem);
void check_gradients(UpsampledGradients& wanted, const UpsampledProblem& problem);
void check_gradients(MatchGradients& wanted, const CrossEntropyProblem& problem);

// A gradient that arrives.
void check_arriving(const char* name, View& gradient, const char* shape, std::initializer_list<int64_t> size, int32_t dtype);
// A gradient to compute, of an input that must be given if the gradient is.
void check_gradient(const char* name, View& gradient, const char* input_name, const View& input, int dimensions);

Sizes check_problem(MatchAllProblem& problem);
void check_result(const MatchAllResult& result, const MatchAllProblem& problem, const Sizes& sizes);
void check_upstream(MatchAllUpstream& upstream, const Sizes& sizes);
void check_gradients(MatchAllGradients& wanted, const MatchAllProblem& problem);

// These read memory, so they serve the CPU alone.
void check_values(const MatchAllProblem& problem, const Sizes& sizes);
void check_forward(const MatchAllResult& forward, const MatchAllProblem& problem, const Sizes& sizes);
void check_counts(const Rows& rows, const Sizes& sizes);
void check_image_sizes(const char* name, const int64_t* sizes, int64_t batch);
// The peaks of the rows that count lie in the map: the backward goes by them.
void check_peaks(const Matches& forward, const Rows& rows, const Sizes& sizes);
// So do the nearest cells, or are -1.
void check_true_cells(const CrossEntropyResult& forward, const Sizes& sizes);

}  // namespace simplematch::abi
