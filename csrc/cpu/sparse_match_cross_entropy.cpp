// sparse_match_cross_entropy: sparse_window_match over the whole map, of which each row keeps one number, its loss.
//
// The backward is that of the match, whose scores it makes again in blocks within the budget.
#include "sparse_match_cross_entropy.h"

#include <cmath>

namespace simplematch::cpu {

TrueWindow CrossEntropy::window_of(int64_t b, int64_t n) const {
    return true_window(p_.truth, read_upstream(p_.target_keypoints, b, n, 0), read_upstream(p_.target_keypoints, b, n, 1),
                       p_.target.size[2], p_.target.size[3]);
}

template <class F>
bool CrossEntropy::for_each_true_cell(const TrueWindow& window, const uint8_t* mask, F&& f) const {
    const int64_t width = p_.target.size[3];
    const auto visit = [&](auto&& g) {
        for (int64_t y = window.box.top; y < window.box.bottom; ++y)
            for (int64_t x = window.box.left; x < window.box.right; ++x)
                if (mask == nullptr || mask[y * width + x] != 0) g(y * width + x, window.squared_distance(y, x));
    };
    double least = INFINITY, total = 0;
    visit([&](int64_t, double squared) { least = std::min(least, squared); });
    visit([&](int64_t, double squared) { total += true_weight(p_.truth, squared, least); });
    if (total == 0) return false;
    visit([&](int64_t cell, double squared) {
        const double weight = true_weight(p_.truth, squared, least) / total;
        if (weight > 0) f(cell, weight);
    });
    return true;
}

template <class T>
void CrossEntropy::write_loss(const RowWork<T>& row, double log_sum_exp, int64_t b, int64_t n,
                              const CrossEntropyResult& result) const {
    const int64_t i = b * p_.target_keypoints.size[1] + n;
    const TrueWindow window = window_of(b, n);
    double expected = 0;
    const bool valid = for_each_true_cell(
        window, row.mask, [&](int64_t cell, double weight) { expected += weight * double(row.scores[cell]); });
    const bool lost = !window.known || !std::isfinite(log_sum_exp);
    const double loss = lost ? NAN : log_sum_exp - expected / double(row.temperature);
    static_cast<T*>(result.loss)[i] = valid ? T(loss) : T(0);
    result.cell[i] = valid ? window.cell : -1;
}

template <class T>
void CrossEntropy::subtract(const RowWork<T>& row, RowGradient<T>& gradient, int64_t b, int64_t n) const {
    const double g = gradient.log_sum_exp, temperature = double(row.temperature);
    if (g == 0 || g != g) return;  // zeros or NaN throughout
    for_each_true_cell(window_of(b, n), row.mask, [&](int64_t cell, double weight) {
        const double before = double(gradient.scores[cell]), score = double(row.scores[cell]);
        gradient.scores[cell] -= T(weight) * (T(g) / row.temperature);  // exactly P's term where both are 1
        const double moved = double(gradient.scores[cell]) - before;
        gradient.sum += moved;
        gradient.sum_with_score += moved * score;
        gradient.temperature += g / temperature / temperature * weight * score;
    });
}

template void CrossEntropy::write_loss<float>(const RowWork<float>&, double, int64_t, int64_t, const CrossEntropyResult&) const;
template void CrossEntropy::write_loss<double>(const RowWork<double>&, double, int64_t, int64_t,
                                               const CrossEntropyResult&) const;
template void CrossEntropy::subtract<float>(const RowWork<float>&, RowGradient<float>&, int64_t, int64_t) const;
template void CrossEntropy::subtract<double>(const RowWork<double>&, RowGradient<double>&, int64_t, int64_t) const;

namespace {

template <class T>
void forward(const CrossEntropyProblem& p, const CrossEntropyResult& result, int threads) {
    const CrossEntropy truth(p);
    const Losses losses{truth, result};
    MatchResult match{};
    match.target_norm = result.target_norm;
    match_forward<T>(match_of(p), match, &losses, threads);
}

template <class T>
void backward(const CrossEntropyProblem& p, const CrossEntropyResult& forward, const CrossEntropyUpstream& upstream,
              const MatchGradients& wanted, int threads) {
    const int64_t batch = p.target.size[0], count = queries_of(p);
    Buffer<uint8_t> valid(batch * count);
    Buffer<T> arriving(batch * count);  // NaN where the loss isn't finite: such a row passes on NaN
    for (int64_t i = 0; i < batch * count; ++i) {
        valid[i] = forward.cell[i] >= 0;
        const double g = read_upstream(upstream.loss, i / count, i % count);
        const bool lost = !std::isfinite(static_cast<const T*>(forward.loss)[i]) || !std::isfinite(g);
        arriving[i] = g == 0 ? T(0) : lost ? T(NAN) : T(g);
    }
    MatchProblem match = match_of(p);
    match.rows = {nullptr, valid.get(), p.rows.target_mask, p.rows.target_mask_stride};
    MatchResult of_match{};
    of_match.matches.peak = forward.cell;  // any cell of the map will do
    of_match.target_norm = forward.target_norm;
    Upstream of_log_sum_exp{kNotGiven, kNotGiven, kNotGiven, kNotGiven};
    of_log_sum_exp.log_sum_exp = {arriving.get(), arithmetic_of(p.target.dtype), {batch, count, 1, 1}, {count, 1, 0, 0}};
    const CrossEntropy truth(p);
    match_backward<T>(match, of_match, of_log_sum_exp, wanted, &truth, threads);
}

}  // namespace

void run(const CrossEntropyProblem& problem, const CrossEntropyResult& result, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64) return forward<double>(problem, result, threads);
    forward<float>(problem, result, threads);
}

void run_backward(const CrossEntropyProblem& problem, const CrossEntropyResult& forward,
                  const CrossEntropyUpstream& upstream, const MatchGradients& gradients, int threads) {
    if (problem.target.dtype == SIMPLEMATCH_FLOAT64)
        return backward<double>(problem, forward, upstream, gradients, threads);
    backward<float>(problem, forward, upstream, gradients, threads);
}

}  // namespace simplematch::cpu
