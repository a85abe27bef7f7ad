// The window of a peak and its soft-argmax, shared by `localize` and `localize_backward`.
#pragma once

#include "common/window.h"
#include "coordinates.h"

namespace simplematch::cuda {

using Box = BoxOf<int32_t>;

// Numbers of type T for the cells of each query: of the whole map, or of the box of its window, whose first cell then
// comes first.
template <class T>
struct CellValues {
    T* data;
    int64_t image, query, row, column;  // strides
    bool whole_map;

    // Where cell (0, 0) of the map lies, or would.
    __device__ T* origin(int64_t b, int64_t n, const Box& box) const {
        T* const first = data + b * image + n * query;
        return whole_map ? first : first - box.top * row - box.left * column;
    }
};

// One query at work: its scores s[y * row + x * column], the window around its peak, and who takes part.
template <class S>
struct Row {
    using T = Arithmetic<S>;

    const S* scores;
    int64_t row, column;
    const uint8_t* mask;  // (M,) or null
    int32_t height, width, peak_y, peak_x;  // peak_y -1: no peak is known
    Box box;
    Window window;
    T temperature;

    __device__ int32_t cells() const { return (box.bottom - box.top) * (box.right - box.left); }

    __device__ T score(int32_t y, int32_t x) const { return widen(scores[y * row + x * column]); }

    // Whether a cell of the box takes part.
    __device__ bool supports(int32_t y, int32_t x) const {
        if (!in_shape(window, y - peak_y, x - peak_x)) return false;
        return mask == nullptr || mask[int64_t(y) * width + x] != 0;
    }

    // Whether a cell of the map takes part, and not that of the window.
    __device__ bool is_outside(int32_t y, int32_t x) const {
        if (mask != nullptr && mask[int64_t(y) * width + x] == 0) return false;
        return !(y >= box.top && y < box.bottom && x >= box.left && x < box.right && supports(y, x));
    }

    // s' of a cell: its score times its weight; infinity stays that, also where the weight underflows to 0.
    __device__ T weighted(int32_t y, int32_t x) const {
        const T s = score(y, x);
        return s == infinity<T>() || s == -infinity<T>() ? s : s * weight(y, x);
    }

    // What multiplies the score of a cell.
    __device__ T weight(int32_t y, int32_t x) const {
        if (!(window.sigma > 0)) return 1;
        const T dx = T(x - peak_x), dy = T(y - peak_y), sigma = T(window.sigma);
        return exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
    }
};

template <class T>
struct SoftArgmax {
    bool lost;                                 // max or T is not finite: the mean is NaN
    T largest, total;                          // max of s' (NaN above all), sum of exp((s' - max) / T)
    T mean_x, mean_y;                          // expected offset from the peak, in cells
    T outside_value;                           // score of the cells outside the window that count,
    T outside_count, outside_x, outside_y;     // their number, and the sums of their offsets

    // exp((s' - max) / T): 0 for a score of -inf, whatever T.
    __device__ T exponential(T weighted, T temperature) const {
        return weighted == -infinity<T>() ? T(0) : exp((weighted - largest) / temperature);
    }
};

// By all threads of a block, each of which gets the result. `memory`: as the reductions need it.
template <int THREADS, class S, class T = Arithmetic<S>>
__device__ inline SoftArgmax<T> soft_argmax(const Row<S>& row, void* memory) {
    const int32_t columns = row.box.right - row.box.left, cells = row.cells();
    SoftArgmax<T> result{};
    T largest = row.peak_y < 0 ? -infinity<T>() : row.score(row.peak_y, row.peak_x);
    long long count = 0, count_x = 0, count_y = 0;  // of the window, then of what is outside
    for (int32_t i = threadIdx.x; i < cells; i += THREADS) {
        const int32_t y = row.box.top + i / columns, x = row.box.left + i % columns;
        if (!row.supports(y, x)) continue;
        const T weighted = row.weighted(y, x);
        largest = weighted > largest || weighted != weighted ? weighted : largest;
        count -= 1, count_x -= x - row.peak_x, count_y -= y - row.peak_y;
    }
    result.largest = max_of_block<THREADS>(largest, memory);

    if (row.window.outside_value != -infinity<double>()) {
        for (int64_t m = threadIdx.x; m < int64_t(row.height) * row.width; m += THREADS)
            if (row.mask == nullptr || row.mask[m] != 0)
                count += 1, count_x += m % row.width - row.peak_x, count_y += m / row.width - row.peak_y;
        result.outside_count = T(sum_of_block<THREADS>(count, memory));
        result.outside_x = T(sum_of_block<THREADS>(count_x, memory));
        result.outside_y = T(sum_of_block<THREADS>(count_y, memory));
        result.outside_value = T(row.window.outside_value);
        if (result.outside_count > 0 && result.outside_value > result.largest) result.largest = result.outside_value;
    }

    result.lost = !is_finite(result.largest) || row.temperature != row.temperature;
    if (result.lost) {
        result.total = result.mean_x = result.mean_y = not_a_number<T>();
        return result;
    }
    T total = 0, sum_x = 0, sum_y = 0;
    for (int32_t i = threadIdx.x; i < cells; i += THREADS) {
        const int32_t y = row.box.top + i / columns, x = row.box.left + i % columns;
        if (!row.supports(y, x)) continue;
        const T p = result.exponential(row.weighted(y, x), row.temperature);
        total += p, sum_x += p * T(x - row.peak_x), sum_y += p * T(y - row.peak_y);
    }
    total = sum_of_block<THREADS>(total, memory);
    sum_x = sum_of_block<THREADS>(sum_x, memory);
    sum_y = sum_of_block<THREADS>(sum_y, memory);
    if (result.outside_count > 0) {
        const T each = result.exponential(result.outside_value, row.temperature);
        total += each * result.outside_count, sum_x += each * result.outside_x, sum_y += each * result.outside_y;
    }
    result.total = total, result.mean_x = sum_x / total, result.mean_y = sum_y / total;
    return result;
}

// Tensor temperatures are unchecked; a non-positive one yields NaN.
template <class T>
__device__ inline T temperature_of(const View& temperature, const Localization& localization, int64_t b, int64_t n) {
    if (temperature.data == nullptr) return T(localization.temperature);
    const T value = T(read_element(temperature, b * temperature.stride[0] + n * temperature.stride[1]));
    return value > 0 ? value : not_a_number<T>();
}

}  // namespace simplematch::cuda
