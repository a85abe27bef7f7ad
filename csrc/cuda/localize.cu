// localize (paper eq. 10-12): from scores to matches.
//
//     peak = argmax_m s[m]        P = softmax of s / T over the window        out = sum_m P[m] (x_m, y_m), in user units
//
// Block = one query. Bytes: 12 a tile, the window twice (the second time out of the nearest cache), or the whole row where
// `similarity` has not found its best cells; B N (rows x columns) numbers written if windows are kept. Offsets from the
// peak, not coordinates, are summed: they are smaller, so they round less. A row whose largest s or T is not finite answers
// NaN, and the log-sum-exp max s / T.
#include "launch.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

struct Localize {
    View scores;
    TileBest best;
    Rows rows;
    View temperature;
    Localization localization;
    Block block;
    Matches matches;
    void* kept;
    int64_t kept_queries;
};

template <class S>
__device__ Best find_best(const Localize& a, const S* scores, const uint8_t* mask) {
    Best best{kNoKey, INT32_MAX};
    if (a.best.key != nullptr) {
        const int64_t first = blockIdx.x * a.best.tiles;
        for (int64_t tile = threadIdx.x; tile < a.best.tiles; tile += kThreads)
            best = better(best, {a.best.key[first + tile], a.best.cell[first + tile]});
        return best;
    }
    const int32_t height = int32_t(a.scores.size[2]), width = int32_t(a.scores.size[3]);
    for (int32_t m = threadIdx.x; m < height * width; m += kThreads)
        if (mask == nullptr || mask[m] != 0)
            best = better(best, {ordered(widen(scores[m / width * a.scores.stride[2] + m % width * a.scores.stride[3]])), m});
    return best;
}

// The scores of the window, row by row of its box; zeros where the map has none.
template <class S>
__device__ void keep_window(const Row<S>& row, bool found, int32_t rows, int32_t columns, Arithmetic<S>* kept) {
    for (int32_t i = threadIdx.x; i < rows * columns; i += kThreads) {
        const int32_t y = row.box.top + i / columns, x = row.box.left + i % columns;
        kept[i] = found && y < row.box.bottom && x < row.box.right ? row.score(y, x) : Arithmetic<S>(0);
    }
}

template <class S>
__global__ void __launch_bounds__(kThreads, 1) localize_kernel(Localize a) {
    using T = Arithmetic<S>;
    __shared__ Best memory[kThreads / kWarp];
    const int64_t b = blockIdx.x / a.block.count, local = blockIdx.x % a.block.count, n = a.block.first + local;
    const int32_t height = int32_t(a.scores.size[2]), width = int32_t(a.scores.size[3]);
    const S* const scores = static_cast<const S*>(a.scores.data) + b * a.scores.stride[0] + local * a.scores.stride[1];
    const uint8_t* const mask = masks_of(a.rows, a.block.total, int64_t(height) * width).of(b, n);
    const Window& window = a.localization.window;

    Best best{kNoKey, 0};
    if (is_valid(a.rows, b, n, a.block.total)) best = best_of_block<kThreads>(find_best(a, scores, mask), memory);
    const bool found = best.key != kNoKey;
    const int32_t peak = found ? best.cell : 0;
    const Row<S> row{scores, a.scores.stride[2], a.scores.stride[3], mask, height, width, peak / width, peak % width,
                     window_box(window, peak, height, width), window, temperature_of<T>(a.temperature, a.localization, b, n)};
    if (a.kept != nullptr && n < a.kept_queries) {
        const int32_t rows = int32_t(box_rows(window, height)), columns = int32_t(box_columns(window, width));
        keep_window(row, found, rows, columns, static_cast<T*>(a.kept) + (b * a.kept_queries + n) * rows * columns);
    }

    const int64_t out = b * a.block.total + n;
    T* const keypoint = static_cast<T*>(a.matches.keypoints) + 2 * out;
    T* const score = static_cast<T*>(a.matches.score) + out;
    T* const log_sum_exp = static_cast<T*>(a.matches.log_sum_exp) + out;
    if (!found) {
        if (threadIdx.x > 0) return;
        keypoint[0] = keypoint[1] = T(-1);
        *score = *log_sum_exp = T(0);
        a.matches.peak[out] = -1;
        return;
    }
    const SoftArgmax<T> s = soft_argmax<kThreads>(row, memory);
    if (threadIdx.x > 0) return;
    const double offset = a.localization.output_offset;
    const T at_peak = row.score(row.peak_y, row.peak_x);
    const AffineMaps from_cells = maps_from_cells(a.localization, b, height, width);
    keypoint[0] = T(apply(from_cells.x, double(row.peak_x) + double(s.mean_x)) + offset);
    keypoint[1] = T(apply(from_cells.y, double(row.peak_y) + double(s.mean_y)) + offset);
    *score = at_peak;
    a.matches.peak[out] = peak;
    const T largest = s.largest / row.temperature;
    *log_sum_exp = s.lost ? largest : largest + log(s.total);
}

}  // namespace

void localize(const View& scores, const TileBest& best, const Rows& rows, const View& temperature,
              const Localization& localization, const Block& block, const Matches& matches, void* kept,
              int64_t kept_queries, Stream stream) {
    const Localize arguments{scores, best, rows, temperature, localization, block, matches, kept, kept_queries};
    with_storage(scores.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(localize_kernel<S>, block.images * block.count, kThreads, arguments, stream, "localize");
    });
}

}  // namespace simplematch::cuda
