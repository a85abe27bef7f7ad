// What arrives at one side of match_all, and how a vector's gradient comes of the sums with its scores' gradients.
//
// With y the vectors of the other side as they are packed, sum = sum of ds y, and x the vector itself, packed:
//
//     cosine    dx = (sum - <sum, x> x D / |x|) / D        dot    dx = sum        l2    dx = 2 (sum - x sum of ds)
//     l1        dx = sum, which is that of ds sign(y - x)
//
// Besides the softmaxes, a pair of a vector and its best brings both of them what arrives at the score.
#pragma once

#include <cmath>
#include <limits>

#include "match_all_driver.h"

namespace simplematch::cpu {

// How a backward is cut: ds of a block and a chunk take 512 KiB, and so do the lines of a chunk, or of a block.
struct Chunks {
    int64_t rows;    // of `a`
    int64_t panels;  // of `b`

    template <class T>
    Chunks(const MatchAllProblem& p, const MatchAllSteps<T>& steps) {
        const int64_t numbers = (1 << 19) / int64_t(sizeof(T)), channels = std::max<int64_t>(1, p.a.size[1]);
        const int64_t most = std::min<int64_t>(256, std::max<int64_t>(32, numbers / channels));
        rows = round_up(std::max<int64_t>(1, std::min(most, cells_of(p.a))), steps.panel_rows);
        const int64_t columns = std::max<int64_t>(steps.panel_columns, std::min(numbers / rows, numbers / channels));
        panels = std::min(columns / steps.panel_columns, (cells_of(p.b) + steps.panel_columns - 1) / steps.panel_columns);
        panels = std::max<int64_t>(1, panels);
    }
};

struct SideUpstream {
    View score, log_sum_exp;  // that arrive
    const int64_t* index;     // of the forward, (B, N) like the others
    const void* score_value;
    const void* log_sum_exp_value;
    const void* norm;
};

template <class T>
class GradientSide {
public:
    SetData<T> data;
    View gradient;  // or not given: not wanted

    GradientSide(const View& view, const View& view_of_other, const Rows& rows, const Metric& metric,
                 const SideUpstream& upstream, const View& wanted, const MatchAllSteps<T>& steps)
        : GradientSide(view, rows, metric, upstream, wanted, steps, cells_of(view), cells_of(view_of_other)) {}

    const VectorSet<T>& set() const { return data.set(); }
    SoftmaxWeights<T> weights() const { return {weight_.get(), score_.get(), log_best_.get()}; }
    bool has_log_sum_exp() const { return has_log_sum_exp_; }
    bool has_nan() const { return has_nan_; }
    bool any_separate(const GradientSide& other) const { return separate_count_ + other.separate_count_ > 0; }

    void read_upstream_of(int64_t b, const Softmax& softmax, const GradientSide& other) {
        const T nan = std::numeric_limits<T>::quiet_NaN();
        const int64_t vectors = cells_of(set().view);
        const auto is_finite = [](double x) { return x - x == 0; };
        has_log_sum_exp_ = has_nan_ = false;
        separate_count_ = 0;
        for (int64_t i = 0; i < set().count; ++i) {
            const int64_t cell = set().cell(i), at = b * vectors + cell;
            const bool summed = upstream_.log_sum_exp_value != nullptr;  // else what arrives there says nothing
            const double h = read_upstream(upstream_.score, b, cell);
            const double l = summed ? read_upstream(upstream_.log_sum_exp, b, cell) : 0;
            best_[i] = upstream_.index[at] >= 0 ? int32_t(other.data.position(upstream_.index[at])) : -1;
            const bool has_best = best_[i] >= 0;  // not where a caller's index names padding
            const bool passes = is_finite(h) && is_finite(value(upstream_.score_value, at));
            of_score_[i] = !has_best || h == 0 ? T(0) : passes ? T(h) : nan;
            const double total = l == 0 ? 0 : value(upstream_.log_sum_exp_value, at);
            const bool is_nan = l != 0 && !(is_finite(l) && is_finite(total));
            double weight = is_nan ? 0 : l / softmax.temperature;
            if (softmax.summation.fixed_shift && weight != 0) weight *= std::exp(softmax.summation.shift - total);
            weight_[i] = T(weight);
            log_sum_exp_[i] = is_nan ? T(0) : T(total);
            // where no weight is multiplied, or all scores are -inf, any numbers will do
            const bool is_used = weight != 0 && has_best && is_finite(value(upstream_.score_value, at));
            score_[i] = is_used ? T(value(upstream_.score_value, at)) : T(0);
            log_best_[i] = is_used ? T(softmax.template divided<T>(double(score_[i])) - total) : T(0);
            nan_[i] = is_nan;
            has_nan_ |= is_nan;
            has_log_sum_exp_ |= weight != 0;
            if (set().mark[i] == kSeparate && set().metric.kind != SIMPLEMATCH_COSINE) separate_[separate_count_++] = int32_t(i);
        }
    }

