// neighbour_products: inner products of every cell with itself and its neighbours, and the backward.
//
// Summed in float64. Forward: a tile of 32 cells and 8 shares of the channels, or a warp for each cell where channels lie
// closest. Bytes: B C M read about twice, out of the cache once; 40 B M written. Backward: a thread for each number.
#include "driver.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256, kShares = kThreads / kWarp, kProducts = 5;

struct Products {
    View features;
    double* products;
};

// A cell's five products over the channels first, first + step, ...
template <class S>
__device__ void add_products(const View& features, int64_t b, int64_t m, int64_t first, int64_t step, double* sums) {
    const int64_t width = features.size[3], y = m / width, x = m % width;
    const bool right = x + 1 < width, below = y + 1 < features.size[2];
    const int64_t to_right = features.stride[3], to_below = features.stride[2];
    const S* const cell = static_cast<const S*>(features.data) + b * features.stride[0] + y * to_below + x * to_right;
    for (int64_t c = first; c < features.size[1]; c += step) {
        const S* const at = cell + c * features.stride[1];
        const double f = double(widen(at[0]));
        const double r = right ? double(widen(at[to_right])) : 0.0, u = below ? double(widen(at[to_below])) : 0.0;
        const double d = right && below ? double(widen(at[to_right + to_below])) : 0.0;
        sums[0] += f * f;
        if (right) sums[1] += f * r;
        if (below) sums[2] += f * u;
        if (right && below) sums[3] += f * d, sums[4] += r * u;
    }
}

template <class S>
__global__ void __launch_bounds__(kThreads) products_of_tiles_kernel(Products a) {
    __shared__ double memory[kShares * kProducts * kWarp];
    const int64_t cells = a.features.size[2] * a.features.size[3], tiles = tiles_of(cells, kWarp), b = blockIdx.x / tiles;
    const int lane = threadIdx.x % kWarp, share = threadIdx.x / kWarp;
    const int64_t m = blockIdx.x % tiles * kWarp + lane;
    double sums[kProducts] = {};
    if (m < cells) add_products<S>(a.features, b, m, share, kShares, sums);
    for (int k = 0; k < kProducts; ++k) memory[(share * kProducts + k) * kWarp + lane] = sums[k];
    __syncthreads();
    if (share >= kProducts || m >= cells) return;
    double total = 0;
    for (int i = 0; i < kShares; ++i) total += memory[(i * kProducts + share) * kWarp + lane];
    a.products[(b * kProducts + share) * cells + m] = total;
}

template <class S>
__global__ void __launch_bounds__(kThreads) products_of_cells_kernel(Products a) {
    const int64_t cells = a.features.size[2] * a.features.size[3], i = int64_t(blockIdx.x) * kShares + threadIdx.x / kWarp;
    const int lane = threadIdx.x % kWarp;
    if (i >= a.features.size[0] * cells) return;
    double sums[kProducts] = {};
    add_products<S>(a.features, i / cells, i % cells, lane, kWarp, sums);
    for (int k = 0; k < kProducts; ++k) {
        const double total = sum_of_warp(sums[k]);
        if (lane == 0) a.products[(i / cells * kProducts + k) * cells + i % cells] = total;
    }
}

struct Backward {
    View features, gradient;
    const double* upstream;
    bool channels_last;
};

template <class S>
__global__ void __launch_bounds__(kThreads) products_backward_kernel(Backward a) {
    using T = Arithmetic<S>;
    const View& f = a.features;
    const int64_t channels = f.size[1], height = f.size[2], width = f.size[3], cells = height * width;
    const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= f.size[0] * channels * cells) return;
    const int64_t b = i / (channels * cells), rest = i % (channels * cells);
    const int64_t c = a.channels_last ? rest % channels : rest / cells, m = a.channels_last ? rest / channels : rest % cells;
    const int64_t y = m / width, x = m % width;
    const bool left = x > 0, right = x + 1 < width, above = y > 0, below = y + 1 < height;
    const double* const g = a.upstream + b * kProducts * cells + m;
    const S* const from = static_cast<const S*>(f.data) + b * f.stride[0] + c * f.stride[1];
    T total = 0;
    const auto add = [&](bool exists, T factor, int k, int64_t shift, int64_t dy, int64_t dx) {
        if (!exists) return;
        const T weight = factor * T(g[k * cells + shift]);  // where it is 0, the feature may be anything
        if (weight != T(0)) total += weight * widen(from[(y + dy) * f.stride[2] + (x + dx) * f.stride[3]]);
    };
    add(true, 2, 0, 0, 0, 0);
    add(right, 1, 1, 0, 0, 1);
    add(left, 1, 1, -1, 0, -1);
    add(below, 1, 2, 0, 1, 0);
    add(above, 1, 2, -width, -1, 0);
    add(below && right, 1, 3, 0, 1, 1);
    add(above && left, 1, 3, -width - 1, -1, -1);
    add(below && left, 1, 4, -1, 1, -1);
    add(above && right, 1, 4, -width, -1, 1);
    const int64_t* const s = a.gradient.stride;
    static_cast<S*>(a.gradient.data)[b * s[0] + c * s[1] + y * s[2] + x * s[3]] = narrow<S>(total);
}

}  // namespace

void run(const NeighbourProblem& p, const NeighbourResult& result, const Device& device) {
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    const Products arguments{p.features, result.products};
    const bool channels_last = walk_of(p.features).channels_last;
    const int64_t images = p.features.size[0], cells = cells_of(p.features);
    with_storage(p.features.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        if (channels_last) {
            launch(products_of_cells_kernel<S>, tiles_of(images * cells, kShares), kThreads, arguments, stream, "products");
        } else {
            launch(products_of_tiles_kernel<S>, images * tiles_of(cells, kWarp), kThreads, arguments, stream, "products");
        }
    });
}

void run_backward(const NeighbourProblem& p, const NeighbourUpstream& upstream, const NeighbourGradients& gradients,
                  const Device& device) {
    if (!is_given(gradients.features)) return;
    const OnDevice guard(device.index);
    const Stream stream = stream_of(device);
    const Backward arguments{p.features, gradients.features, upstream.products, walk_of(gradients.features).channels_last};
    const int64_t numbers = p.features.size[0] * p.features.size[1] * cells_of(p.features);
    with_storage(p.features.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(products_backward_kernel<S>, tiles_of(numbers, kThreads), kThreads, arguments, stream, "products_backward");
    });
}

}  // namespace simplematch::cuda
