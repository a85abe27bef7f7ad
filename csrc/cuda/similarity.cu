// similarity (paper eq. 6-9): the scores of every query with every target cell, read from the map once.
//
//     s[n, m] = <q_n, f_m> / (D(q_n) D(f_m)), or <q_n, f_m>, or -|q_n - f_m|^2
//
// Block = a tile of queries x a tile of cells of one image; blocks of the same cells are neighbours, so the target comes
// from memory once. Bytes: the target, 4 N M of scores, and the queries once per tile of cells, out of L2. At the
// paper's shape (B=8, N=30, C=768, 63x63) 97.5 MB in float32, half in 16 bits. Float and double are summed by fused
// multiply-add: 1.5 GFLOP, which takes as long as the bytes do; 16 bits go to the tensor cores.
#include "launch.h"
#include "metric.h"
#include "product.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

struct Similarity {
    QueryTiles queries;
    int64_t padded_queries, padded_channels, part_stride;
    View target;
    const uint8_t* target_mask;
    Metric metric;
    int64_t count;
    void* scores;
    void* norms;
    TileBest best;
};

// Tiles of BN queries x BM cells, BC channels at a time; threads sum ROWS x COLUMNS of it where they sum by hand.
template <int BN_, int BM_, int BC_, int THREADS_, int ROWS_, int COLUMNS_>
struct Shape {
    static constexpr int BN = BN_, BM = BM_, BC = BC_, THREADS = THREADS_, ROWS = ROWS_, COLUMNS = COLUMNS_;
};

// How the tiles of one type lie in shared memory, and what multiplies them.
template <class S, bool CHANNELS_LAST, int V, class G>
struct Tiles {
    static constexpr bool kSixteenBits = sizeof(S) == 2;
    // Tensor cores take either order; threads read the cells of a channel side by side.
    static constexpr bool kByCell = kSixteenBits && CHANNELS_LAST;
    static constexpr int kPad = kSixteenBits ? 8 : 4;
    static constexpr int kQueryStride = G::BN + kPad;
    static constexpr int kTargetStride = (kByCell ? G::BC : G::BM) + kPad;
    static constexpr int kProductStride = G::BM + 4;
    static constexpr int kFast = CHANNELS_LAST ? G::BC : G::BM, kSlow = CHANNELS_LAST ? G::BM : G::BC;

    using QueryCopy = TileCopy<S, S, G::BN, G::BC, 16 / int(sizeof(S)), G::THREADS, kQueryStride, false>;
    using TargetCopy = TileCopy<S, S, kFast, kSlow, V, G::THREADS, kTargetStride, CHANNELS_LAST && !kSixteenBits>;
    using ByTensorCores = TensorProduct<S, G::BN, G::BM, G::BC, G::THREADS, kQueryStride, kTargetStride, kByCell>;
    using ByHand = WidenedProduct<S, G::BN, G::BM, G::BC, G::THREADS, kQueryStride, kTargetStride, kByCell>;
    using ByFma = FmaProduct<S, G::BN, G::BM, G::BC, G::ROWS, G::COLUMNS, kQueryStride, kTargetStride>;
    using Product16 =
        std::conditional_t<std::is_same_v<S, __nv_bfloat16> && !kTensorCoresTakeBFloat16, ByHand, ByTensorCores>;

    static constexpr int kQueries = kQueryStride * G::BC, kTarget = kTargetStride * (kByCell ? G::BM : G::BC);
    static constexpr int kInputBytes = (kQueries + kTarget) * int(sizeof(S));
    static constexpr int kProductBytes = G::BN * kProductStride * int(sizeof(Arithmetic<S>));
    static constexpr int kBytes = kInputBytes > kProductBytes ? kInputBytes : kProductBytes;

    __device__ static S target_at(const S* tile, int m, int c) {
        return tile[kByCell ? m * kTargetStride + c : c * kTargetStride + m];
    }
};

template <class S, bool CHANNELS_LAST, int V, class G>
struct ProductOf {
    using type = typename Tiles<S, CHANNELS_LAST, V, G>::ByFma;
};
template <bool CHANNELS_LAST, int V, class G>
struct ProductOf<__nv_bfloat16, CHANNELS_LAST, V, G> {
    using type = typename Tiles<__nv_bfloat16, CHANNELS_LAST, V, G>::Product16;
};
template <bool CHANNELS_LAST, int V, class G>
struct ProductOf<__half, CHANNELS_LAST, V, G> {
    using type = typename Tiles<__half, CHANNELS_LAST, V, G>::Product16;
};