    // Lists of the other side's vectors that have this one as their best, where something arrives at their score.
    void list_choices(const GradientSide& other) {
        const int64_t count = set().count, others = other.set().count;
        int32_t* const next = first_choice_.get() + 1;  // of vector i: where its list goes on, in the end its end
        std::fill_n(first_choice_.get(), count + 2, 0);
        for (int64_t j = 0; j < others; ++j)
            if (other.of_score_[j] != 0) ++next[other.best_[j] + 1];
        for (int64_t i = 0; i < count; ++i) next[i + 1] += next[i];
        for (int64_t j = 0; j < others; ++j)
            if (other.of_score_[j] != 0) choices_[next[other.best_[j]]++] = int32_t(j);
    }

    double weight_of_bin(const Softmax& softmax) const {
        double total = 0;
        const double of_bin = softmax.template divided<T>(softmax.bin_score);
        const Summation& by = softmax.summation;
        for (int64_t i = 0; softmax.has_bin() && i < set().count; ++i)
            if (weight_[i] != 0)
                total += double(weight_[i]) * std::exp(of_bin - (by.fixed_shift ? by.shift : double(log_sum_exp_[i])));
        return total;
    }

    // sum += ds y over the pairs whose scores are computed one by one. Returns the sum of ds s.
    double add_separate(const GradientSide& other, int64_t i, const Softmax& softmax, T* sum) const {
        double moment = 0;
        const bool all = set().mark[i] == kSeparate && set().metric.kind != SIMPLEMATCH_COSINE;
        const int64_t count = all ? other.set().count : other.separate_count_;
        for (int64_t k = 0; k < count; ++k) {
            const int64_t j = all ? k : other.separate_[k];
            if (weight_[i] == 0 && other.weight_[j] == 0) continue;
            const double s = double(T(steps_.separate_score(set(), i, other.set(), j)));
            const double ds = probability_times_weight(i, s, softmax) + other.probability_times_weight(j, s, softmax);
            if (ds == 0 || ds != ds) continue;
            moment += ds * s;
            add_pair(other, i, j, T(ds), sum);
        }
        return moment;
    }

    // sum += what arrives at the scores of the pairs of bests, times y.
    void add_bests(const GradientSide& other, int64_t i, T* sum) const {
        if (of_score_[i] != 0) add_pair(other, i, best_[i], of_score_[i], sum);
        for (int32_t k = first_choice_[i]; k < first_choice_[i + 1]; ++k)
            add_pair(other, i, choices_[k], other.of_score_[choices_[k]], sum);
    }

