// From the structs of the C interface, after their checks, to those of the kernels.
#pragma once

#include "simplematch/cpu.h"
#include "simplematch/simplematch.h"
#include "tensor_checks.h"

namespace simplematch::abi {

// The arguments of gather_keypoints and its backward.
struct GatherProblem {
    View features, keypoints;
    Sampling sampling;
};

inline View view_of(const simplematch_tensor& t) {
    View v;
    v.data = t.data;
    v.dtype = static_cast<DType>(t.dtype);
    for (int i = 0; i < 4; ++i) {
        v.size[i] = t.size[i];
        // No step is ever taken along a side of one element: a stride that was not checked there must not be multiplied.
        const bool checked = t.stride[i] >= -kFarthest && t.stride[i] <= kFarthest;
        v.stride[i] = checked ? t.stride[i] : 0;
    }
    return v;
}

// The address of what must be there: with no elements it may have come without one, which to the kernels is "not given".
inline void* address_of(void* data) {
    static double nothing;
    return data == nullptr ? &nothing : data;
}

inline View required_view_of(const simplematch_tensor& t) {
    View v = view_of(t);
    v.data = address_of(v.data);
    return v;
}

inline Rows rows_of(const simplematch_rows& r) { return {r.num_keypoints, r.valid, r.target_mask}; }

inline AffineMap affine_of(const simplematch_affine& a) { return {a.numerator, a.shift, a.denominator}; }

inline Sampling sampling_of(const simplematch_sampling& s) {
    return {affine_of(s.to_cells_x), affine_of(s.to_cells_y), static_cast<SamplingMode>(s.mode), s.border != 0};
}

inline Metric metric_of(const simplematch_metric& m) {
    return {static_cast<MetricKind>(m.kind), m.eps, m.clamp_eps != 0};
}

inline Localization localization_of(const simplematch_localization& l) {
    const simplematch_window& w = l.window;
    return {{w.height, w.width, w.shift != 0, w.disc != 0, w.outside_value, w.sigma},
            l.temperature, affine_of(l.from_cells_x), affine_of(l.from_cells_y), l.output_offset};
}

inline MatchProblem problem_of(const simplematch_match_problem& p) {
    MatchProblem problem;
    problem.source = required_view_of(p.source);
    problem.keypoints = view_of(p.keypoints);
    problem.target = required_view_of(p.target);
    problem.rows = rows_of(p.rows);
    problem.temperature = view_of(p.temperature);
    if (p.keypoints.data != nullptr) problem.sampling = sampling_of(p.sampling);
    problem.metric = metric_of(p.metric);
    problem.localization = localization_of(p.localization);
    problem.kept_queries = p.kept_queries;
    problem.score_budget = p.score_budget;
    return problem;
}

inline LocalizeProblem problem_of(const simplematch_localize_problem& p) {
    LocalizeProblem problem;
    problem.scores = required_view_of(p.scores);
    problem.rows = rows_of(p.rows);
    problem.temperature = view_of(p.temperature);
    problem.localization = localization_of(p.localization);
    return problem;
}

inline GatherProblem problem_of(const simplematch_gather_problem& p) {
    return {required_view_of(p.features), required_view_of(p.keypoints), sampling_of(p.sampling)};
}

inline SimilarityProblem problem_of(const simplematch_similarity_problem& p) {
    SimilarityProblem problem;
    problem.descriptors = required_view_of(p.descriptors);
    problem.target = required_view_of(p.target);
    problem.metric = metric_of(p.metric);
    problem.score_budget = p.score_budget;
    return problem;
}

inline Matches matches_of(const simplematch_matches& m) {
    return {address_of(m.keypoints), address_of(m.score), static_cast<int64_t*>(address_of(m.peak)),
            address_of(m.log_sum_exp)};
}

inline ForwardResult result_of(const simplematch_match_result& r) {
    return {matches_of(r.matches), address_of(r.target_norm), address_of(r.window_scores)};
}

inline Upstream upstream_of(const simplematch_upstream& u) {
    return {view_of(u.keypoints), view_of(u.score), view_of(u.log_sum_exp)};
}

inline MatchGradients gradients_of(const simplematch_match_gradients& g) {
    return {view_of(g.source), view_of(g.keypoints), view_of(g.target), view_of(g.temperature)};
}

}  // namespace simplematch::abi
