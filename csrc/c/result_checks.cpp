// Checks of the records beside a problem: results, gradients that arrive, and gradients to compute.
#include <cinttypes>

#include "checks.h"
#include "common/window.h"

namespace simplematch::abi {
namespace {

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

// A gradient that arrives.
void check_arriving(const char* name, View& gradient, const char* shape, std::initializer_list<int64_t> size, int32_t dtype) {
    check_required(name, gradient, shape, int(size.size()));
    check_dtype(name, gradient, {dtype});
    check_shape(name, gradient, shape, size);
}

// A gradient to compute, of an input that must be given if the gradient is.
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

void check_both(const char* name, const void* of_a, const void* of_b) {
    if ((of_a == nullptr) != (of_b == nullptr)) refuse("%s_a and %s_b must be given both or neither, got one", name, name);
}

}  // namespace

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
    const int64_t B = s.batch, N = s.queries;
    check_optional("upstream.keypoints", upstream.keypoints, "(B, N, 2)", {B, N, 2}, s.arithmetic);
    check_optional("upstream.score", upstream.score, "(B, N)", {B, N}, s.arithmetic);
    check_optional("upstream.log_sum_exp", upstream.log_sum_exp, "(B, N)", {B, N}, s.arithmetic);
    check_optional("upstream.covariance", upstream.covariance, "(B, N, 2, 2)", {B, N, 2, 2}, s.arithmetic);
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

template <class Problem>
static void check_match_gradients(MatchGradients& wanted, const Problem& p) {
    check_gradient("gradients.source", wanted.source, "source", p.source, 4);
    check_gradient("gradients.keypoints", wanted.keypoints, "keypoints", p.keypoints, 3);
    check_gradient("gradients.target", wanted.target, "target", p.target, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 2);
}

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

void check_result(const MatchAllResult& r, const MatchAllProblem&, const Sizes& s) {
    const int64_t item = item_size(s.arithmetic);
    check_both("log_sum_exp", r.log_sum_exp_a, r.log_sum_exp_b);
    check_both("second", r.second_a, r.second_b);
    check_array("index_a", r.index_a, {s.batch, s.queries}, sizeof(int64_t));
    check_array("score_a", r.score_a, {s.batch, s.queries}, item);
    check_optional_array("log_sum_exp_a", r.log_sum_exp_a, {s.batch, s.queries}, item);
    check_optional_array("second_a", r.second_a, {s.batch, s.queries}, item);
    check_array("index_b", r.index_b, {s.batch, s.height, s.width}, sizeof(int64_t));
    check_array("score_b", r.score_b, {s.batch, s.height, s.width}, item);
    check_optional_array("log_sum_exp_b", r.log_sum_exp_b, {s.batch, s.height, s.width}, item);
    check_optional_array("second_b", r.second_b, {s.batch, s.height, s.width}, item);
    check_array("mutual", r.mutual, {s.batch, s.queries}, 1);
    check_array("norm_a", r.norm_a, {s.batch, s.queries}, item);
    check_array("norm_b", r.norm_b, {s.batch, s.height, s.width}, item);
}

void check_upstream(MatchAllUpstream& upstream, const Sizes& s) {
    const int64_t B = s.batch, N = s.queries, M = s.height * s.width;
    check_optional("upstream.score_a", upstream.score_a, "(B, N)", {B, N}, s.arithmetic);
    check_optional("upstream.log_sum_exp_a", upstream.log_sum_exp_a, "(B, N)", {B, N}, s.arithmetic);
    check_optional("upstream.score_b", upstream.score_b, "(B, M)", {B, M}, s.arithmetic);
    check_optional("upstream.log_sum_exp_b", upstream.log_sum_exp_b, "(B, M)", {B, M}, s.arithmetic);
}

void check_result(const PairResult& result, const PairProblem&, const Sizes& s) {
    check_array("scores", result.scores, {s.batch, s.samples}, item_size(s.arithmetic));
}

void check_upstream(PairUpstream& upstream, const Sizes& s) {
    check_arriving("upstream.scores", upstream.scores, "(B, K)", {s.batch, s.samples}, s.arithmetic);
}

void check_gradients(PairGradients& wanted, const PairProblem& p) {
    check_gradient("gradients.a", wanted.a, "a", p.a, 4);
    check_gradient("gradients.b", wanted.b, "b", p.b, 4);
}

void check_gradients(MatchAllGradients& wanted, const MatchAllProblem& p) {
    check_gradient("gradients.a", wanted.a, "a", p.a, 4);
    check_gradient("gradients.b", wanted.b, "b", p.b, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 1);
    check_gradient("gradients.bin_score", wanted.bin_score, "bin_score", p.bin_score, 1);
}

}  // namespace simplematch::abi
