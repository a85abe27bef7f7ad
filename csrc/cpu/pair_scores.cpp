// pair_scores and its backward: a few pairs, or a few rows of a set, of one image.
//
// Sums are made in float64, so they are right at every magnitude of float32. A row is read where it lies if its channels lie
// side by side; else some rows are copied. Bytes: both rows of each pair read, and each row of both gradients written once. Where
// a row has one pair, as in most losses, the backward reads nothing twice either.
#include "common/pair.h"
#include "pair_rows.h"
#include "wide.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

using Wide = Vector<double>;
constexpr int kWide = kLanes<double>;

// kWide channels from c on, and the last ones, which are fewer: zeros stand for the others.
struct WholeVector {
    int64_t c;

    template <class S>
    SIMPLEMATCH_INLINE Wide read(const S* row) const { return load_wide(row + c); }
    template <class S>
    SIMPLEMATCH_INLINE void write(S* row, Wide value) const { store_wide(row + c, value); }
};

struct LastVector {
    int64_t c, count;

    template <class S>
    SIMPLEMATCH_INLINE Wide read(const S* row) const { return load_wide_first(row + c, count); }
    template <class S>
    SIMPLEMATCH_INLINE void write(S* row, Wide value) const { store_wide_first(row + c, value, count); }
};

// Calls step with each vector of a row.
template <class F>
SIMPLEMATCH_INLINE void for_each_vector(int64_t channels, F&& step) {
    int64_t c = 0;
    for (; c + kWide <= channels; c += kWide) step(WholeVector{c});
    if (c < channels) step(LastVector{c, channels - c});
}

// total[i] = sum over the channels of term i of x and y; two sums each, so that none waits for the one before.
template <int terms, class S, class F>
SIMPLEMATCH_INLINE void sum_channels(const S* x, const S* y, int64_t channels, double (&total)[terms], F&& add) {
    Wide even[terms] = {}, odd[terms] = {};
    int64_t c = 0;
    for (; c + 2 * kWide <= channels; c += 2 * kWide) {
        add(even, load_wide(x + c), load_wide(y + c));
        add(odd, load_wide(x + c + kWide), load_wide(y + c + kWide));
    }
    if (c + kWide <= channels) {
        add(even, load_wide(x + c), load_wide(y + c));
        c += kWide;
    }
    if (c < channels) add(odd, load_wide_first(x + c, channels - c), load_wide_first(y + c, channels - c));
    for (int i = 0; i < terms; ++i) total[i] = sum<double>(even[i] + odd[i]);
}

template <class S>
double score_of(const S* x, const S* y, int64_t channels, const Metric& metric) {
    if (metric.kind == SIMPLEMATCH_COSINE) {
        double sums[3];
        sum_channels(x, y, channels, sums, [](Wide* to, Wide q, Wide f) __attribute__((always_inline)) {
            to[0] += q * q, to[1] += f * f, to[2] += q * f;
        });
        return sums[2] / denominator(__builtin_sqrt(sums[0]), metric) / denominator(__builtin_sqrt(sums[1]), metric);
    }
    double result[1];
    if (metric.kind == SIMPLEMATCH_DOT) {
        sum_channels(x, y, channels, result,
                     [](Wide* to, Wide q, Wide f) __attribute__((always_inline)) { to[0] += q * f; });
    } else if (metric.kind == SIMPLEMATCH_L2) {
        sum_channels(x, y, channels, result,
                     [](Wide* to, Wide q, Wide f) __attribute__((always_inline)) { to[0] -= (q - f) * (q - f); });
    } else {
        sum_channels(x, y, channels, result,
                     [](Wide* to, Wide q, Wide f) __attribute__((always_inline)) { to[0] -= q < f ? f - q : q - f; });
    }
    return result[0];
}

// Asks for the beginning of a row; the processor finds out about the rest by itself.
template <class S>
SIMPLEMATCH_INLINE void fetch_row(const S* row, int64_t channels) {
    constexpr int64_t line = 64 / int64_t(sizeof(S));
    const int64_t last = channels < 32 * line ? channels : 32 * line;
    for (int64_t c = 0; c < last; c += line) __builtin_prefetch(row + c, 0, 3);
}

