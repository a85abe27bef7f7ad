// norms: Euclidean norms of the cells of a map, summed in float64, where no float overflows.
//
// Bytes: B C M read once, B M numbers written. Where channels lie closest a warp takes a cell, its lanes the channels; else a
// thread takes a cell, since cells lie closest.
#include "launch.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128;

struct Norms {
    View map;
    void* norms;
};

template <class S, bool LANES>
__global__ void __launch_bounds__(kThreads, 1) norms_kernel(Norms a) {
    constexpr int team = LANES ? kWarp : 1;
    const View& map = a.map;
    const int64_t cells = map.size[2] * map.size[3], at = blockIdx.x * int64_t(kThreads / team) + threadIdx.x / team;
    if (at >= map.size[0] * cells) return;
    const int64_t b = at / cells, m = at % cells;
    const S* const cell = static_cast<const S*>(map.data) + b * map.stride[0] + m / map.size[3] * map.stride[2] +
                          m % map.size[3] * map.stride[3];
    double square = 0;
    for (int64_t c = threadIdx.x % team; c < map.size[1]; c += team) {
        const double x = double(widen(cell[c * map.stride[1]]));
        square += x * x;
    }
    if (LANES) square = sum_of_warp(square);
    if (threadIdx.x % team == 0) static_cast<Arithmetic<S>*>(a.norms)[at] = Arithmetic<S>(sqrt(square));
}

}  // namespace

void norms(const View& map, void* norms, Stream stream) {
    with_storage(map.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        with_bool(walk_of(map).channels_last, [&](auto lanes) {
            constexpr int team = decltype(lanes)::value ? kWarp : 1;
            launch(norms_kernel<S, decltype(lanes)::value>, tiles_of(map.size[0] * cells_of(map), kThreads / team), kThreads,
                   Norms{map, norms}, stream, "norms");
        });
    });
}

}  // namespace simplematch::cuda
