// Scores of a tile of match_all, kPanelRows x kPanelColumns, from the sums of its products.
#pragma once

#include "panels.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

template <class T>
struct TileOf {
    const VectorSet<T>& a;
    const VectorSet<T>& b;
    int64_t first_row, rows, first_column, columns;
    bool separate_columns;  // whether one of the columns is marked so
};

// The score of one pair from float64 products of what the sets hold.
template <class T>
double separate_score(const VectorSet<T>& a, int64_t n, const VectorSet<T>& b, int64_t m) {
    if (a.metric.kind == SIMPLEMATCH_COSINE) return __builtin_nan("");
    double product = 0, distance = 0, absolute = 0;
    with_storage_of(a, [&](auto* type) {
        using S = typename std::remove_pointer<decltype(type)>::type;
        const S* const x = static_cast<const S*>(a.view.data) + a.offset(n);
        const S* const y = static_cast<const S*>(b.view.data) + b.offset(m);
        for (int64_t c = 0; c < a.channels(); ++c) {
            const double p = double(to_float(x[c * a.view.stride[1]])), q = double(to_float(y[c * b.view.stride[1]]));
            product += p * q;
            distance += (p - q) * (p - q);
            absolute += __builtin_fabs(p - q);
        }
    });
    return a.metric.kind == SIMPLEMATCH_L2 ? -distance : a.metric.kind == SIMPLEMATCH_L1 ? -absolute : product;
}

// Scores of one panel of each set, as far as its numbers are enough: <a_i, b_j>, or -sum_c |a_ic - b_jc|.
template <class T>
SIMPLEMATCH_INLINE void meet_panels(const Metric& metric, const T* a, const T* b, int64_t channels, T* c) {
    if (metric.kind != SIMPLEMATCH_L1) return multiply_panels<MultiplyAdd<T>>(a, b, channels, c);
    multiply_panels<AddDistance<T>>(a, b, channels, c);
    for (int64_t i = 0; i < kPanelRows * kPanelColumns<T>; i += kLanes<T>) store<T>(c + i, Vector<T>{} - load<T>(c + i));
}

// -|a - b|^2 from products, and from float64 differences where it would lose digits.
template <class T>
void finish_distances(const TileOf<T>& t, T* tile) {
    constexpr int W = kPanelColumns<T>, n = kLanes<T>;
    T of_columns[W];
    for (int64_t j = 0; j < W; ++j) of_columns[j] = j < t.columns ? t.b.square[t.first_column + j] : T(0);
    for (int64_t i = 0; i < t.rows; ++i) {
        const T of_row = t.a.square[t.first_row + i];
        uint64_t unsafe[kPanelVectors], any = 0;
        for (int v = 0; v < kPanelVectors; ++v) {
            const Vector<T> squares = load<T>(of_columns + v * n) + of_row;
            const Vector<T> distance = squares - 2 * load<T>(tile + i * W + v * n);
            any |= unsafe[v] = ~greater_lanes<T>(distance, squares * T(0x1p-3));
            store<T>(tile + i * W + v * n, -distance);
        }
        any &= (uint64_t(1) << n) - 1;
        for (int64_t j = 0; any != 0 && j < t.columns; ++j)
            if (unsafe[j / n] >> j % n & 1)
                tile[i * W + j] = T(separate_score(t.a, t.first_row + i, t.b, t.first_column + j));
    }
}

template <class T>
SIMPLEMATCH_INLINE bool any_separate(const VectorSet<T>& set, int64_t first, int64_t count) {
    uint8_t marks = 0;
    for (int64_t i = 0; i < count; ++i) marks |= set.mark[first + i];
    return (marks & kSeparate) != 0;
}