template <class S, bool CHANNELS_LAST, int V, class G>
__global__ void __launch_bounds__(G::THREADS, 1) similarity_kernel(Similarity a) {
    using T = Arithmetic<S>;
    using L = Tiles<S, CHANNELS_LAST, V, G>;
    constexpr int target_parts = G::THREADS / G::BM;
    alignas(128) __shared__ unsigned char memory[L::kBytes];
    __shared__ int64_t cell_offset[G::BM];
    __shared__ T target_squares[target_parts][G::BM], query_squares[G::BN];
    S* const query_tile = reinterpret_cast<S*>(memory);
    S* const target_tile = query_tile + L::kQueries;

    const int64_t C = a.target.size[1], M = a.target.size[2] * a.target.size[3];
    const int64_t query_tiles = tiles_of(a.count, G::BN), cell_tiles = tiles_of(M, G::BM);
    const int64_t i_n = blockIdx.x % query_tiles, i_m = blockIdx.x / query_tiles % cell_tiles;
    const int64_t b = blockIdx.x / query_tiles / cell_tiles, n0 = i_n * G::BN, m0 = i_m * G::BM;
    const S* const target = static_cast<const S*>(a.target.data) + b * a.target.stride[0];
    const S* const queries = static_cast<const S*>(a.queries.data) + b * a.padded_channels * a.padded_queries + n0;
    list_cells<G::BM>(a.target, m0, M, cell_offset);
    __syncthreads();

    typename L::QueryCopy query_copy;
    typename L::TargetCopy target_copy;
    const auto fetch_queries = [&](int64_t c0, int part) {
        query_copy.fetch([&](int c, int n) -> const S* {
            return n0 + n < a.padded_queries ? queries + part * a.part_stride + (c0 + c) * a.padded_queries + n : nullptr;
        });
    };
    const int64_t own_cell = cell_offset[CHANNELS_LAST ? 0 : L::TargetCopy::fast(0)];
    const auto fetch_target = [&](int64_t c0) {
        target_copy.fetch([&](int slow, int fast) -> const S* {
            const int64_t c = c0 + (CHANNELS_LAST ? fast : slow), cell = CHANNELS_LAST ? cell_offset[slow] : own_cell;
            return cell != kNoCell && c < C ? target + cell + c * a.target.stride[1] : nullptr;
        });
    };

    typename ProductOf<S, CHANNELS_LAST, V, G>::type product;
    product.clear();
    T target_square = 0;
    const int m = threadIdx.x % G::BM, parts = a.queries.parts, steps = int(tiles_of(C, G::BC)) * parts;
    fetch_target(0);
    fetch_queries(0, 0);
    for (int step = 0, part = 0; step < steps; ++step) {
        const bool new_target = part == 0;
        if (new_target) target_copy.put(target_tile);
        query_copy.put(query_tile);
        __syncthreads();
        part = part + 1 < parts ? part + 1 : 0;
        if (step + 1 < steps) {  // while these tiles are worked on
            const int64_t c0 = int64_t(step + 1) / parts * G::BC;
            if (part == 0) fetch_target(c0);
            fetch_queries(c0, part);
        }
        product.add(query_tile, target_tile);
        if (new_target)
            for (int c = threadIdx.x / G::BM; c < G::BC; c += target_parts) {
                const T f = widen(L::target_at(target_tile, m, c));
                target_square = fma(f, f, target_square);
            }
        __syncthreads();
    }
    target_squares[threadIdx.x / G::BM][m] = target_square;
    T* const products = reinterpret_cast<T*>(memory);
    product.template put<L::kProductStride>(products);
    __syncthreads();
    if (threadIdx.x < G::BM) {
        for (int part = 1; part < target_parts; ++part) target_square += target_squares[part][m];
        target_squares[0][m] = target_square;
        if (a.norms != nullptr && i_n == 0 && m0 + m < M) static_cast<T*>(a.norms)[b * M + m0 + m] = sqrt(target_square);
    }
    if (threadIdx.x < G::BN && n0 + threadIdx.x < a.padded_queries) {
        const int64_t channel_tiles = a.padded_channels / QueryTiles::kTile;
        const T* from = static_cast<const T*>(a.queries.squares) + b * channel_tiles * a.padded_queries + n0 + threadIdx.x;
        T square = 0;
        for (int64_t tile = 0; tile < channel_tiles; ++tile) square += from[tile * a.padded_queries];
        query_squares[threadIdx.x] = square;
    }
    __syncthreads();

    const int lane = threadIdx.x % kWarp;
    for (int r = threadIdx.x / kWarp; r < G::BN && n0 + r < a.count; r += G::THREADS / kWarp) {
        T* const row = static_cast<T*>(a.scores) + (b * a.count + n0 + r) * M + m0;
        Best best{kNoKey, 0};
#pragma unroll
        for (int j = lane; j < G::BM; j += kWarp) {
            if (m0 + j >= M) break;
            const T s = finish_score(products[r * L::kProductStride + j], query_squares[r], target_squares[0][j], a.metric);
            row[j] = s;
            if (a.target_mask == nullptr || a.target_mask[b * M + m0 + j] != 0)
                best = better(best, {ordered(s), int32_t(m0 + j)});
        }
        if (a.best.key == nullptr) continue;
        best = best_of_warp(best);
        if (lane == 0) {
            a.best.key[(b * a.count + n0 + r) * cell_tiles + i_m] = best.key;
            a.best.cell[(b * a.count + n0 + r) * cell_tiles + i_m] = best.cell;
        }
    }
}

