// Checks of problems: the tensors that a call reads, and its options.
#include <cinttypes>

#include "checks.h"
#include "common/defaults.h"

namespace simplematch::abi {
namespace {

// Of the cells of a map, or of rows: numbers of 32 bits count them, up to a step past the last.
constexpr int64_t kMostCells = int64_t(1) << 30;

void check_count(const char* name, const char* what, int64_t count) {
    if (count > kMostCells) refuse("%s must have at most 2^30 %s, got %" PRId64, name, what, count);
}

void check_map(const char* name, View& map) {
    check_required(name, map, "(B, C, H, W)", 4);
    if (map.size[1] == 0 || map.size[2] == 0 || map.size[3] == 0)
        refuse("%s must have at least one channel and one cell, got C = %" PRId64 ", H = %" PRId64 ", W = %" PRId64, name,
               map.size[1], map.size[2], map.size[3]);
    check_count(name, "cells", cells_of(map));
}

// (B, C, 1, N)
void check_descriptor_map(const char* name, View& map) {
    check_required(name, map, "(B, C, 1, N)", 4);
    if (map.size[2] != 1)
        refuse("%s must have shape (B, C, 1, N) where no keypoints are given, got H = %" PRId64, name, map.size[2]);
}

void check_keypoints(const char* name, View& keypoints, const char* map_name, int64_t batch) {
    check_required(name, keypoints, "(B, N, 2)", 3);
    check_dtype(name, keypoints, {SIMPLEMATCH_FLOAT32, SIMPLEMATCH_FLOAT64});
    check_equal(name, "batch size", keypoints.size[0], map_name, batch);
    if (keypoints.size[2] != 2)
        refuse("%s must have shape (B, N, 2), got a last size of %" PRId64, name, keypoints.size[2]);
}

// Descriptors or the map that keypoints read, beside the target.
void check_pair(const char* name, const View& map, const View& target) {
    check_dtype(name, map, {target.dtype});
    check_equal(name, "batch size", map.size[0], "target", target.size[0]);
    check_equal(name, "number of channels", map.size[1], "target", target.size[1]);
}

void check_query_count(const char* name, const Sizes& s) {
    if (bounded_product({s.batch, s.queries, s.channels}) > kMostElements)
        refuse("%s must have at most 2^40 descriptor elements B * N * C, got B = %" PRId64 ", N = %" PRId64 ", C = %" PRId64,
               name, s.batch, s.queries, s.channels);
    check_count(name, "rows", s.queries);
}

void check_temperature(View& temperature, const Sizes& s) {
    check_optional("temperature", temperature, "(B, N)", {s.batch, s.queries}, s.arithmetic);
}

void check_row_arrays(const RowsNames& names, const Rows& rows, int64_t batch, int64_t count) {
    check_optional_array(names.num_keypoints, rows.num_keypoints, {batch}, sizeof(int64_t));
    check_optional_array(names.valid, rows.valid, {batch, count}, 1);
}

void check_rows(const Rows& rows, const Sizes& s) {
    check_row_arrays(kRowsNames, rows, s.batch, s.queries);
    check_optional_array(kRowsNames.target_mask, rows.target_mask, {s.batch, s.height, s.width}, 1);
    const int64_t cells = s.height * s.width, stride = rows.target_mask_stride;
    if (rows.target_mask == nullptr || stride == 0) return;
    if (stride < cells)
        refuse("rows.target_mask_stride must be 0 (one mask an image) or at least %" PRId64 ", the cells of a map, got %" PRId64,
               cells, stride);
    check_optional_array(kRowsNames.target_mask, rows.target_mask, {s.batch, s.queries, stride}, 1);
}

void check_rows_without_mask(const RowsNames& names, const Rows& rows, int64_t batch, int64_t count) {
    check_row_arrays(names, rows, batch, count);
    if (rows.target_mask != nullptr) refuse("%s must be NULL, got an address; `valid` selects rows", names.target_mask);
}

// Of scores that a call is given.
void check_cells_of_scores(const View& scores, const char* height, const char* width) {
    if (scores.size[2] == 0 || scores.size[3] == 0)
        refuse("scores must have at least one cell, got %s = %" PRId64 ", %s = %" PRId64, height, scores.size[2], width,
               scores.size[3]);
    check_count("scores", "rows", scores.size[1]);
    check_count("scores", "cells", cells_of(scores));
}

void check_set(const char* name, View& set) {
    check_required(name, set, "(B, C, H, W)", 4);
    if (set.size[1] == 0) refuse("%s must have at least one channel, got C = 0", name);
    check_count(name, "cells", cells_of(set));
}

// N queries, the cells of a, and the map b.
Sizes check_sets(View& a, View& b) {
    check_set("a", a);
    check_set("b", b);
    check_dtype("a", a, {b.dtype});
    check_equal("a", "batch size", a.size[0], "b", b.size[0]);
    check_equal("a", "number of channels", a.size[1], "b", b.size[1]);
    return {a.size[0], cells_of(a), a.size[1], b.size[2], b.size[3], a.dtype, arithmetic_of(a.dtype)};
}

// Of a window; more samples than that are no window of any map.
void check_radius(const char* name, int64_t radius) {
    constexpr int64_t most = int64_t(1) << 20;
    if (radius < 0 || radius > most) refuse("%s must be from 0 to %" PRId64 " cells, got %" PRId64, name, most, radius);
}

// What MatchProblem and CrossEntropyProblem share: maps, keypoints and restrictions.
template <class Problem>
Sizes check_queries(Problem& p) {
    check_map("target", p.target);
    const bool sampled = is_given(p.keypoints);
    if (sampled) {
        check_map("source", p.source);
    } else {
        check_descriptor_map("source", p.source);
    }
    check_pair("source", p.source, p.target);
    if (sampled) {
        check_keypoints("keypoints", p.keypoints, "source", p.source.size[0]);
        check_sampling(p.sampling, p.source.size[0]);
    } else {
        p.sampling = kDefault<Sampling>;
    }
    const Sizes s{p.target.size[0], queries_of(p), p.target.size[1], p.target.size[2], p.target.size[3], p.target.dtype,
                  arithmetic_of(p.target.dtype)};
    check_query_count(sampled ? "keypoints" : "source", s);
    check_temperature(p.temperature, s);
    check_rows(p.rows, s);
    check_metric(p.metric);
    check_score_budget(p.score_budget);
    return s;
}

}  // namespace

Sizes check_problem(MatchProblem& p) {
    const Sizes s = check_queries(p);
    check_localization(p.localization, s.batch, !is_given(p.temperature));
    if (p.kept_queries < 0 || p.kept_queries > s.queries)
        refuse("kept_queries must be from 0 to N = %" PRId64 ", got %" PRId64, s.queries, p.kept_queries);
    return s;
}

Sizes check_problem(CrossEntropyProblem& p) {
    const Sizes s = check_queries(p);
    check_keypoints("target_keypoints", p.target_keypoints, "target", s.batch);
    check_equal("target_keypoints", "number of rows", p.target_keypoints.size[1], "keypoints", s.queries);
    check_truth(p.truth, !is_given(p.temperature));
    return s;
}

Sizes check_problem(LocalizeProblem& p) {
    check_required("scores", p.scores, "(B, N, H, W)", 4);
    check_cells_of_scores(p.scores, "H", "W");
    const Sizes s{p.scores.size[0], p.scores.size[1], 1, p.scores.size[2], p.scores.size[3], p.scores.dtype,
                  arithmetic_of(p.scores.dtype)};
    check_temperature(p.temperature, s);
    check_rows(p.rows, s);
    check_localization(p.localization, s.batch, !is_given(p.temperature));
    return s;
}

Sizes check_problem(GatherProblem& p) {
    check_map("features", p.features);
    check_keypoints("keypoints", p.keypoints, "features", p.features.size[0]);
    check_sampling(p.sampling, p.features.size[0]);
    const Sizes s{p.features.size[0], p.keypoints.size[1], p.features.size[1], p.features.size[2], p.features.size[3],
                  p.features.dtype, arithmetic_of(p.features.dtype)};
    check_query_count("keypoints", s);
    return s;
}

Sizes check_problem(SimilarityProblem& p) {
    check_map("target", p.target);
    check_descriptor_map("descriptors", p.descriptors);
    check_pair("descriptors", p.descriptors, p.target);
    check_count("descriptors", "rows", p.descriptors.size[3]);
    check_metric(p.metric);
    check_score_budget(p.score_budget);
    return {p.target.size[0], p.descriptors.size[3], p.target.size[1], p.target.size[2], p.target.size[3],
            p.target.dtype, arithmetic_of(p.target.dtype)};
}

Sizes check_problem(NeighbourProblem& p) {
    check_map("features", p.features);
    return {p.features.size[0], 0, p.features.size[1], p.features.size[2], p.features.size[3], p.features.dtype,
            arithmetic_of(p.features.dtype)};
}

Sizes check_problem(UpsampledProblem& p) {
    check_required("scores", p.scores, "(B, N, h, w)", 4);
    check_cells_of_scores(p.scores, "h", "w");
    if (p.height < 1 || p.width < 1)
        refuse("height and width must be at least 1, got %" PRId64 " and %" PRId64, p.height, p.width);
    if (bounded_product({p.height, p.width}) > kMostCells)
        refuse("height and width must make at most 2^30 cells, got %" PRId64 " x %" PRId64, p.height, p.width);
    if (bounded_product({p.scores.size[0], p.height, p.width}) > kMostElements)
        refuse("height and width must make at most 2^40 cells, got %" PRId64 " x %" PRId64 " for B = %" PRId64, p.height,
               p.width, p.scores.size[0]);
    const Sizes s{p.scores.size[0], p.scores.size[1], 1, p.height, p.width, p.scores.dtype,
                  arithmetic_of(p.scores.dtype)};
    check_metric(p.metric);
    if (p.metric.kind == SIMPLEMATCH_L1)
        refuse("metric.kind must be 0 (cosine), 1 (dot) or 2 (l2) for localize_upsampled, whose scores are made of products, "
               "got 3 (l1)");
    if (p.metric.kind == SIMPLEMATCH_DOT) {
        p.products = nullptr;
    } else {
        check_array("products", p.products, {s.batch, 5, p.scores.size[2], p.scores.size[3]}, sizeof(double));
    }
    check_temperature(p.temperature, s);
    check_rows(p.rows, s);
    check_localization(p.localization, s.batch, !is_given(p.temperature));
    check_score_budget(p.score_budget);
    return s;
}

Sizes check_problem(CorrelationProblem& p) {
    check_map("target", p.target);
    check_required("queries", p.queries, "(B, C, Hq, Wq)", 4);
    check_pair("queries", p.queries, p.target);
    check_count("queries", "rows", queries_of(p));
    check_keypoints("coords", p.coords, "target", p.target.size[0]);
    Sizes s{p.target.size[0], queries_of(p), p.target.size[1], p.target.size[2], p.target.size[3], p.target.dtype,
            arithmetic_of(p.target.dtype)};
    if (p.coords.size[1] != s.queries)
        refuse("coords must have one point for each of the %" PRId64 " queries, got %" PRId64, s.queries, p.coords.size[1]);
    if (is_given(p.offsets)) {
        check_tensor("offsets", p.offsets, "(B, K, 2)", 3);
        check_dtype("offsets", p.offsets, {SIMPLEMATCH_FLOAT32, SIMPLEMATCH_FLOAT64});
        check_shape("offsets", p.offsets, "(B, K, 2)", {s.batch, p.offsets.size[1], 2});
        if (p.offsets.size[1] == 0) refuse("offsets must have at least one sample, got K = 0");
    }
    check_radius("radius_y", p.radius_y);
    check_radius("radius_x", p.radius_x);
    check_rows_without_mask(kRowsNames, p.rows, s.batch, s.queries);
    check_sampling(p.sampling, s.batch);
    if (p.sampling.image_sizes != nullptr) refuse("sampling.image_sizes must be NULL for local_correlation, got an address");
    if (p.sampling.mode == SIMPLEMATCH_FLOOR)
        refuse("sampling.mode must be 1 (round) or 2 (bilinear) for local_correlation, got 0 (floor)");
    check_metric(p.metric);
    if (p.metric.kind > SIMPLEMATCH_DOT)
        refuse("metric.kind must be 0 (cosine) or 1 (dot) for local_correlation, got %" PRId32, p.metric.kind);
    if (p.scale - p.scale != 0) refuse("scale must be a finite number, got %g", p.scale);
    s.samples = samples_of(p);
    return s;
}

Sizes check_problem(MatchAllProblem& p) {
    const Sizes s = check_sets(p.a, p.b);
    check_optional("temperature", p.temperature, "(B,)", {s.batch}, s.arithmetic);
    check_optional("bin_score", p.bin_score, "(B,)", {s.batch}, s.arithmetic);
    check_rows_without_mask(kRowsNamesOfA, p.rows_a, s.batch, s.queries);
    check_rows_without_mask(kRowsNamesOfB, p.rows_b, s.batch, cells_of(p.b));
    check_metric(p.metric);
    if (!is_given(p.temperature) && !(p.fixed_temperature > 0 && p.fixed_temperature - p.fixed_temperature == 0))
        refuse("fixed_temperature must be a finite number above 0, got %g", p.fixed_temperature);
    if (!is_given(p.bin_score) && !(p.fixed_bin_score < __builtin_huge_val()))
        refuse("fixed_bin_score must be a finite number or -INFINITY, got %g", p.fixed_bin_score);
    check_score_budget(p.score_budget);
    return s;
}

Sizes check_problem(PairProblem& p) {
    Sizes s = check_sets(p.a, p.b);
    if (p.pairs < 0 || p.pairs > kMostCells) refuse("pairs must be from 0 to 2^30, got %" PRId64, p.pairs);
    check_array("index_a", p.index_a, {s.batch, p.pairs}, sizeof(int64_t));
    check_array("index_b", p.index_b, {s.batch, p.pairs}, sizeof(int64_t));
    check_metric(p.metric);
    s.samples = p.pairs;
    return s;
}

}  // namespace simplematch::abi
