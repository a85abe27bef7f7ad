// The C interface computes what the kernels compute: every operator called both ways, every option away from its default.
// Also the helpers, and the C++ wrapper.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "cpu/run.h"
#include "fixture.h"
#include "simplematch/simplematch.hpp"

namespace {

using namespace simplematch;

int failures = 0;

#define EXPECT(condition)                                                         \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::fprintf(stderr, "test_results.cpp:%d: %s\n", __LINE__, #condition); \
            ++failures;                                                           \
        }                                                                         \
    } while (0)

void set_options(fixture& f) {
    simplematch_sampling sampling = {
        {12, -6, 24}, {8, -4, 16}, SIMPLEMATCH_BILINEAR, SIMPLEMATCH_BORDER, nullptr, SIMPLEMATCH_CORNER};
    simplematch_localization localization = {{3, 3, 0, SIMPLEMATCH_DISC, 3.5, 3, -0.5, 2.5}, 0.3, {5, 1, 2}, {7, 3, 4}, 0.25,
                                             nullptr, SIMPLEMATCH_CORNER, {5, 3, 1, SIMPLEMATCH_SQUARE, 0, 0, 0, 0}};
    f.match.sampling = f.gather.sampling = sampling;
    f.match.localization = f.localize.localization = localization;
    f.match.metric = f.similarity.metric = {SIMPLEMATCH_COSINE, 1, 1.5};
    f.match.kept_queries = 2;
    f.entropy.sampling = sampling;
    f.entropy.metric = f.match.metric;
    f.entropy.truth = {{12, -6, 24}, {8, -4, 16}, 4, 1.25, 0.3};
    f.entropy.temperature.data = nullptr;
    f.match.temperature.data = f.localize.temperature.data = nullptr;
    f.gradients.temperature.data = f.localize_gradients.temperature.data = nullptr;
    f.num_keypoints[1] = 2;
    f.valid[0][1] = 0;
    f.target_mask[0][7] = 0;
}

// A tensor of the fixture's outputs, or none, in other outputs.
View moved(View t, fixture& f, outputs& o) {
    if (is_given(t)) t.data = reinterpret_cast<char*>(&o) + (static_cast<char*>(t.data) - reinterpret_cast<char*>(&f.out));
    return t;
}

MatchResult result_in(outputs& o) {
    return {{o.keypoints, o.score, o.peak[0], o.log_sum_exp, o.covariance, o.second_score, o.second_peak[0]}, o.target_norm,
            o.window_scores};
}