// Wide tiles of queries where there are many; narrow tiles of cells where there are too few to fill the chip.
enum class TileSize { narrow, wide, many_queries };

TileSize tile_size(const View& target, const Block& block, Stream stream) {
    if (target.dtype == DType::float64) return TileSize::narrow;
    if (block.count > 48) return TileSize::many_queries;
    const int64_t blocks = tiles_of(target.size[2] * target.size[3], 64) * tiles_of(block.count, 32) * block.images;
    return blocks >= 2 * stream.processors ? TileSize::wide : TileSize::narrow;
}

template <class S, class G>
void run(const Similarity& arguments, const Block& block, Stream stream) {
    const Walk walk = walk_of(arguments.target);
    const int64_t cells = arguments.target.size[2] * arguments.target.size[3];
    const int64_t blocks = tiles_of(block.count, G::BN) * tiles_of(cells, G::BM) * block.images;
    with_bool(walk.channels_last, [&](auto channels_last) {
        with_bool(walk.vectors, [&](auto vectors) {
            constexpr int V = vectors ? 16 / int(sizeof(S)) : 1;
            launch(similarity_kernel<S, channels_last, V, G>, blocks, G::THREADS, arguments, stream, "similarity");
        });
    });
}

}  // namespace

int64_t similarity_tiles(const View& target, const Block& block, Stream stream) {
    return tiles_of(target.size[2] * target.size[3], tile_size(target, block, stream) == TileSize::narrow ? 32 : 64);
}

void similarity(const QueryTiles& queries, const View& target, const uint8_t* target_mask, const Metric& metric,
                const Block& block, void* scores, void* norms, const TileBest& best, Stream stream) {
    const int64_t padded_queries = QueryTiles::padded_queries(block.count);
    const int64_t padded_channels = QueryTiles::padded_channels(target.size[1]);
    const Similarity arguments{queries, padded_queries, padded_channels,
                               block.images * padded_queries * padded_channels,
                               target, target_mask, metric, block.count, scores, norms, best};
    const TileSize size = tile_size(target, block, stream);
    with_storage(target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        if constexpr (sizeof(S) == 8) {
            run<S, Shape<32, 32, 16, 128, 4, 2>>(arguments, block, stream);
        } else {
            constexpr int deep = sizeof(S) == 2 ? 64 : 32;
            if (size == TileSize::many_queries) return run<S, Shape<64, 64, deep, 256, 4, 4>>(arguments, block, stream);
            if (size == TileSize::wide) return run<S, Shape<32, 64, deep, 128, 4, 4>>(arguments, block, stream);
            run<S, Shape<32, 32, 64, 128, 4, 2>>(arguments, block, stream);
        }
    });
}

}  // namespace simplematch::cuda