template <class S>
void scores_of(const PairProblem& p, int64_t b, int64_t first, int64_t last, void* scores, double* scratch) {
    const int64_t channels = p.a.size[1], count = last - first;
    const int64_t *const index_a = p.index_a + b * p.pairs + first, *const index_b = p.index_b + b * p.pairs + first;
    const auto known = [&](int64_t i) {
        return index_a[i] >= 0 && index_b[i] >= 0 && index_a[i] < cells_of(p.a) && index_b[i] < cells_of(p.b);
    };
    int64_t cells_a[kMostPairRows], cells_b[kMostPairRows];
    for (int64_t i = 0; i < count; ++i) {
        cells_a[i] = known(i) ? index_a[i] : -1;
        cells_b[i] = known(i) ? index_b[i] : -1;
    }
    const S *x[kMostPairRows], *y[kMostPairRows];
    locate_rows(p.a, b, cells_a, count, copies<S>(scratch, p.a), x);
    locate_rows(p.b, b, cells_b, count, copies<S>(scratch, p.b), y);
    using T = Number<S>;
    T* const to = static_cast<T*>(scores) + b * p.pairs + first;
    for (int64_t i = 0; i < count; ++i) {
        if (i + 1 < count && known(i + 1)) fetch_row(x[i + 1], channels), fetch_row(y[i + 1], channels);
        const bool padding = index_a[i] < 0 || index_b[i] < 0;
        to[i] = padding ? T(0) : known(i) ? T(score_of(x[i], y[i], channels, p.metric)) : T(__builtin_nan(""));
    }
}

// ---- backward ----------------------------------------------------------------------------------------------------

template <class S>
class RowGradients {
public:
    RowGradients(const PairBackward& w, int64_t b, double* scratch)
        : w_(w), b_(b), channels_(w.own.features.size[1]), start_(w.own.starts(b)), order_(w.own.order + b * w.pairs),
          sums_(scratch) {
        scratch += cell_row(channels_);
        copy_of_own_ = copies<S>(scratch, w.own.features);
        copy_of_other_ = copies<S>(scratch, w.other.features);
        copy_of_gradient_ = copies<S>(scratch, w.own.gradient);
    }

    void write(int64_t first, int64_t last) {
        const bool in_place = has_rows(w_.own.gradient);
        const S* rows[kMostPairRows];
        int64_t cells[kMostPairRows];
        for (int64_t i = 0; i < last - first; ++i) cells[i] = first + i;
        locate_rows(w_.own.features, b_, cells, last - first, copy_of_own_, rows);
        last_pair_ = start_[last];
        for (int64_t n = first; n < last; ++n) {
            if (is_written(n)) continue;
            write_row(n, rows[n - first], in_place ? place(w_.own, n) : copy_of_gradient_ + (n - first) * cell_row(channels_));
        }
        if (!in_place) write_rows(w_.own.gradient, b_, first, last - first, copy_of_gradient_);
    }

private:
    // Row n of the gradient of `side`, in place.
    S* place(const PairSide& side, int64_t n) const {
        return static_cast<S*>(side.gradient.data) + b_ * side.gradient.stride[0] + offset_of(side.gradient, n);
    }

    double score(int64_t k) const { return static_cast<const Number<S>*>(w_.scores)[b_ * w_.pairs + k]; }
    int64_t other_of(int64_t k) const { return w_.other.index[b_ * w_.pairs + k]; }

    // What arrives at pair k: 0 has no part in any sum, and NaN stands for all that isn't finite.
    double arriving(int64_t k) const {
        const double ds = read_element(w_.upstream, b_ * w_.upstream.stride[0] + k * w_.upstream.stride[1]);
        const bool known = other_of(k) < w_.other.rows() && ds - ds == 0 && score(k) - score(k) == 0;
        return ds == 0 || known ? ds : __builtin_nan("");
    }

    // The other row of the pair order_[j]; asked for in the order of j.
    const S* other_row(int64_t j) {
        if (j >= next_pair_) {
            int64_t cells[kMostPairRows];
            first_pair_ = j;
            next_pair_ = least_of(last_pair_, j + kMostPairRows);
            for (int64_t i = j; i < next_pair_; ++i) {
                const int64_t m = other_of(order_[i]);
                cells[i - j] = m < w_.other.rows() ? m : -1;
            }
            locate_rows(w_.other.features, b_, cells, next_pair_ - j, copy_of_other_, others_);
        }
        if (j + 1 < next_pair_ && others_[j + 1 - first_pair_] != nullptr) fetch_row(others_[j + 1 - first_pair_], channels_);
        return others_[j - first_pair_];
    }

    // Where the gradient of the other row of pair k is written beside that of the own one, or null.
    S* beside(int64_t k) const {
        const int64_t m = other_of(k);
        if (!w_.writes_other || m >= w_.other.rows()) return nullptr;
        const int64_t* const start = w_.other.starts(b_) + m;
        return start[1] - start[0] == 1 ? place(w_.other, m) : nullptr;
    }

    // Whether that has been done for row n.
    bool is_written(int64_t n) const {
        return w_.left_by_other && start_[n + 1] - start_[n] == 1 && other_of(order_[start_[n]]) < w_.other.rows();
    }

