// localize and localize_backward of whole_map.h for small maps: kLanes<T> rows at a time, each in a lane of its own, so that
// nothing is summed across lanes and no lane is empty.
#include "whole_map.h"

namespace simplematch::cpu::SIMPLEMATCH_LEVEL {
namespace {

// Some rows as [cell][lane], and what belongs to each lane.
template <class T>
struct LaneBlock {
    T cells[kTile * kLanes<T>];
    T largest[kLanes<T>], inverse[kLanes<T>], peak_x[kLanes<T>], peak_y[kLanes<T>];
    T total[kLanes<T>], x[kLanes<T>], y[kLanes<T>];
    T g_x[kLanes<T>], g_y[kLanes<T>], rest[kLanes<T>], scale[kLanes<T>];
};

template <class T>
void load_lanes(const SmallMaps<T>& w, int64_t first, int64_t rows, LaneBlock<T>& block) {
    constexpr int n = kLanes<T>;
    const int64_t cells = w.height * w.width;
    for (int64_t m = 0; m < cells; m += n) {
        Vector<T> square[n] = {};
        const T* const from = w.scores + first * w.stride + m;
        if (rows == n && cells - m >= n) {  // apart, so that the square stays in registers
            for (int i = 0; i < n; ++i) square[i] = load<T>(from + i * w.stride);
        } else {
            for (int64_t i = 0; i < rows; ++i)
                square[i] = load_first<T>(from + i * w.stride, cells - m < n ? cells - m : n);
        }
        transpose<T>(square);
        for (int i = 0; i < n; ++i) store<T>(block.cells + (m + i) * n, square[i]);
    }
    for (int i = 0; i < n; ++i) block.inverse[i] = i < rows ? 1 / w.temperature[first + i] : T(1);
}

template <class T>
void set_peak(const SmallMaps<T>& w, LaneBlock<T>& block, int lane, int64_t peak) {
    block.peak_x[lane] = w.strip.x[peak];
    block.peak_y[lane] = w.strip.y[peak];
}

// Sums as in MapSums; the cells become weights.
template <class T>
void weigh_lanes(const SmallMaps<T>& w, LaneBlock<T>& block) {
    constexpr int n = kLanes<T>;
    const Vector<T> largest = load<T>(block.largest), inverse = load<T>(block.inverse);
    const Vector<T> peak_x = load<T>(block.peak_x), peak_y = load<T>(block.peak_y);
    Vector<T> total{}, total_x{}, total_y{};
    for (int64_t m = 0; m < w.height * w.width; ++m) {
        const Vector<T> weight = exponential((load<T>(block.cells + m * n) - largest) * inverse);
        store<T>(block.cells + m * n, weight);
        total += weight;
        total_x += weight * (w.strip.x[m] - peak_x);
        total_y += weight * (w.strip.y[m] - peak_y);
    }
    store<T>(block.total, total);
    store<T>(block.x, total_x);
    store<T>(block.y, total_y);
}

// The lowest index of the greatest score of each lane; NaN doesn't count.
template <class T>
void find_peaks(const SmallMaps<T>& w, LaneBlock<T>& block, T* peak) {
    constexpr int n = kLanes<T>;
    Vector<T> greatest = broadcast(-T(__builtin_inf())), index{};
    for (int64_t m = 0; m < w.height * w.width; ++m) {
        const Vector<T> v = load<T>(block.cells + m * n);
        index = v > greatest ? broadcast(T(m)) : index;
        greatest = larger<T>(v, greatest);
    }
    store<T>(block.largest, greatest);
    store<T>(peak, index);
}

// The upstream gradients of a lane, if this file serves its row.
template <class T>
bool set_upstream(const RowGradient<T>& g, LaneBlock<T>& block, int lane) {
    if (!has_finite_upstream(g)) return false;
    const double total = double(block.total[lane]);
    block.g_x[lane] = T(g.x);
    block.g_y[lane] = T(g.y);
    block.rest[lane] = T(g.log_sum_exp - g.x * double(block.x[lane]) / total - g.y * double(block.y[lane]) / total);
    block.scale[lane] = T(double(block.inverse[lane]) / total);
    return true;
}

// ds = P / T a, as in weights_to_gradient; the cells are weights before.
template <class T>
void lanes_to_gradient(const SmallMaps<T>& w, LaneBlock<T>& block) {
    constexpr int n = kLanes<T>;
    const Vector<T> peak_x = load<T>(block.peak_x), peak_y = load<T>(block.peak_y), g_x = load<T>(block.g_x);
    const Vector<T> g_y = load<T>(block.g_y), rest = load<T>(block.rest), scale = load<T>(block.scale);
    for (int64_t m = 0; m < w.height * w.width; ++m) {
        const Vector<T> weight = load<T>(block.cells + m * n);
        const Vector<T> a = g_x * (w.strip.x[m] - peak_x) + (g_y * (w.strip.y[m] - peak_y) + rest);
        store<T>(block.cells + m * n, weight == T(0) ? Vector<T>{} : weight * scale * a);
    }
}

template <class T>
void store_lanes(const SmallMaps<T>& w, const LaneBlock<T>& block, const RowGradient<T>* rows, uint64_t which) {
    constexpr int n = kLanes<T>;
    const int64_t cells = w.height * w.width;
    for (int64_t m = 0; m < cells; m += n) {
        Vector<T> square[n];
        for (int i = 0; i < n; ++i) square[i] = load<T>(block.cells + (m + i) * n);
        transpose<T>(square);
        if (which == (uint64_t(1) << n) - 1 && cells - m >= n) {  // apart, as above
            for (int i = 0; i < n; ++i) store<T>(rows[i].scores + m, square[i]);
            continue;
        }
        for (int i = 0; i < n; ++i) {
            if ((which >> i & 1) == 0) continue;
            if (cells - m >= n) {
                store<T>(rows[i].scores + m, square[i]);
            } else {
                store_first<T>(rows[i].scores + m, square[i], cells - m);
            }
        }
    }
}

}  // namespace

template <class T>
uint64_t localize_small(const SmallMaps<T>& w, RowResult* results) {
    constexpr int n = kLanes<T>;
    LaneBlock<T> block;
    uint64_t done = 0;
    for (int64_t first = 0; first < w.rows; first += n) {
        const int rows = int(w.rows - first < n ? w.rows - first : n);
        T peak[n];
        load_lanes(w, first, rows, block);
        find_peaks(w, block, peak);
        for (int i = 0; i < n; ++i) set_peak(w, block, i, int64_t(peak[i]));
        weigh_lanes(w, block);
        for (int i = 0; i < rows; ++i) {
            const T largest = block.largest[i], total = block.total[i];
            if (!is_finite(largest) || total != total || !is_moderate(block.inverse[i])) continue;
            const double logit = double(largest) / double(w.temperature[first + i]);
            results[first + i] = {int64_t(peak[i]), double(largest),
                                  double(block.peak_x[i]) + double(block.x[i]) / double(total),
                                  double(block.peak_y[i]) + double(block.y[i]) / double(total),
                                  logit + __builtin_log(double(total))};
            done |= uint64_t(1) << (first + i);
        }
    }
    return done;
}

template <class T>
uint64_t localize_small_backward(const SmallMaps<T>& w, const RowGradient<T>* gradients) {
    constexpr int n = kLanes<T>;
    LaneBlock<T> block;
    uint64_t done = 0;
    for (int64_t first = 0; first < w.rows; first += n) {
        const int rows = int(w.rows - first < n ? w.rows - first : n);
        const RowGradient<T>* const here = gradients + first;
        load_lanes(w, first, rows, block);
        for (int i = 0; i < n; ++i) {
            const int64_t peak = i < rows && here[i].peak >= 0 ? here[i].peak : 0;
            set_peak(w, block, i, peak);
            block.largest[i] = block.cells[peak * n + i];
            block.g_x[i] = block.g_y[i] = block.rest[i] = block.scale[i] = 0;
        }
        weigh_lanes(w, block);
        uint64_t served = 0;
        for (int i = 0; i < rows; ++i) {
            const bool usual = here[i].peak >= 0 && is_finite(block.largest[i]) && is_moderate(block.inverse[i]);
            if (usual && set_upstream(here[i], block, i)) served |= uint64_t(1) << i;
        }
        lanes_to_gradient(w, block);
        for (int i = 0; i < rows; ++i)
            if (served >> i & 1) block.cells[here[i].peak * n + i] += T(here[i].score);
        store_lanes(w, block, here, served);
        done |= served << first;
    }
    return done;
}

template uint64_t localize_small<float>(const SmallMaps<float>&, RowResult*);
template uint64_t localize_small<double>(const SmallMaps<double>&, RowResult*);
template uint64_t localize_small_backward<float>(const SmallMaps<float>&, const RowGradient<float>*);
template uint64_t localize_small_backward<double>(const SmallMaps<double>&, const RowGradient<double>*);

}  // namespace simplematch::cpu::SIMPLEMATCH_LEVEL
