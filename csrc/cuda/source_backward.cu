// source_backward: from the gradients of the queries to that of the map they were sampled from, and of the keypoints.
//
//     dFs_m = sum_n weight[n, m] dq_n        dp_n = sum_c dq_n[c] d q_n[c] / d p_n   (bilinear)
//
// The first blocks = 64 cells x 64 channels of one image each, the others one keypoint each. A keypoint's row is added
// only to the tiles that it falls in, in the order of the queries: bitwise repeatable, and a NaN stays in its own cells.
// Bytes: dFs written, N C read: 97.5 MB at the paper's shape in float32.
#include "launch.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256, kCells = 64, kChannels = 64;
constexpr int kEach = kCells * kChannels / kThreads;
constexpr int kQueries = 64;  // looked at together
constexpr int kWordsOfQueries = kQueries / kWarp;

struct Arguments {
    SourceBackward step;
    int64_t tiles;  // blocks that fill tiles
};

// What a keypoint adds to a tile: weights of up to four of its cells, -1 for none.
template <class T>
struct Hit {
    int16_t cell[4];
    T weight[4];
};

__device__ inline bool is_query(const SourceBackward& step, int64_t b, int64_t n) {
    return step.peak == nullptr || step.peak[b * step.keypoints.size[1] + n] >= 0;
}

template <class T>
__device__ bool find_hit(const SourceBackward& step, int64_t b, int64_t n, int64_t m0, Hit<T>& hit) {
    if (!is_query(step, b, n)) return false;
    const Sample sample = sample_query(step.source, step.keypoints, step.sampling, b, n);
    if (!sample.finite) return false;
    const int64_t height = step.source.size[2], width = step.source.size[3];
    bool any = false;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const Corner at = corner(sample, k / 2, k % 2, height, width);
        const int64_t cell = at.y * width + at.x - m0;
        const T weight = T(at.weight_x * at.weight_y);
        const bool here = at.inside && (sample.bilinear || k == 0) && cell >= 0 && cell < kCells;
        hit.cell[k] = here && weight != 0 ? int16_t(cell) : int16_t(-1);
        hit.weight[k] = weight;
        any = any || hit.cell[k] >= 0;
    }
    return any;
}

// Channel c of the gradient of query n: the sum of its parts.
template <class R, class T>
__device__ T row_gradient(const View& rows, int64_t b, int64_t n, int64_t c) {
    const R* from = static_cast<const R*>(rows.data) + b * rows.stride[1] + n * rows.stride[2] + c * rows.stride[3];
    T total = 0;
    for (int64_t part = 0; part < rows.size[0]; ++part) total += widen(from[part * rows.stride[0]]);
    return total;
}

template <class T>
__device__ T weight_of(const Hit<T>& hit, int cell) {
    T weight = 0;  // a keypoint has each cell once
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (hit.cell[k] == cell) weight = hit.weight[k];
    return weight;
}

// total[e]: of cell `across + e * 4`, channel `along` if CHANNELS_LAST, otherwise of cell `along`, channel `across + e * 4`.
template <class R, bool CHANNELS_LAST, class T>
__device__ void add_hit(const Hit<T>& hit, const View& rows, int64_t b, int64_t n, int64_t c0, int64_t C, T (&total)[kEach]) {
    constexpr int step = kThreads / 64;
    const int along = threadIdx.x % 64, across = threadIdx.x / 64;
    if constexpr (CHANNELS_LAST) {
        if (c0 + along >= C) return;
        const T value = row_gradient<R, T>(rows, b, n, c0 + along);
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
            const T weight = weight_of(hit, across + e * step);
            if (weight != 0) total[e] += weight * value;
        }
    } else {
        const T weight = weight_of(hit, along);
        if (weight == 0) return;
#pragma unroll
        for (int e = 0; e < kEach; ++e)
            if (c0 + across + e * step < C) total[e] += weight * row_gradient<R, T>(rows, b, n, c0 + across + e * step);
    }
}

// R: of the rows, S: of the map. CHANNELS_LAST: threads lie along the channels, otherwise along the cells.
template <class R, class S, bool CHANNELS_LAST>
__device__ void fill_tile(const SourceBackward& step) {
    using T = Arithmetic<S>;
    __shared__ Hit<T> hits[kQueries];
    __shared__ unsigned found[kWordsOfQueries];
    __shared__ int64_t cell_offset[kCells];
    const View& out = step.source_gradient;
    const int64_t C = out.size[1], M = out.size[2] * out.size[3], N = step.keypoints.size[1];
    const int64_t channel_tiles = tiles_of(C, kChannels), cell_tiles = tiles_of(M, kCells);
    const int64_t c0 = blockIdx.x % channel_tiles * kChannels, m0 = blockIdx.x / channel_tiles % cell_tiles * kCells;
    const int64_t b = blockIdx.x / channel_tiles / cell_tiles;
    const int along = threadIdx.x % 64, across = threadIdx.x / 64;

    list_cells<kCells>(out, m0, M, cell_offset);
    __syncthreads();
    T total[kEach] = {};
    for (int64_t n0 = 0; n0 < N; n0 += kQueries) {
        if (threadIdx.x < kQueries) {
            const int64_t n = n0 + threadIdx.x;
            const bool any = n < N && find_hit(step, b, n, m0, hits[threadIdx.x]);
            const unsigned lanes = __ballot_sync(kAllLanes, any);
            if (threadIdx.x % kWarp == 0) found[threadIdx.x / kWarp] = lanes;
        }
        __syncthreads();
        for (int word = 0; word < kWordsOfQueries; ++word)
            for (unsigned left = found[word]; left != 0; left &= left - 1) {
                const int i = word * kWarp + __ffs(left) - 1;
                add_hit<R, CHANNELS_LAST>(hits[i], step.rows, b, n0 + i, c0, C, total);
            }
        __syncthreads();
    }
    S* const image = static_cast<S*>(out.data) + b * out.stride[0];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
        const int64_t cell = cell_offset[CHANNELS_LAST ? across + e * (kThreads / 64) : along];
        const int64_t c = c0 + (CHANNELS_LAST ? along : across + e * (kThreads / 64));
        if (cell != kNoCell && c < C) image[cell + c * out.stride[1]] = narrow<S>(total[e]);
    }
}