// Writes -inf outside the tile's rows and columns, and to separate scores unless they are wanted. Returns whether there are
// none of them, so that all are numbers.
template <class T>
SIMPLEMATCH_INLINE bool finish_scores(const TileOf<T>& t, T* tile, bool want_separate) {
    constexpr int W = kPanelColumns<T>;
    if (t.a.metric.kind == SIMPLEMATCH_L2) finish_distances(t, tile);
    const bool separate = t.separate_columns || any_separate(t.a, t.first_row, t.rows);
    for (int64_t i = 0; separate && i < t.rows; ++i)
        for (int64_t j = 0; j < t.columns; ++j)
            if ((t.a.mark[t.first_row + i] | t.b.mark[t.first_column + j]) & kSeparate)
                tile[i * W + j] = want_separate ? T(separate_score(t.a, t.first_row + i, t.b, t.first_column + j))
                                                : -T(__builtin_inf());
    if (t.rows < kPanelRows || t.columns < W)
        for (int64_t i = 0; i < kPanelRows; ++i)
            for (int64_t j = i < t.rows ? t.columns : 0; j < W; ++j) tile[i * W + j] = -T(__builtin_inf());
    return !separate;
}

// Squares of the vectors of a packed panel.
template <class T>
void sum_squares(const T* panel, int64_t channels, T* squares) {
    constexpr int W = kPanelColumns<T>, n = kLanes<T>;
    constexpr int64_t chain = 64;
    for (int64_t j = 0; j < W; ++j) squares[j] = 0;
    for (int64_t c = 0; c < channels; c += chain)
        for (int v = 0; v < kPanelVectors; ++v) {
            Vector<T> sum{};
            for (int64_t k = c; k < channels && k < c + chain; ++k) {
                const Vector<T> x = load<T>(panel + k * W + v * n);
                sum += x * x;
            }
            store<T>(squares + v * n, load<T>(squares + v * n) + sum);
        }
}

// Norms, factors, squares and marks of one panel of `b`; those that sums of T do not give come from float64. Returns the
// greatest square of what is packed, infinity where scores are computed one by one.
template <class T, class S>
double measure_panel(const VectorSet<T>& set, int64_t first, T* scratch) {
    constexpr int W = kPanelColumns<T>;
    const bool cosine = set.metric.kind == SIMPLEMATCH_COSINE;
    const auto is_safe = [](T square, bool small_eps) {
        return std::is_same<T, double>::value ? square - square == 0 : is_safe_square(square, small_eps);
    };
    VectorSet<T> raw = set;
    raw.centre = nullptr;
    Panel<T, S, W> panel(raw, first, true, scratch);
    T squares[W];
    panel.pack();
    sum_squares(scratch, set.channels(), squares);
    double greatest = 0;
    for (int64_t j = 0; j < panel.count; ++j) {
        const bool safe = is_safe(squares[j], cosine ? eps_is_small(set.metric) : true);
        const double square = safe ? double(squares[j]) : panel.exact_square(j, nullptr);
        const double norm = __builtin_sqrt(square);
        if (set.norm != nullptr) set.norm[set.cell(first + j)] = T(norm);
        if (set.mark == nullptr) continue;
        const bool finite = square - square == 0;
        if (cosine) {
            set.mark[first + j] = safe ? kOrdinary : finite ? kScaled : kSeparate;
            set.factor[first + j] = safe ? T(1 / denominator(norm, set.metric)) : T(0);
            greatest = 1;
        } else {
            const bool ordinary = finite && T(square) <= T(kGreatestSafeSquare);
            set.mark[first + j] = ordinary ? kOrdinary : kSeparate;
            greatest = !ordinary ? __builtin_inf() : square > greatest ? square : greatest;
        }
    }
    if (set.square == nullptr) return greatest;

    Panel<T, S, W> centred(set, first, true, scratch);
    centred.pack();
    sum_squares(scratch, set.channels(), squares);
    greatest = 0;
    for (int64_t j = 0; j < panel.count; ++j) {
        const bool ordinary = set.mark[first + j] == kOrdinary && squares[j] <= T(kGreatestSafeSquare);
        set.mark[first + j] = ordinary ? kOrdinary : kSeparate;
        set.square[first + j] = ordinary ? squares[j] : T(0);
        greatest = !ordinary ? __builtin_inf() : double(squares[j]) > greatest ? double(squares[j]) : greatest;
    }
    return greatest;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
