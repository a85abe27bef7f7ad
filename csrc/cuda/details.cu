// What a query has besides its match: the covariance of the expected point, and the best cell outside a window.
//
//     covariance = sum_m P[m] (c_m - out) (c_m - out)^T        second = argmax of s[m] over the cells m outside the window
//
// Block = one query, after `localize` has written its peak. Bytes: the window of the scores three times, mostly out of
// the nearest cache; for the second best 12 a tile of `similarity` that misses the rows of the window, the scores of the
// others, and the whole row without tiles.
#include "launch.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

struct Details {
    View scores;
    TileBest best;
    int64_t tile;  // cells of one of `best`
    CellMasks masks;
    View temperature;
    Localization localization;
    Block block;
    Matches matches;
};

template <class S, class T = Arithmetic<S>>
__device__ void write_covariance(const Details& a, const Row<S>& row, int64_t b, T* out, void* memory) {
    const SoftArgmax<T> s = soft_argmax<kThreads>(row, memory);
    T xx = 0, xy = 0, yy = 0;
    const auto add = [&](T weight, int32_t y, int32_t x) {
        const T dx = T(x - row.peak_x) - s.mean_x, dy = T(y - row.peak_y) - s.mean_y;
        xx += weight * dx * dx, xy += weight * dx * dy, yy += weight * dy * dy;
    };
    const int32_t columns = row.box.right - row.box.left;
    for (int32_t i = threadIdx.x; i < row.cells(); i += kThreads) {
        const int32_t y = row.box.top + i / columns, x = row.box.left + i % columns;
        if (row.supports(y, x)) add(s.exponential(row.weighted(y, x), row.temperature), y, x);
    }
    if (s.outside_count > 0) {
        const T each = s.exponential(s.outside_value, row.temperature);
        for (int32_t m = threadIdx.x; m < row.height * row.width; m += kThreads) {
            const int32_t y = m / row.width, x = m % row.width;
            if (row.is_outside(y, x)) add(each, y, x);
        }
    }
    xx = sum_of_block<kThreads>(xx, memory);
    xy = sum_of_block<kThreads>(xy, memory);
    yy = sum_of_block<kThreads>(yy, memory);
    if (threadIdx.x > 0) return;
    const AffineMaps from_cells = maps_from_cells(a.localization, b, row.height, row.width);
    const double rate_x = rate(from_cells.x), rate_y = rate(from_cells.y);
    const double total = s.lost ? not_a_number<double>() : double(s.total);
    out[0] = T(rate_x * rate_x * double(xx) / total);
    out[1] = out[2] = T(rate_x * rate_y * double(xy) / total);
    out[3] = T(rate_y * rate_y * double(yy) / total);
}

// `around`: the row with the window that the cell must lie outside of.
template <class S>
__device__ Best second_best(const Details& a, const Row<S>& around, void* memory) {
    const Box& box = around.box;
    const int32_t width = around.width, cells = around.height * width;
    int32_t first = 0, last = cells;  // cells to look at one by one
    Best best{kNoKey, INT32_MAX};
    if (a.best.key != nullptr) {
        const int64_t first_tile = int64_t(box.top) * width / a.tile, end = tiles_of(int64_t(box.bottom) * width, a.tile);
        first = int32_t(first_tile * a.tile);
        last = int32_t(end * a.tile < cells ? end * a.tile : cells);
        for (int64_t tile = threadIdx.x; tile < a.best.tiles; tile += kThreads) {
            if (tile >= first_tile && tile < end) continue;
            const int64_t slot = blockIdx.x * a.best.tiles + tile;
            best = better(best, {a.best.key[slot], a.best.cell[slot]});
        }
    }
    for (int32_t m = first + int32_t(threadIdx.x); m < last; m += kThreads) {
        const int32_t y = m / width, x = m % width;
        if (around.is_outside(y, x)) best = better(best, {ordered(around.score(y, x)), m});
    }
    return best_of_block<kThreads>(best, memory);
}

template <class S>
__global__ void __launch_bounds__(kThreads, 1) details_kernel(Details a) {
    using T = Arithmetic<S>;
    __shared__ Best memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.block.count, local = blockIdx.x % a.block.count, n = a.block.first + local;
    const int64_t out = b * a.block.total + n, peak = a.matches.peak[out];
    T* const covariance = a.matches.covariance == nullptr ? nullptr : static_cast<T*>(a.matches.covariance) + 4 * out;
    T* const second_score = static_cast<T*>(a.matches.second_score) + out;
    if (peak < 0) {
        if (threadIdx.x > 0) return;
        if (covariance != nullptr) covariance[0] = covariance[1] = covariance[2] = covariance[3] = T(0);
        if (a.matches.second_peak != nullptr) *second_score = T(0), a.matches.second_peak[out] = -1;
        return;
    }
    const int32_t height = int32_t(a.scores.size[2]), width = int32_t(a.scores.size[3]), cell = int32_t(peak);
    Row<S> row{static_cast<const S*>(a.scores.data) + b * a.scores.stride[0] + local * a.scores.stride[1],
               a.scores.stride[2], a.scores.stride[3],
               a.masks.of(b, n), height, width, cell / width,
               cell % width, window_box(a.localization.window, cell, height, width), a.localization.window,
               temperature_of<T>(a.temperature, a.localization, b, n)};
    if (covariance != nullptr) write_covariance(a, row, b, covariance, memory);
    if (a.matches.second_peak == nullptr) return;
    row.window = around_peak(a.localization);
    row.box = window_box(row.window, cell, height, width);
    const Best second = second_best(a, row, memory);
    if (threadIdx.x > 0) return;
    const bool there = second.key != kNoKey;
    *second_score = there ? row.score(second.cell / width, second.cell % width) : -infinity<T>();
    a.matches.second_peak[out] = there ? second.cell : -1;
}

}  // namespace

void details(const View& scores, const TileBest& best, int64_t tile, const Rows& rows, const View& temperature,
             const Localization& localization, const Block& block, const Matches& matches, Stream stream) {
    if (matches.covariance == nullptr && matches.second_peak == nullptr) return;
    const CellMasks masks = masks_of(rows, block.total, scores.size[2] * scores.size[3]);
    const Details arguments{scores, best, tile, masks, temperature, localization, block, matches};
    with_storage(scores.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(details_kernel<S>, block.images * block.count, kThreads, arguments, stream, "details");
    });
}

}  // namespace simplematch::cuda