    // The gradient of vector i, from `sum`, which it overwrites; `own` is scratch.
    void finish(const GradientSide& other, int64_t b, int64_t i, T* sum, T* own) const {
        const int64_t channels = set().channels(), cell = set().cell(i);
        if (nan_[i] || other.has_nan_) {
            std::fill_n(sum, channels, std::numeric_limits<T>::quiet_NaN());
        } else if (set().metric.kind == SIMPLEMATCH_L2) {
            std::fill_n(own, channels + 1, T(0));
            add_line(set(), i, T(1), own);
            for (int64_t c = 0; c < channels; ++c) sum[c] = 2 * (sum[c] - sum[channels] * own[c]);
        } else if (set().metric.kind == SIMPLEMATCH_COSINE && set().mark[i] != kSeparate) {
            std::fill_n(own, channels + 1, T(0));
            add_line(set(), i, T(1), own);
            const T norm = static_cast<const T*>(upstream_.norm)[b * cells_of(set().view) + cell];
            const double divisor = denominator(double(norm), set().metric);
            const bool moves = norm > 0 && !(set().metric.clamp_eps && norm < T(set().metric.eps));
            double product = 0;
            for (int64_t c = 0; c < channels; ++c) product += double(sum[c]) * double(own[c]);
            const double factor = moves ? product * divisor / double(norm) : 0;
            for (int64_t c = 0; c < channels; ++c) sum[c] = T((double(sum[c]) - factor * double(own[c])) / divisor);
        }
        write(b, cell, sum);
    }

    void write_padding(int64_t b) {
        if (!is_given(gradient) || set().count == cells_of(set().view)) return;
        int64_t next = 0;
        for (int64_t cell = 0; cell < cells_of(set().view); ++cell) {
            const bool valid = next < set().count && set().cell(next) == cell;
            if (valid) {
                ++next;
            } else {
                write(b, cell, nullptr);
            }
        }
    }

private:
    GradientSide(const View& view, const Rows& rows, const Metric& metric, const SideUpstream& upstream, const View& wanted,
                 const MatchAllSteps<T>& steps, int64_t vectors, int64_t others)
        : data(view, rows, metric, steps), gradient(wanted), upstream_(upstream), steps_(steps), of_score_(vectors),
          weight_(vectors), score_(vectors), log_best_(vectors), log_sum_exp_(vectors), best_(vectors),
          first_choice_(vectors + 2), choices_(others), separate_(vectors), nan_(vectors) {}

    double value(const void* numbers, int64_t i) const { return double(static_cast<const T*>(numbers)[i]); }

    void add_line(const VectorSet<T>& vectors, int64_t i, T weight, T* sum) const {
        steps_.add_line(vectors, i, weight, sum);
    }

    // sum += weight y_j, or weight sign(y_j - x_i)
    void add_pair(const GradientSide& other, int64_t i, int64_t j, T weight, T* sum) const {
        if (set().metric.kind == SIMPLEMATCH_L1) return steps_.add_signs(set(), i, other.set(), j, weight, sum);
        add_line(other.set(), j, weight, sum);
    }

    double probability_times_weight(int64_t i, double s, const Softmax& softmax) const {
        if (weight_[i] == 0) return 0;
        const double below = std::min(0.0, s - double(score_[i])) / softmax.temperature;
        return double(weight_[i]) * std::exp(below + double(log_best_[i]));
    }

    // `line` null: zeros.
    void write(int64_t b, int64_t cell, const T* line) const {
        const int64_t width = gradient.size[3];
        const int64_t at = b * gradient.stride[0] + cell / width * gradient.stride[2] + cell % width * gradient.stride[3];
        with_storage(gradient.dtype, [&](auto* type) {
            auto to = static_cast<decltype(type)>(gradient.data) + at;
            for (int64_t c = 0; c < gradient.size[1]; ++c)
                from_float(line == nullptr ? T(0) : line[c], to + c * gradient.stride[1]);
        });
    }

    SideUpstream upstream_;
    MatchAllSteps<T> steps_;
    Buffer<T> of_score_, weight_, score_, log_best_, log_sum_exp_;
    Buffer<int32_t> best_, first_choice_, choices_, separate_;
    Buffer<uint8_t> nan_;
    int64_t separate_count_ = 0;
    bool has_log_sum_exp_ = false, has_nan_ = false;
};

}  // namespace simplematch::cpu
