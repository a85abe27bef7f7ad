#include "checks.h"

#include <algorithm>
#include <cinttypes>

#include "common/defaults.h"
#include "common/window.h"

namespace simplematch::abi {
namespace {

void check_map(const char* name, View& map) {
    check_required(name, map, "(B, C, H, W)", 4);
    if (map.size[1] == 0 || map.size[2] == 0 || map.size[3] == 0)
        refuse("%s must have at least one channel and one cell, got C = %" PRId64 ", H = %" PRId64 ", W = %" PRId64, name,
               map.size[1], map.size[2], map.size[3]);
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

void check_query_count(const Sizes& s) {
    if (bounded_product({s.batch, s.queries, s.channels}) > kMostElements)
        refuse("keypoints must have at most 2^40 descriptor elements B * N * C, got B = %" PRId64 ", N = %" PRId64
               ", C = %" PRId64, s.batch, s.queries, s.channels);
}

void check_temperature(View& temperature, const Sizes& s) {
    if (!is_given(temperature)) return;
    check_tensor("temperature", temperature, "(B, N)", 2);
    check_dtype("temperature", temperature, {s.arithmetic});
    check_shape("temperature", temperature, "(B, N)", {s.batch, s.queries});
}

void check_rows(const Rows& rows, const Sizes& s) {
    check_optional_array("rows.num_keypoints", rows.num_keypoints, {s.batch}, sizeof(int64_t));
    check_optional_array("rows.valid", rows.valid, {s.batch, s.queries}, 1);
    check_optional_array("rows.target_mask", rows.target_mask, {s.batch, s.height, s.width}, 1);
}

void check_matches(const Matches& m, const Sizes& s) {
    const int64_t item = item_size(s.arithmetic);
    check_array("matches.keypoints", m.keypoints, {s.batch, s.queries, 2}, item);
    check_array("matches.score", m.score, {s.batch, s.queries}, item);
    check_array("matches.peak", m.peak, {s.batch, s.queries}, sizeof(int64_t));
    check_array("matches.log_sum_exp", m.log_sum_exp, {s.batch, s.queries}, item);
    check_optional_array("matches.covariance", m.covariance, {s.batch, s.queries, 2, 2}, item);
    check_optional_array("matches.second_score", m.second_score, {s.batch, s.queries}, item);
    check_optional_array("matches.second_peak", m.second_peak, {s.batch, s.queries}, sizeof(int64_t));
    if (m.second_peak != nullptr) check_array("matches.second_score", m.second_score, {s.batch, s.queries}, item);
    if (m.second_score != nullptr) check_array("matches.second_peak", m.second_peak, {s.batch, s.queries}, sizeof(int64_t));
}

// Of a window; more samples than that are no window of any map.
void check_radius(const char* name, int64_t radius) {
    constexpr int64_t most = int64_t(1) << 20;
    if (radius < 0 || radius > most) refuse("%s must be from 0 to %" PRId64 " cells, got %" PRId64, name, most, radius);
}

}  // namespace

void check_arriving(const char* name, View& gradient, const char* shape, std::initializer_list<int64_t> size,
                    int32_t dtype) {
    check_required(name, gradient, shape, int(size.size()));
    check_dtype(name, gradient, {dtype});
    check_shape(name, gradient, shape, size);
}

void check_gradient(const char* name, View& gradient, const char* input_name, const View& input, int dimensions) {
    if (!is_given(gradient)) return;
    if (!is_given(input) && dimensions < 4)  // maps are always given; an empty one may have no address
        refuse("%s must not be asked for where %s is not given, got an address", name, input_name);
    check_tensor(name, gradient, "of its input", dimensions);
    check_dtype(name, gradient, {input.dtype});
    for (int i = 0; i < 4; ++i)
        if (gradient.size[i] != input.size[i])
            refuse("%s must have the shape of %s, got size %" PRId64 " instead of %" PRId64 " in dimension %d", name,
                   input_name, gradient.size[i], input.size[i], i);
    check_distinct(name, gradient);
}

namespace {

// Whether image b has a cell to select.
bool any_cell(const Rows& rows, const Sizes& s, int64_t b) {
    if (rows.target_mask == nullptr) return true;
    const int64_t cells = s.height * s.width;
    const uint8_t* const mask = rows.target_mask + b * cells;
    return std::any_of(mask, mask + cells, [](uint8_t cell) { return cell != 0; });
}

}  // namespace

namespace {

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
    check_query_count(s);
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
    if (p.scores.size[2] == 0 || p.scores.size[3] == 0)
        refuse("scores must have at least one cell, got H = %" PRId64 ", W = %" PRId64, p.scores.size[2], p.scores.size[3]);
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
    check_query_count(s);
    return s;
}

Sizes check_problem(SimilarityProblem& p) {
    check_map("target", p.target);
    check_descriptor_map("descriptors", p.descriptors);
    check_pair("descriptors", p.descriptors, p.target);
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
    if (p.scores.size[2] == 0 || p.scores.size[3] == 0)
        refuse("scores must have at least one cell, got h = %" PRId64 ", w = %" PRId64, p.scores.size[2], p.scores.size[3]);
    if (p.height < 1 || p.width < 1)
        refuse("height and width must be at least 1, got %" PRId64 " and %" PRId64, p.height, p.width);
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
    return s;
}

Sizes check_problem(CorrelationProblem& p) {
    check_map("target", p.target);
    check_required("queries", p.queries, "(B, C, Hq, Wq)", 4);
    check_pair("queries", p.queries, p.target);
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
    check_rows(p.rows, s);
    if (p.rows.target_mask != nullptr) refuse("rows.target_mask must be NULL for local_correlation, got an address");
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

void check_result(const MatchResult& result, const MatchProblem& p, const Sizes& s) {
    check_matches(result.matches, s);
    const int64_t item = item_size(s.arithmetic);
    check_array("target_norm", result.target_norm, {s.batch, s.height, s.width}, item);
    const Window& window = p.localization.window;
    check_array("window_scores", result.window_scores,
                {s.batch, p.kept_queries, box_rows(window, s.height), box_columns(window, s.width)}, item);
}

void check_result(const Matches& result, const LocalizeProblem&, const Sizes& s) { check_matches(result, s); }

void check_result(const GatherResult& result, const GatherProblem&, const Sizes& s) {
    check_array("descriptors", result.descriptors, {s.batch, s.queries, s.channels}, item_size(s.features));
}

void check_result(const SimilarityResult& result, const SimilarityProblem&, const Sizes& s) {
    check_array("scores", result.scores, {s.batch, s.queries, s.height, s.width}, item_size(s.arithmetic));
    check_array("target_norm", result.target_norm, {s.batch, s.height, s.width}, item_size(s.arithmetic));
}

void check_result(const CrossEntropyResult& result, const CrossEntropyProblem&, const Sizes& s) {
    check_array("loss", result.loss, {s.batch, s.queries}, item_size(s.arithmetic));
    check_array("cell", result.cell, {s.batch, s.queries}, sizeof(int64_t));
    check_array("target_norm", result.target_norm, {s.batch, s.height, s.width}, item_size(s.arithmetic));
}

void check_result(const NeighbourResult& result, const NeighbourProblem&, const Sizes& s) {
    check_array("products", result.products, {s.batch, 5, s.height, s.width}, sizeof(double));
}

void check_result(const Matches& result, const UpsampledProblem&, const Sizes& s) {
    check_matches(result, s);
    if (result.covariance != nullptr || result.second_score != nullptr || result.second_peak != nullptr)
        refuse("covariance, second_score and second_peak must be NULL for localize_upsampled, got an address");
}

void check_result(const CorrelationResult& result, const CorrelationProblem&, const Sizes& s) {
    check_array("correlation", result.correlation, {s.batch, s.queries, s.samples}, item_size(s.arithmetic));
}

void check_upstream(Upstream& upstream, const Sizes& s) {
    const auto check = [&](const char* name, View& t, const char* shape, std::initializer_list<int64_t> size) {
        if (is_given(t)) check_arriving(name, t, shape, size, s.arithmetic);
    };
    check("upstream.keypoints", upstream.keypoints, "(B, N, 2)", {s.batch, s.queries, 2});
    check("upstream.score", upstream.score, "(B, N)", {s.batch, s.queries});
    check("upstream.log_sum_exp", upstream.log_sum_exp, "(B, N)", {s.batch, s.queries});
    check("upstream.covariance", upstream.covariance, "(B, N, 2, 2)", {s.batch, s.queries, 2, 2});
}

void check_covariance(const Matches& forward, const Upstream& upstream, const Sizes& s) {
    if (is_given(upstream.covariance))
        check_array("matches.covariance", forward.covariance, {s.batch, s.queries, 2, 2}, item_size(s.arithmetic));
}

void check_upstream(GatherUpstream& upstream, const Sizes& s) {
    check_arriving("upstream.descriptors", upstream.descriptors, "(B, N, C)", {s.batch, s.queries, s.channels}, s.features);
}

void check_upstream(SimilarityUpstream& upstream, const Sizes& s) {
    check_arriving("upstream.scores", upstream.scores, "(B, N, H, W)", {s.batch, s.queries, s.height, s.width}, s.arithmetic);
}

void check_upstream(CrossEntropyUpstream& upstream, const Sizes& s) {
    check_arriving("upstream.loss", upstream.loss, "(B, N)", {s.batch, s.queries}, s.arithmetic);
}

void check_upstream(NeighbourUpstream& upstream, const Sizes& s) {
    check_array("upstream.products", upstream.products, {s.batch, 5, s.height, s.width}, sizeof(double));
}

void check_upstream(CorrelationUpstream& upstream, const Sizes& s) {
    check_arriving("upstream.correlation", upstream.correlation, "(B, N, K)", {s.batch, s.queries, s.samples}, s.arithmetic);
}

namespace {

template <class Problem>
void check_match_gradients(MatchGradients& wanted, const Problem& p) {
    check_gradient("gradients.source", wanted.source, "source", p.source, 4);
    check_gradient("gradients.keypoints", wanted.keypoints, "keypoints", p.keypoints, 3);
    check_gradient("gradients.target", wanted.target, "target", p.target, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 2);
}

}  // namespace

void check_gradients(MatchGradients& wanted, const MatchProblem& p) { check_match_gradients(wanted, p); }

void check_gradients(MatchGradients& wanted, const CrossEntropyProblem& p) { check_match_gradients(wanted, p); }

void check_gradients(LocalizeGradients& wanted, const LocalizeProblem& p) {
    check_gradient("gradients.scores", wanted.scores, "scores", p.scores, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 2);
}

void check_gradients(GatherGradients& wanted, const GatherProblem& p) {
    check_gradient("gradients.features", wanted.features, "features", p.features, 4);
    check_gradient("gradients.keypoints", wanted.keypoints, "keypoints", p.keypoints, 3);
}

void check_gradients(SimilarityGradients& wanted, const SimilarityProblem& p) {
    check_gradient("gradients.descriptors", wanted.descriptors, "descriptors", p.descriptors, 4);
    check_gradient("gradients.target", wanted.target, "target", p.target, 4);
}

void check_gradients(NeighbourGradients& wanted, const NeighbourProblem& p) {
    check_gradient("gradients.features", wanted.features, "features", p.features, 4);
}

void check_gradients(UpsampledGradients& wanted, const UpsampledProblem& p) {
    check_gradient("gradients.scores", wanted.scores, "scores", p.scores, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 2);
    if (wanted.products == nullptr) return;
    if (p.metric.kind == SIMPLEMATCH_DOT)
        refuse("gradients.products must be NULL for metric %d (dot), got an address", SIMPLEMATCH_DOT);
    const View& s = p.scores;
    check_array("gradients.products", wanted.products, {s.size[0], 5, s.size[2], s.size[3]}, sizeof(double));
}

void check_gradients(CorrelationGradients& wanted, const CorrelationProblem& p) {
    check_gradient("gradients.queries", wanted.queries, "queries", p.queries, 4);
    check_gradient("gradients.target", wanted.target, "target", p.target, 4);
    check_gradient("gradients.coords", wanted.coords, "coords", p.coords, 3);
}

void check_counts(const Rows& rows, const Sizes& s) {
    for (int64_t b = 0; rows.num_keypoints != nullptr && b < s.batch; ++b)
        if (rows.num_keypoints[b] < 0 || rows.num_keypoints[b] > s.queries)
            refuse("rows.num_keypoints must lie between 0 and N = %" PRId64 ", got %" PRId64 " for image %" PRId64,
                   s.queries, rows.num_keypoints[b], b);
}

void check_image_sizes(const char* name, const int64_t* sizes, int64_t batch) {
    for (int64_t i = 0; sizes != nullptr && i < 2 * batch; ++i)
        if (sizes[i] < 1 || sizes[i] > kMostElements)
            refuse("%s must hold sizes from 1 to 2^40 pixels, got %" PRId64 " for the %s of image %" PRId64, name, sizes[i],
                   i % 2 == 0 ? "height" : "width", i / 2);
}

void check_peaks(const Matches& forward, const Rows& rows, const Sizes& s) {
    const int64_t cells = s.height * s.width;
    for (int64_t b = 0; b < s.batch; ++b) {
        if (!any_cell(rows, s, b)) continue;
        for (int64_t n = 0; n < s.queries; ++n) {
            const int64_t peak = forward.peak[b * s.queries + n];
            if (is_valid(rows, b, n, s.queries) && (peak < 0 || peak >= cells))
                refuse("matches.peak must hold cells from 0 to %" PRId64 " as the forward wrote them, got %" PRId64
                       " in image %" PRId64 ", row %" PRId64, cells - 1, peak, b, n);
        }
    }
}

void check_true_cells(const CrossEntropyResult& forward, const Sizes& s) {
    const int64_t cells = s.height * s.width;
    for (int64_t i = 0; i < s.batch * s.queries; ++i)
        if (forward.cell[i] < -1 || forward.cell[i] >= cells)
            refuse("cell must hold -1 or cells up to %" PRId64 " as the forward wrote them, got %" PRId64
                   " in image %" PRId64 ", row %" PRId64, cells - 1, forward.cell[i], i / s.queries, i % s.queries);
}

}  // namespace simplematch::abi