template <class R, class S>
__device__ void fill_keypoint(const SourceBackward& step, int64_t row) {
    using T = Arithmetic<S>;
    __shared__ double memory[kThreads / kWarp];
    const int64_t N = step.keypoints.size[1], b = row / N, n = row % N, C = step.source.size[1];
    const int64_t height = step.source.size[2], width = step.source.size[3];
    const View &points = step.keypoints, &out = step.keypoints_gradient;
    const int64_t at = b * points.stride[0] + n * points.stride[1];
    const AffineMaps to_cells = maps_to_cells(step.sampling, b, height, width);
    const double x = apply(to_cells.x, read_element(points, at));
    const double y = apply(to_cells.y, read_element(points, at + points.stride[2]));
    const Sample sample = sample_at(x, y, height, width, step.sampling);
    double sum_x = 0, sum_y = 0;
    if (sample.bilinear && sample.finite && is_query(step, b, n)) {
        const S* const image = static_cast<const S*>(step.source.data) + b * step.source.stride[0];
        for (int64_t c = threadIdx.x; c < C; c += kThreads) {
            const double dq = row_gradient<R, T>(step.rows, b, n, c);
            if (dq == 0) continue;  // zeros have no part in a sum, whatever the map holds: nor have slopes below
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const Corner corner_k = corner(sample, k / 2, k % 2, height, width);
                if (!corner_k.inside) continue;
                const double slope_x = (k / 2 == 0 ? -1 : 1) * corner_k.weight_y;
                const double slope_y = (k % 2 == 0 ? -1 : 1) * corner_k.weight_x;
                const double moment = dq * widen(image[corner_k.y * step.source.stride[2] + corner_k.x * step.source.stride[3] +
                                                       c * step.source.stride[1]]);
                if (slope_x != 0) sum_x += slope_x * moment;
                if (slope_y != 0) sum_y += slope_y * moment;
            }
        }
    }
    sum_x = sum_of_block<kThreads>(sum_x, memory) * rate(to_cells.x);
    sum_y = sum_of_block<kThreads>(sum_y, memory) * rate(to_cells.y);
    if (step.sampling.padding == SIMPLEMATCH_BORDER) {  // a clamped coordinate does not move
        if (x < 0 || x > double(width - 1)) sum_x = 0;
        if (y < 0 || y > double(height - 1)) sum_y = 0;
    }
    if (threadIdx.x > 0) return;
    const int64_t to = b * out.stride[0] + n * out.stride[1];
    write_element(out, to, sum_x);
    write_element(out, to + out.stride[2], sum_y);
}

template <class R, class S, bool CHANNELS_LAST>
__global__ void __launch_bounds__(kThreads, 1) source_backward_kernel(Arguments a) {
    if (blockIdx.x < a.tiles)
        fill_tile<R, S, CHANNELS_LAST>(a.step);
    else
        fill_keypoint<R, S>(a.step, blockIdx.x - a.tiles);
}

}  // namespace

void source_backward(const SourceBackward& step, Stream stream) {
    const View& out = step.source_gradient;
    const int64_t cells = step.source.size[2] * step.source.size[3];
    const int64_t tiles = out.data == nullptr ? 0
                                              : tiles_of(cells, kCells) * tiles_of(step.source.size[1], kChannels) * out.size[0];
    const int64_t points = step.keypoints_gradient.data == nullptr ? 0 : step.keypoints.size[0] * step.keypoints.size[1];
    with_storage(step.source.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        with_bool(out.data != nullptr && walk_of(out).channels_last, [&](auto channels_last) {
            const auto run = [&](auto kernel) {
                launch(kernel, tiles + points, kThreads, Arguments{step, tiles}, stream, "source_backward");
            };
            if (step.rows.dtype == step.source.dtype)
                run(source_backward_kernel<S, S, channels_last>);
            else
                run(source_backward_kernel<Arithmetic<S>, S, channels_last>);
        });
    });
}

}  // namespace simplematch::cuda
