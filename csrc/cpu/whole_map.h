// localize and localize_backward of the usual soft-argmax: over a whole map, without mask and gaussian.
//
// The map is one line of cells here, read where it lies, however short its rows are. Scores that aren't finite and
// temperatures at the ends of the type are left to the general code of window.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

template <class T>
inline bool is_finite(T x) {
    return x - x == 0;
}

// Whether finite upstream gradients arrive at a row: zeros, NaN and infinities have rules of their own.
template <class T>
inline bool has_finite_upstream(const RowGradient<T>& g) {
    const bool arrives = g.x != 0 || g.y != 0 || g.score != 0 || g.log_sum_exp != 0;
    return arrives && is_finite(g.x + g.y + g.score + g.log_sum_exp);
}

// Within these bounds neither 1 / T nor its product with a weight leaves the type before the result does.
template <class T>
inline bool is_moderate(T inverse) {
    return inverse > T(1e-25) && inverse < T(1e25);
}

template <class T>
inline bool is_whole_map(const RowWork<T>& w) {
    return w.strip.rows > 0 && w.mask == nullptr && covers_map(w.window, w.height, w.width) && w.row_stride == w.width &&
           is_moderate(1 / w.temperature);
}

// NaN doesn't count.
template <class T>
T greatest_of(const T* scores, int64_t count) {
    constexpr int n = kLanes<T>;
    const Vector<T> lowest = broadcast(-T(__builtin_inf()));
    Vector<T> a = lowest, b = lowest, c = lowest, d = lowest;  // one would wait for itself
    int64_t i = 0;
    for (; i + 4 * n <= count; i += 4 * n) {
        a = larger<T>(load<T>(scores + i), a);
        b = larger<T>(load<T>(scores + i + n), b);
        c = larger<T>(load<T>(scores + i + 2 * n), c);
        d = larger<T>(load<T>(scores + i + 3 * n), d);
    }
    for (; i + n <= count; i += n) a = larger<T>(load<T>(scores + i), a);
    if (i < count) b = larger<T>(load_first<T>(scores + i, count - i, lowest[0]), b);
    return largest_lane<T>(larger<T>(larger<T>(a, b), larger<T>(c, d)));
}

// The lowest index of `value`, which must occur. For maps of up to kTile cells, no branch depends on the index.
template <class T>
int64_t index_of(const T* scores, int64_t count, T value) {
    constexpr int n = kLanes<T>;
    const Vector<T> wanted = broadcast(value);
    int64_t i = 0;
    for (;;) {
        uint64_t found = 0;
        for (int lane = 0; lane < kTile && i + lane < count; lane += n) {
            const T* const from = scores + i + lane;
            const int64_t rest = count - i - lane;
            const Vector<T> here = rest >= n ? load<T>(from) : load_first<T>(from, rest, T(__builtin_nan("")));
            found |= equal_lanes<T>(here, wanted) << lane;
        }
        if (found != 0) return i + __builtin_ctzll(found);
        i += kTile;
    }
}

// Of the weights exp((s - largest) / T), and of the weights times coordinates relative to the peak.
struct MapSums {
    double total, x, y;
};

template <class T>
struct MapPeak {
    int64_t x, y;
    T score;
};

// Calls step(first cell, number of cells, y of the first row relative to the peak) for each strip.
template <class T, class Step>
SIMPLEMATCH_INLINE void for_each_strip(const RowWork<T>& w, const MapPeak<T>& peak, Step&& step) {
    for (int64_t y = 0; y < w.height; y += w.strip.rows) {
        const int64_t rows = y + w.strip.rows < w.height ? w.strip.rows : w.height - y;
        step(y * w.width, rows * w.width, T(y - peak.y));
    }
}