bool same(const outputs& a, const outputs& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Runs both on outputs of the same bytes, which must end as the same bytes, and not as they were.
template <class ByC, class ByKernels>
void compare(const char* name, fixture& f, ByC&& by_c, ByKernels&& by_kernels) {
    auto start = std::make_unique<outputs>(f.out), expected = std::make_unique<outputs>(f.out);
    by_kernels(*expected);
    check(by_c());
    if (!same(f.out, *expected)) std::fprintf(stderr, "%s: the two interfaces differ\n", name), ++failures;
    if (same(f.out, *start)) std::fprintf(stderr, "%s: nothing was written\n", name), ++failures;
}

// The cells of each shape, by numbers: equal scores but for the peak, and a query whose mask has its column only.
void test_shapes_and_masks() {
    const struct {
        simplematch_window window;
        double cells, masked;
    } cases[] = {
        {{3, 3, 1, SIMPLEMATCH_SQUARE, 0, 0, -INFINITY, 0}, 9, 3},
        {{3, 3, 1, SIMPLEMATCH_PLUS, 0, 0, -INFINITY, 0}, 5, 3},
        {{3, 5, 1, SIMPLEMATCH_PLUS, 0, 0, -INFINITY, 0}, 7, 3},
        {{3, 3, 1, SIMPLEMATCH_DISC, 2.9, 2.9, -INFINITY, 0}, 9, 3},
        {{3, 3, 1, SIMPLEMATCH_DISC, 2.5, 2.5, -INFINITY, 0}, 5, 3},
        {{5, 5, 1, SIMPLEMATCH_DISC, 5, 5, -INFINITY, 0}, 21, 5},
        {{3, 3, 1, SIMPLEMATCH_DISC, 4, 4, -INFINITY, 0}, 9, 3},
        {{5, 5, 1, SIMPLEMATCH_CLOSED_DISC, 4, 4, -INFINITY, 0}, 13, 5},
        {{3, 3, 1, SIMPLEMATCH_CLOSED_DISC, 2, 2, -INFINITY, 0}, 5, 3},
        {{3, 3, 1, SIMPLEMATCH_DISC, 2, 2, -INFINITY, 0}, 1, 1},
    };
    double scores[2][7][9] = {}, keypoints[2][2], score[2], log_sum_exp[2];
    int64_t peak[2];
    uint8_t masks[2][7 * 9 + 1] = {};
    scores[0][3][4] = scores[1][3][4] = 1;
    for (int i = 0; i < 7 * 9; ++i) masks[0][i] = 1, masks[1][i] = i % 9 == 4;
    LocalizeProblem p = simplematch_localize_problem_default();
    p.scores = simplematch_contiguous(scores, SIMPLEMATCH_FLOAT64, 1, 2, 7, 9);
    p.rows.target_mask = masks[0];
    p.rows.target_mask_stride = sizeof masks[0];
    p.localization.temperature = 1;
    const Matches matches = {keypoints, score, peak, log_sum_exp, nullptr, nullptr, nullptr};
    for (const auto& each : cases) {
        p.localization.window = each.window;
        check(simplematch_localize(&p, &matches, nullptr));
        EXPECT(peak[0] == 3 * 9 + 4 && peak[1] == peak[0] && keypoints[1][0] == 4 && keypoints[1][1] == 3);
        EXPECT(std::fabs(std::exp(log_sum_exp[0]) - (std::exp(1.0) + each.cells - 1)) < 1e-12);
        EXPECT(std::fabs(std::exp(log_sum_exp[1]) - (std::exp(1.0) + each.masked - 1)) < 1e-12);
    }
}

// A map of 2 x 3 cells read as one of 4 x 5, forward and backward, by C and by the kernels.
void test_upsampled() {
    float features[4 * 6], scores[2 * 6], keypoints[2][4], score[2][2], log_sum_exp[2][2], d_features[2][24], d_scores[2][12];
    double products[2][30], d_products[2][30];
    int64_t peak[2][2];
    for (int i = 0; i < 24; ++i) features[i] = float((i * 7) % 11) - 4;
    for (int i = 0; i < 12; ++i) scores[i] = float((i * 5) % 7) / 7;
    NeighbourProblem neighbours = simplematch_neighbour_problem_default();
    neighbours.features = tensor(features, {1, 4, 2, 3});
    UpsampledProblem upsampled = simplematch_upsampled_problem_default();
    upsampled.scores = tensor(scores, {1, 2, 2, 3});
    upsampled.products = products[0];
    upsampled.metric = simplematch_metric_default();
    upsampled.localization.window.height = upsampled.localization.window.width = 3;
    upsampled.height = 4, upsampled.width = 5;
    Upstream upstream{};
    upstream.keypoints = tensor(features, {1, 2, 2});
    upstream.score = upstream.log_sum_exp = kNotGiven;
    for (int by : {0, 1}) {
        const NeighbourResult result = {products[by]};
        const NeighbourUpstream of_products = {products[0]};
        const NeighbourGradients wanted = {tensor(d_features[by], {1, 4, 2, 3})};
        const Matches matches = {keypoints[by], score[by], peak[by], log_sum_exp[by], nullptr, nullptr, nullptr};
        const UpsampledGradients gradients = {tensor(d_scores[by], {1, 2, 2, 3}), d_products[by], kNotGiven};
        if (by == 0) {
            check(simplematch_neighbour_products(&neighbours, &result, nullptr));
            check(simplematch_neighbour_products_backward(&neighbours, &of_products, &wanted, nullptr));
            check(simplematch_localize_upsampled(&upsampled, &matches, nullptr));
            check(simplematch_localize_upsampled_backward(&upsampled, &matches, &upstream, &gradients, nullptr));
        } else {
            cpu::run(neighbours, result, 1);
            cpu::run_backward(neighbours, of_products, wanted, 1);
            cpu::run(upsampled, matches, 1);
            cpu::run_backward(upsampled, matches, upstream, gradients, 1);
        }
    }
    EXPECT(std::memcmp(products[0], products[1], sizeof products[0]) == 0);
    EXPECT(std::memcmp(d_features[0], d_features[1], sizeof d_features[0]) == 0);
    EXPECT(std::memcmp(keypoints[0], keypoints[1], sizeof keypoints[0]) == 0 && peak[0][1] == peak[1][1]);
    EXPECT(std::memcmp(d_scores[0], d_scores[1], sizeof d_scores[0]) == 0);
    EXPECT(std::memcmp(d_products[0], d_products[1], sizeof d_products[0]) == 0);
    EXPECT(products[0][0] == double(features[0]) * features[0] + double(features[6]) * features[6] +
                                 double(features[12]) * features[12] + double(features[18]) * features[18]);
    upsampled.products = nullptr;
    const Matches matches = {keypoints[0], score[0], peak[0], log_sum_exp[0], nullptr, nullptr, nullptr};
    EXPECT(simplematch_localize_upsampled(&upsampled, &matches, nullptr) == SIMPLEMATCH_INVALID_ARGUMENT);
    EXPECT(std::string(simplematch_error_message()) == "products must point to (1, 5, 2, 3) elements, got NULL");
}

// Sums of absolute differences of two descriptors and two cells, and gradients of the first score; the metric is refused where
// scores are interpolated.
void test_absolute() {
    const float descriptors[3 * 2] = {1, 0, 2, 0, -3, 0}, target[3 * 2] = {1, 4, 0, 2, -1, 5}, arriving[2 * 2] = {1, 0, 0, 0};
    float scores[2][2], norms[2], of_descriptors[3][2], of_target[3][2];
    SimilarityProblem p = simplematch_similarity_problem_default();
    p.descriptors = tensor(descriptors, {1, 3, 1, 2});
    p.target = tensor(target, {1, 3, 1, 2});
    p.metric.kind = SIMPLEMATCH_L1;
    const SimilarityResult result = {scores, norms};
    const SimilarityUpstream upstream = {tensor(arriving, {1, 2, 1, 2})};
    const SimilarityGradients gradients = {tensor(of_descriptors[0], {1, 3, 1, 2}), tensor(of_target[0], {1, 3, 1, 2})};
    check(simplematch_cosine_similarity(&p, &result, nullptr));
    check(simplematch_cosine_similarity_backward(&p, &result, &upstream, &gradients, nullptr));
    EXPECT(scores[0][0] == -4 && scores[0][1] == -11 && scores[1][0] == -2 && scores[1][1] == -11);
    EXPECT(of_descriptors[0][0] == 0 && of_descriptors[1][0] == -1 && of_descriptors[2][0] == 1);
    EXPECT(of_target[0][0] == 0 && of_target[1][0] == 1 && of_target[2][0] == -1);
    for (int c = 0; c < 3; ++c) EXPECT(of_descriptors[c][1] == 0 && of_target[c][1] == 0);

    UpsampledProblem upsampled = simplematch_upsampled_problem_default();
    upsampled.scores = tensor(scores[0], {1, 2, 1, 2});
    upsampled.metric.kind = SIMPLEMATCH_L1;
    const Matches matches{};
    EXPECT(simplematch_localize_upsampled(&upsampled, &matches, nullptr) == SIMPLEMATCH_INVALID_ARGUMENT);
    EXPECT(std::string(simplematch_error_message()).find("metric.kind must be 0 (cosine), 1 (dot) or 2 (l2)") == 0);
}

void test_operators() {
    auto owner = std::make_unique<fixture>();
    fixture& f = *owner;
    set_up(&f);
    set_options(f);
    compare("sparse_window_match", f,
            [&] { return simplematch_sparse_window_match(&f.match, &f.result, &f.device); },
            [&](outputs& o) { cpu::run(f.match, result_in(o), 1); });
    EXPECT(f.out.peak[0][1] == -1 && f.out.peak[1][2] == -1 && f.out.peak[0][0] >= 0);  // the rows arrived
    EXPECT(f.out.second_peak[0][1] == -1 && f.out.second_peak[0][0] >= 0 && f.out.second_peak[0][0] != f.out.peak[0][0]);
    EXPECT(f.out.second_score[0][0] <= f.out.score[0][0] && f.out.covariance[0][0][0][0] > 0);
    compare("sparse_window_match_backward", f,
            [&] { return simplematch_sparse_window_match_backward(&f.match, &f.result, &f.upstream, &f.gradients, &f.device); },
            [&](outputs& o) {
                const MatchGradients& g = f.gradients;
                cpu::run_backward(f.match, result_in(o), f.upstream,
                                  {moved(g.source, f, o), moved(g.keypoints, f, o), moved(g.target, f, o), g.temperature}, 1);
            });
    compare("localize", f,
            [&] { return simplematch_localize(&f.localize, &f.result.matches, &f.device); },
            [&](outputs& o) { cpu::run(f.localize, result_in(o).matches, 1); });
    compare("localize_backward", f,
            [&] {
                return simplematch_localize_backward(
                    &f.localize, &f.result.matches, &f.upstream, &f.localize_gradients, &f.device);
            },
            [&](outputs& o) {
                cpu::run_backward(f.localize, result_in(o).matches, f.upstream,
                                  {moved(f.localize_gradients.scores, f, o), f.localize_gradients.temperature}, 1);
            });
    compare("gather_keypoints", f,
            [&] { return simplematch_gather_keypoints(&f.gather, &f.gather_result, &f.device); },
            [&](outputs& o) { cpu::run(f.gather, {o.descriptors}, 1); });
    std::memset(f.out.source_gradient, 0, sizeof f.out.source_gradient);
    compare("gather_keypoints_backward", f,
            [&] { return simplematch_gather_keypoints_backward(&f.gather, &f.gather_upstream, &f.gather_gradients, &f.device); },
            [&](outputs& o) {
                const GatherGradients& g = f.gather_gradients;
                cpu::run_backward(f.gather, f.gather_upstream, {moved(g.features, f, o), moved(g.keypoints, f, o)}, 1);
            });
    compare("cosine_similarity", f,
            [&] { return simplematch_cosine_similarity(&f.similarity, &f.similarity_result, &f.device); },
            [&](outputs& o) { cpu::run(f.similarity, {o.scores, o.target_norm}, 1); });
    compare("cosine_similarity_backward", f,
            [&] {
                return simplematch_cosine_similarity_backward(
                    &f.similarity, &f.similarity_result, &f.similarity_upstream, &f.similarity_gradients, &f.device);
            },
            [&](outputs& o) {
                const SimilarityGradients& g = f.similarity_gradients;
                cpu::run_backward(f.similarity, {o.scores, o.target_norm}, f.similarity_upstream,
                                  {moved(g.descriptors, f, o), moved(g.target, f, o)}, 1);
            });
    compare("local_correlation", f,
            [&] { return simplematch_local_correlation(&f.correlation, &f.correlation_result, &f.device); },
            [&](outputs& o) { cpu::run(f.correlation, {o.correlation}, 1); });
    compare("local_correlation_backward", f,
            [&] {
                return simplematch_local_correlation_backward(
                    &f.correlation, &f.correlation_upstream, &f.correlation_gradients, &f.device);
            },
            [&](outputs& o) {
                const CorrelationGradients& g = f.correlation_gradients;
                cpu::run_backward(f.correlation, f.correlation_upstream,
                                  {moved(g.queries, f, o), moved(g.target, f, o), moved(g.coords, f, o)}, 1);
            });
}

void test_cross_entropy() {
    auto owner = std::make_unique<fixture>();
    fixture& f = *owner;
    set_up(&f);
    set_options(f);
    compare("sparse_match_cross_entropy", f,
            [&] { return simplematch_sparse_match_cross_entropy(&f.entropy, &f.entropy_result, &f.device); },
            [&](outputs& o) { cpu::run(f.entropy, CrossEntropyResult{o.loss, o.cell[0], o.target_norm}, 1); });
    EXPECT(f.out.cell[0][1] == -1 && f.out.cell[1][2] == -1 && f.out.cell[0][0] >= 0);  // the rows arrived
    EXPECT(f.out.loss[0][1] == 0 && f.out.loss[0][0] > 0);
    compare("sparse_match_cross_entropy_backward", f,
            [&] {
                return simplematch_sparse_match_cross_entropy_backward(
                    &f.entropy, &f.entropy_result, &f.entropy_upstream, &f.gradients, &f.device);
            },
            [&](outputs& o) {
                const MatchGradients& g = f.gradients;
                cpu::run_backward(f.entropy, CrossEntropyResult{o.loss, o.cell[0], o.target_norm}, f.entropy_upstream,
                                  MatchGradients{moved(g.source, f, o), moved(g.keypoints, f, o), moved(g.target, f, o),
                                                 g.temperature}, 1);
            });
}

bool is(const simplematch_affine& map, int64_t numerator, int64_t shift, int64_t denominator) {
    return map.numerator == numerator && map.shift == shift && map.denominator == denominator;
}

// 4 x 6 cells behind 32 x 60 pixels
void test_coordinates() {
    simplematch_sampling sampling = simplematch_sampling_default();
    check(simplematch_sampling_in_pixels(&sampling, SIMPLEMATCH_CORNER, 4, 6, 32, 60));
    EXPECT(is(sampling.to_cells_x, 6, 0, 60) && is(sampling.to_cells_y, 4, 0, 32));
    check(simplematch_sampling_in_pixels(&sampling, SIMPLEMATCH_HALF_PIXEL, 4, 6, 32, 60));
    EXPECT(is(sampling.to_cells_x, 12, -54, 120) && is(sampling.to_cells_y, 8, -28, 64));
    simplematch_localization localization = simplematch_localization_default();
    check(simplematch_localization_in_pixels(&localization, SIMPLEMATCH_ALIGN_CORNERS, 4, 6, 32, 60));
    EXPECT(is(localization.from_cells_x, 59, 0, 5) && is(localization.from_cells_y, 31, 0, 3));
    simplematch_affine map;
    check(simplematch_pixels_from_cells(SIMPLEMATCH_ALIGN_CORNERS, 1, 60, &map));
    EXPECT(is(map, 0, 0, 1));
    check(simplematch_pixels_from_cells(SIMPLEMATCH_HALF_PIXEL, 6, 60, &map));
    EXPECT(is(map, 120, 54, 12));
}

// Two images of one size, given for each, match as with the maps of that size.
void test_image_sizes() {
    auto owner = std::make_unique<fixture>();
    fixture& f = *owner;
    set_up(&f);
    const int64_t sizes[2 * B] = {32, 60, 32, 60};
    for (const int32_t coordinates : {SIMPLEMATCH_CORNER, SIMPLEMATCH_HALF_PIXEL, SIMPLEMATCH_ALIGN_CORNERS}) {
        check(simplematch_sampling_in_pixels(&f.match.sampling, coordinates, H, W, 32, 60));
        check(simplematch_localization_in_pixels(&f.match.localization, coordinates, H, W, 32, 60));
        check(simplematch_sparse_window_match(&f.match, &f.result, &f.device));
        const outputs by_maps = f.out;
        f.match.sampling = f.gather.sampling, f.match.localization = f.localize.localization;
        f.match.sampling.image_sizes = f.match.localization.image_sizes = sizes;
        f.match.sampling.coordinates = f.match.localization.coordinates = coordinates;
        check(simplematch_sparse_window_match(&f.match, &f.result, &f.device));
        EXPECT(same(f.out, by_maps));
        f.match.sampling = f.gather.sampling, f.match.localization = f.localize.localization;
        check(simplematch_sparse_window_match(&f.match, &f.result, &f.device));
        EXPECT(!same(f.out, by_maps));
    }
}

void test_wrapper() {
    const float data[24] = {};
    const simplematch_tensor t = tensor(data, {2, 3, 4});
    EXPECT(t.data == data && t.dtype == SIMPLEMATCH_FLOAT32 && t.size[2] == 4 && t.size[3] == 1);
    EXPECT(t.stride[0] == 12 && t.stride[1] == 4 && t.stride[2] == 1);
    double number = 0;
    const simplematch_tensor strided = tensor(&number, {2, 3}, {1, 2});
    EXPECT(strided.dtype == SIMPLEMATCH_FLOAT64 && strided.stride[0] == 1 && strided.stride[1] == 2);
    try {
        check(simplematch_localize(nullptr, nullptr, nullptr));
        EXPECT(!"an error was thrown");
    } catch (const Error& error) {
        EXPECT(error.status() == SIMPLEMATCH_INVALID_ARGUMENT);
        EXPECT(std::string(error.what()) == "problem must point to a struct, got NULL");
    }
}

}  // namespace

int main() {
    test_operators();
    test_cross_entropy();
    test_upsampled();
    test_absolute();
    test_shapes_and_masks();
    test_coordinates();
    test_image_sizes();
    test_wrapper();
    if (failures == 0) std::printf("the C interface computes what the kernels compute\n");
    return failures == 0 ? 0 : 1;
}
