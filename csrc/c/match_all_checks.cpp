// Checks of the records of match_all. The sizes of a problem are N queries, the cells of a, and the map b.
#include <cinttypes>

#include "checks.h"

namespace simplematch::abi {
namespace {

void check_set(const char* name, View& set) {
    check_required(name, set, "(B, C, H, W)", 4);
    if (set.size[1] == 0) refuse("%s must have at least one channel, got C = 0", name);
}

void check_rows(const char* num_name, const char* valid_name, const char* mask_name, const Rows& rows, int64_t batch,
                int64_t count) {
    check_optional_array(num_name, rows.num_keypoints, {batch}, sizeof(int64_t));
    check_optional_array(valid_name, rows.valid, {batch, count}, 1);
    if (rows.target_mask != nullptr) refuse("%s must be NULL, got an address; `valid` selects descriptors", mask_name);
}

void check_number(const char* name, View& number, const Sizes& s) {
    if (!is_given(number)) return;
    check_tensor(name, number, "(B,)", 1);
    check_dtype(name, number, {s.arithmetic});
    check_shape(name, number, "(B,)", {s.batch});
}

void check_both(const char* name, const void* of_a, const void* of_b) {
    if ((of_a == nullptr) != (of_b == nullptr)) refuse("%s_a and %s_b must be given both or neither, got one", name, name);
}

void check_counts(const char* name, const Rows& rows, int64_t batch, int64_t count) {
    for (int64_t b = 0; rows.num_keypoints != nullptr && b < batch; ++b)
        if (rows.num_keypoints[b] < 0 || rows.num_keypoints[b] > count)
            refuse("%s.num_keypoints must lie between 0 and %" PRId64 ", got %" PRId64 " for image %" PRId64, name, count,
                   rows.num_keypoints[b], b);
}

void check_indices(const char* name, const int64_t* index, int64_t batch, int64_t count, int64_t others) {
    for (int64_t i = 0; i < batch * count; ++i)
        if (index[i] < -1 || index[i] >= others)
            refuse("%s must hold numbers from -1 to %" PRId64 " as the forward wrote them, got %" PRId64 " at %" PRId64, name,
                   others - 1, index[i], i);
}

}  // namespace

Sizes check_problem(MatchAllProblem& p) {
    check_set("a", p.a);
    check_set("b", p.b);
    check_dtype("a", p.a, {p.b.dtype});
    check_equal("a", "batch size", p.a.size[0], "b", p.b.size[0]);
    check_equal("a", "number of channels", p.a.size[1], "b", p.b.size[1]);
    const Sizes s{p.a.size[0], cells_of(p.a), p.a.size[1], p.b.size[2], p.b.size[3], p.a.dtype, arithmetic_of(p.a.dtype)};
    if (s.queries > INT32_MAX || cells_of(p.b) > INT32_MAX)
        refuse("a and b must have at most 2^31 - 1 descriptors, got %" PRId64 " and %" PRId64, s.queries, cells_of(p.b));
    check_number("temperature", p.temperature, s);
    check_number("bin_score", p.bin_score, s);
    check_rows("rows_a.num_keypoints", "rows_a.valid", "rows_a.target_mask", p.rows_a, s.batch, s.queries);
    check_rows("rows_b.num_keypoints", "rows_b.valid", "rows_b.target_mask", p.rows_b, s.batch, cells_of(p.b));
    check_metric(p.metric);
    if (!is_given(p.temperature) && !(p.fixed_temperature > 0 && p.fixed_temperature - p.fixed_temperature == 0))
        refuse("fixed_temperature must be a finite number above 0, got %g", p.fixed_temperature);
    if (!is_given(p.bin_score) && !(p.fixed_bin_score < __builtin_huge_val()))
        refuse("fixed_bin_score must be a finite number or -INFINITY, got %g", p.fixed_bin_score);
    check_score_budget(p.score_budget);
    return s;
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
    const auto check = [&](const char* name, View& t, const char* shape, int64_t count) {
        if (is_given(t)) check_arriving(name, t, shape, {s.batch, count}, s.arithmetic);
    };
    check("upstream.score_a", upstream.score_a, "(B, N)", s.queries);
    check("upstream.log_sum_exp_a", upstream.log_sum_exp_a, "(B, N)", s.queries);
    check("upstream.score_b", upstream.score_b, "(B, M)", s.height * s.width);
    check("upstream.log_sum_exp_b", upstream.log_sum_exp_b, "(B, M)", s.height * s.width);
}

void check_gradients(MatchAllGradients& wanted, const MatchAllProblem& p) {
    check_gradient("gradients.a", wanted.a, "a", p.a, 4);
    check_gradient("gradients.b", wanted.b, "b", p.b, 4);
    check_gradient("gradients.temperature", wanted.temperature, "temperature", p.temperature, 1);
    check_gradient("gradients.bin_score", wanted.bin_score, "bin_score", p.bin_score, 1);
}

void check_values(const MatchAllProblem& p, const Sizes& s) {
    check_counts("rows_a", p.rows_a, s.batch, s.queries);
    check_counts("rows_b", p.rows_b, s.batch, s.height * s.width);
}

void check_forward(const MatchAllResult& forward, const MatchAllProblem&, const Sizes& s) {
    check_indices("index_a", forward.index_a, s.batch, s.queries, s.height * s.width);
    check_indices("index_b", forward.index_b, s.batch, s.height * s.width, s.queries);
}

}  // namespace simplematch::abi
