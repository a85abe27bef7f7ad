// gather (paper eq. 6-7): the descriptors of keypoints.
//
//     q_n = sample(F, p_n)          one cell, or the weighted sum of four
//
// Bytes: N C read (four times that bilinear; 32 a read where the channels are not adjacent) and written.
#include "launch.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = QueryTiles::kTile;  // queries and channels of a block

struct Gather {
    QuerySource from;
    Rows rows;
    Block block;
    QueryTiles queries;
    int64_t padded_queries, padded_channels, part_stride;
};

// What a 16-bit number leaves of x; nothing of what is not finite.
template <class S>
__device__ inline float rest(float x) {
    return is_finite(x) ? x - widen(narrow<S>(x)) : 0.0f;
}

// |q|^2 of the channels of one query in a tile, for `similarity` to choose by: above 0 unless the query is 0 there, and
// NaN if 16-bit parts lose more than 2^-17 of it, as float16 does below its normal numbers.
template <class S, class T = Arithmetic<S>>
__device__ T square_of(const T (&query)[kTile + 1], int parts) {
    T square = 0;
    double lost = 0;
    bool any = false;
#pragma unroll 4
    for (int c = 0; c < kTile; ++c) {
        const T q = query[c];
        square = fma(q, q, square);
        any = any || q != 0;
        if constexpr (sizeof(S) == 2)
            if (parts > 1) {
                const double residue = rest<S>(q) - widen(narrow<S>(rest<S>(q)));
                lost += residue * residue;
            }
    }
    if constexpr (std::is_same_v<T, float>) {
        if (any && square == 0) return 0x1p-149f;
        if (lost > 0x1p-34 * double(square)) return not_a_number<T>();
    }
    return square;
}

// Block = 32 queries x 32 channels: lanes read along the channels and write along the queries.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) gather_kernel(Gather a) {
    using T = Arithmetic<S>;
    __shared__ Sample samples[kTile];
    __shared__ bool valid[kTile];
    __shared__ T tile[kTile][kTile + 1];
    const int64_t query_tiles = a.padded_queries / kTile, channel_tiles = a.padded_channels / kTile;
    const int64_t n0 = blockIdx.x % query_tiles * kTile, c0 = blockIdx.x / query_tiles % channel_tiles * kTile;
    const int64_t b = blockIdx.x / query_tiles / channel_tiles;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    if (threadIdx.x < kTile) {
        const int64_t n = a.block.first + n0 + threadIdx.x;
        valid[threadIdx.x] = n0 + threadIdx.x < a.block.count && is_valid(a.rows, b, n, a.block.total);
        if (valid[threadIdx.x]) samples[threadIdx.x] = sample_query(a.from.source, a.from.keypoints, a.from.sampling, b, n);
    }
    __syncthreads();
    for (int i = warp; i < kTile; i += kThreads / kWarp)
        tile[i][lane] =
            valid[i] && c0 + lane < a.from.source.size[1] ? sampled<S>(a.from.source, samples[i], b, c0 + lane) : T(0);
    __syncthreads();
    S* to = static_cast<S*>(a.queries.data) + (b * a.padded_channels + c0) * a.padded_queries + n0 + lane;
    for (int i = warp; i < kTile; i += kThreads / kWarp) to[i * a.padded_queries] = narrow<S>(tile[lane][i]);
    if constexpr (sizeof(S) == 2)
        if (a.queries.parts > 1)
            for (int i = warp; i < kTile; i += kThreads / kWarp)
                to[a.part_stride + i * a.padded_queries] = narrow<S>(rest<S>(tile[lane][i]));
    if (warp == 0)
        static_cast<T*>(a.queries.squares)[(b * channel_tiles + c0 / kTile) * a.padded_queries + n0 + lane] =
            square_of<S>(tile[lane], a.queries.parts);
}

struct GatherRows {
    QuerySource from;
    void* descriptors;
};

// Block = one keypoint.
template <class S>
__global__ void __launch_bounds__(kThreads, 1) gather_rows_kernel(GatherRows a) {
    const View& source = a.from.source;
    const int64_t N = a.from.keypoints.size[1], C = source.size[1], b = blockIdx.x / N, n = blockIdx.x % N;
    const Sample sample = sample_query(source, a.from.keypoints, a.from.sampling, b, n);
    S* const row = static_cast<S*>(a.descriptors) + blockIdx.x * C;
    for (int64_t c = threadIdx.x; c < C; c += kThreads) row[c] = narrow<S>(sampled<S>(source, sample, b, c));
}

}  // namespace

void gather(const QuerySource& from, const Rows& rows, const Block& block, const QueryTiles& queries, Stream stream) {
    const int64_t padded_queries = QueryTiles::padded_queries(block.count);
    const int64_t padded_channels = QueryTiles::padded_channels(from.source.size[1]);
    const Gather arguments{from, rows, block, queries, padded_queries, padded_channels,
                           block.images * padded_queries * padded_channels};
    with_storage(from.source.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(gather_kernel<S>, padded_queries / kTile * (padded_channels / kTile) * block.images, kThreads, arguments,
               stream, "gather");
    });
}

void gather_rows(const QuerySource& from, void* descriptors, Stream stream) {
    with_storage(from.source.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        launch(gather_rows_kernel<S>, from.source.size[0] * from.keypoints.size[1], kThreads, GatherRows{from, descriptors},
               stream, "gather_keypoints");
    });
}

}  // namespace simplematch::cuda