    void fill(S* to, double value) const {
        for_each_vector(channels_, [&](auto at) __attribute__((always_inline)) { at.write(to, broadcast(value)); });
    }

    void write_row(int64_t n, const S* x, S* to) {
        const int64_t first = start_[n], last = start_[n + 1];
        if (last - first == 1) return write_single(first, x, to);
        for (int64_t c = 0; c < channels_; c += kWide) store<double>(sums_ + c, Wide{});
        bool known = true;
        for (int64_t j = first; j < last; ++j) known = add_pair(j, x) && known;
        if (last == first || !known) return fill(to, known ? 0 : __builtin_nan(""));
        for_each_vector(channels_, [&](auto at) __attribute__((always_inline)) { at.write(to, load<double>(sums_ + at.c)); });
    }

    // Calls write(at, dx, dy) for each vector of the gradients of both rows by one pair.
    template <class F>
    SIMPLEMATCH_INLINE void for_each_gradient(const S* x, const S* y, double ds, double s, F&& write) const {
        if (w_.metric.kind == SIMPLEMATCH_L1) {
            const Wide one = broadcast(1.0), zero{};
            for_each_vector(channels_, [&](auto at) __attribute__((always_inline)) {
                const Wide q = at.read(x), f = at.read(y), sign = (f > q ? one : zero) - (f < q ? one : zero);
                write(at, ds * sign, -ds * sign);
            });
            return;
        }
        double squares[2] = {0, 0};
        if (w_.metric.kind == SIMPLEMATCH_COSINE)
            sum_channels(x, y, channels_, squares,
                         [](Wide* to, Wide q, Wide f) __attribute__((always_inline)) { to[0] += q * q, to[1] += f * f; });
        const PairFactors of_x = pair_factors(ds, s, __builtin_sqrt(squares[0]), w_.metric);
        const PairFactors of_y = pair_factors(ds, s, __builtin_sqrt(squares[1]), w_.metric);
        for_each_vector(channels_, [&](auto at) __attribute__((always_inline)) {
            const Wide q = at.read(x), f = at.read(y);
            write(at, of_x.weight * (of_y.scale * f) - of_x.own * (of_x.direction * q),
                  of_y.weight * (of_x.scale * q) - of_y.own * (of_y.direction * f));
        });
    }

    void write_single(int64_t j, const S* x, S* to) {
        const S* const y = other_row(j);
        const int64_t k = order_[j];
        const double ds = arriving(k);
        S* const also = beside(k);
        if (ds == 0 || ds != ds) {
            fill(to, ds);
            if (also != nullptr) fill(also, ds);
        } else if (also != nullptr) {
            for_each_gradient(x, y, ds, score(k), [&](auto at, Wide dx, Wide dy) __attribute__((always_inline)) {
                at.write(to, dx);
                at.write(also, dy);
            });
        } else {
            for_each_gradient(x, y, ds, score(k),
                              [&](auto at, Wide dx, Wide) __attribute__((always_inline)) { at.write(to, dx); });
        }
    }

    // To the sums of a row with several pairs; whether these are numbers.
    bool add_pair(int64_t j, const S* x) {
        const S* const y = other_row(j);
        const int64_t k = order_[j];
        const double ds = arriving(k);
        S* const also = beside(k);
        if (ds == 0 || ds != ds) {
            if (also != nullptr) fill(also, ds);
            return ds == 0;
        }
        for_each_gradient(x, y, ds, score(k), [&](auto at, Wide dx, Wide dy) __attribute__((always_inline)) {
            store<double>(sums_ + at.c, load<double>(sums_ + at.c) + dx);
            if (also != nullptr) at.write(also, dy);
        });
        return true;
    }

    const PairBackward& w_;
    const int64_t b_, channels_;
    const int64_t *const start_, *const order_;
    double* const sums_;
    S *copy_of_own_, *copy_of_other_, *copy_of_gradient_;
    const S* others_[kMostPairRows];
    int64_t last_pair_ = 0, first_pair_ = 0, next_pair_ = 0;  // others_ are those of the pairs from first_pair_ to next_pair_
};

}  // namespace

static void pair_scores(const PairProblem& p, int64_t b, int64_t first, int64_t last, void* scores, double* scratch) {
    with_storage(p.a.dtype, [&](auto* type) {
        scores_of<typename std::remove_pointer<decltype(type)>::type>(p, b, first, last, scores, scratch);
    });
}

static void pair_gradient(const PairBackward& w, int64_t b, int64_t first, int64_t last, double* scratch) {
    with_storage(w.own.features.dtype, [&](auto* type) {
        RowGradients<typename std::remove_pointer<decltype(type)>::type>(w, b, scratch).write(first, last);
    });
}

PairSteps pair_steps() { return {pair_scores, pair_gradient}; }

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