// Weights go to `weights` unless that is null.
template <bool kKeep, class T>
MapSums weigh_map(const RowWork<T>& w, const MapPeak<T>& peak, T* weights) {
    constexpr int n = kLanes<T>;
    const T inverse = 1 / w.temperature, peak_x = T(peak.x);
    MapSums sums{0, 0, 0};
    for_each_strip(w, peak, [&](int64_t first, int64_t count, T dy) {
        const T* const from = w.scores + first;
        Vector<T> total{}, total_x{}, total_y{};
        const auto weigh = [&](int64_t i, Vector<T> scores) {
            const Vector<T> weight = exponential((scores - peak.score) * inverse);
            total += weight;
            total_x += weight * (load<T>(w.strip.x + i) - peak_x);
            total_y += weight * (load<T>(w.strip.y + i) + dy);
            return weight;
        };
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            const Vector<T> weight = weigh(i, load<T>(from + i));
            if constexpr (kKeep) store<T>(weights + first + i, weight);
        }
        if (i < count) {
            const Vector<T> weight = weigh(i, load_first<T>(from + i, count - i, -T(__builtin_inf())));
            if constexpr (kKeep) store_first<T>(weights + first + i, weight, count - i);
        }
        sums.total += double(sum<T>(total));
        sums.x += double(sum<T>(total_x));
        sums.y += double(sum<T>(total_y));
    });
    return sums;
}

// False: not a case for this file.
template <class T>
bool localize_whole_map(const RowWork<T>& w, RowResult& result) {
    const int64_t cells = w.height * w.width;
    const T greatest = greatest_of(w.scores, cells);
    if (!is_finite(greatest)) return false;
    result.peak = index_of(w.scores, cells, greatest);
    result.score = double(greatest);
    const MapPeak<T> peak{result.peak % w.width, result.peak / w.width, greatest};
    const MapSums sums = weigh_map<false, T>(w, peak, nullptr);
    if (sums.total != sums.total) return false;  // a score is NaN
    result.x = double(peak.x) + sums.x / sums.total;
    result.y = double(peak.y) + sums.y / sums.total;
    result.log_sum_exp = double(greatest) / double(w.temperature) + __builtin_log(sums.total);
    return true;
}

// ds = P / T a, with a = g_x dx + g_y dy + rest; `gradient.scores` holds the weights before.
template <class T>
void weights_to_gradient(const RowWork<T>& w, const MapPeak<T>& peak, const MapSums& sums, RowGradient<T>& gradient) {
    constexpr int n = kLanes<T>;
    const T peak_x = T(peak.x), g_x = T(gradient.x), g_y = T(gradient.y);
    const T scale = T(1 / (sums.total * double(w.temperature)));
    const T rest = T(gradient.log_sum_exp - gradient.x * sums.x / sums.total - gradient.y * sums.y / sums.total);
    for_each_strip(w, peak, [&](int64_t first, int64_t count, T dy) {
        T* const to = gradient.scores + first;
        const auto ds = [&](int64_t i, Vector<T> weight) {
            const Vector<T> dx = load<T>(w.strip.x + i) - peak_x;
            const Vector<T> a = g_x * dx + (g_y * (load<T>(w.strip.y + i) + dy) + rest);
            return weight == T(0) ? Vector<T>{} : weight * scale * a;  // a may be infinite
        };
        int64_t i = 0;
        for (; i + n <= count; i += n) store<T>(to + i, ds(i, load<T>(to + i)));
        if (i < count) store_first<T>(to + i, ds(i, load_first<T>(to + i, count - i)), count - i);
    });
    gradient.scores[peak.y * w.width + peak.x] += T(gradient.score);
}

// False: not a case for this file, and the contents of the gradient are undefined.
template <class T>
bool whole_map_backward(const RowWork<T>& w, RowGradient<T>& gradient) {
    if (!gradient.only_scores || gradient.stride != w.width) return false;
    if (!has_finite_upstream(gradient)) return false;
    // No score is greater, and none is NaN: either would be the peak.
    const MapPeak<T> peak{gradient.peak % w.width, gradient.peak / w.width, w.scores[gradient.peak]};
    if (!is_finite(peak.score)) return false;
    weights_to_gradient(w, peak, weigh_map<true>(w, peak, gradient.scores), gradient);
    return true;
}

}  // namespace
}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
