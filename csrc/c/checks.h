// Checks of whole problems: tensors that agree with each other, results and gradients that fit them.
#pragma once

#include "option_checks.h"

namespace simplematch::abi {

// What the parts of a problem agree on.
struct Sizes {
    int64_t batch, queries, channels, height, width;
    int32_t arithmetic;  // dtype T of results
};

Sizes check_problem(const simplematch_match_problem& problem);
Sizes check_problem(const simplematch_localize_problem& problem);
Sizes check_problem(const simplematch_gather_problem& problem);
Sizes check_problem(const simplematch_similarity_problem& problem);

void check_matches(const simplematch_matches& matches, const Sizes& sizes);
void check_result(const simplematch_match_result& result, const simplematch_match_problem& problem, const Sizes& sizes);
void check_scores(const void* scores, const void* target_norm, const Sizes& sizes);
void check_descriptors(const void* descriptors, const simplematch_gather_problem& problem, const Sizes& sizes);

void check_upstream(const simplematch_upstream& upstream, const Sizes& sizes);
// A gradient that arrives.
void check_arriving(const simplematch_tensor& gradient, const char* shape, std::initializer_list<int64_t> size, int32_t dtype);
// A gradient to compute, of an input that must be given if the gradient is.
void check_gradient(const char* name, const simplematch_tensor& gradient, const char* input_name,
                    const simplematch_tensor& input, int dimensions);

// These read memory, so they serve the CPU alone.
void check_counts(const simplematch_rows& rows, const Sizes& sizes);
// The peaks of the rows that count lie in the map: the backward goes by them.
void check_peaks(const simplematch_matches& forward, const simplematch_rows& rows, const Sizes& sizes);

}  // namespace simplematch::abi
