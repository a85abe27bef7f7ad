// similarity (paper eq. 6-9): the scores of every query with every target cell, read from the map once.
//
//     s[n, m] = <q_n, f_m> / D(q_n) / D(f_m), or <q_n, f_m>, or -|q_n - f_m|^2        l1: see absolute.cu
//
// Block = a tile of queries x a tile of cells of one image; blocks of the same cells are neighbours, so the target comes
// from memory once. Bytes: the target, 4 N M of scores, and the queries once per tile of cells, out of L2. At the
// paper's shape (B=8, N=30, C=768, 63x63) 97.5 MB in float32, half in 16 bits. Float and double are summed by fused
// multiply-add: 1.5 GFLOP, which takes as long as the bytes do; 16 bits go to the tensor cores. Scores that this may have
// spoiled (`needs_float64`: extreme magnitudes, NaN, small distances) are computed again by float64 products from memory;
// a tile without any pays one vote for it.
#include "launch.h"
#include "metric.h"
#include "product.h"
#include "similarity.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

using Arguments = SimilarityArguments;

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

// |q_n|^2, from what `gather` summed of every tile of channels.
template <class G, class T>
__device__ void sum_query_squares(const Arguments& a, const Place<G>& at, T* squares) {
    if (threadIdx.x >= G::BN || at.n0 + threadIdx.x >= a.padded_queries) return;
    const int64_t channel_tiles = a.padded_channels / QueryTiles::kTile;
    const T* const from =
        static_cast<const T*>(a.queries.squares) + at.b * channel_tiles * a.padded_queries + at.n0 + threadIdx.x;
    T square = 0;
    for (int64_t tile = 0; tile < channel_tiles; ++tile) square += from[tile * a.padded_queries];
    squares[threadIdx.x] = square;
}

// |f_m|^2 into the first row, from the sums of the threads in several; and the norms, which one block of a tile writes.
template <class G, class T>
__device__ void sum_target_squares(const Arguments& a, const Place<G>& at, T (&squares)[G::THREADS / G::BM][G::BM]) {
    const int m = threadIdx.x;
    if (m >= G::BM) return;
    T square = squares[0][m];
    for (int part = 1; part < G::THREADS / G::BM; ++part) square += squares[part][m];
    squares[0][m] = square;
    if (a.norms != nullptr && at.i_n == 0 && at.m0 + m < at.M)
        static_cast<T*>(a.norms)[at.b * at.M + at.m0 + m] = sqrt(square);
}

// The score of query `at.n0 + r` with cell `at.m0 + j`, which lies at `offset`, by float64 products of what memory holds.
// Of the first query, the norm of the cell too.
template <class S, class G>
__device__ Arithmetic<S> float64_score(const Arguments& a, const Place<G>& at, int r, int j, int64_t offset) {
    using T = Arithmetic<S>;
    const S* const cell = static_cast<const S*>(a.target.data) + at.b * a.target.stride[0] + offset;
    const View& source = a.from.source;
    const Sample sample = sample_query(source, a.from.keypoints, a.from.sampling, at.b, a.block.first + at.n0 + r);
    double product = 0, distance = 0, query = 0, target = 0;
#pragma unroll 1
    for (int64_t c = 0; c < at.C; ++c) {
        const double q = sampled<S, 1>(source, sample, at.b, c), f = widen(cell[c * a.target.stride[1]]);
        product = fma(q, f, product);
        distance = fma(q - f, q - f, distance);
        query = fma(q, q, query);
        target = fma(f, f, target);
    }
    if (a.metric.kind == SIMPLEMATCH_L2) return T(-distance);
    if (a.norms != nullptr && at.n0 + r == 0) static_cast<T*>(a.norms)[at.b * at.M + at.m0 + j] = T(sqrt(target));
    return T(finish_score(product, query, target, a.metric));
}

// Blocks that a multiprocessor must hold at once. The float64 scores are rare: where the rest of the kernel takes few
// registers, as with float16, they may not take more.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 860
constexpr int kNarrowBlocks = 7, kWideBlocks = 5;
#elif __CUDA_ARCH__ < 1000
constexpr int kNarrowBlocks = 7, kWideBlocks = 4;
#else
constexpr int kNarrowBlocks = 5, kWideBlocks = 4;
#endif

template <class S, bool CHANNELS_LAST, int V, class G>
constexpr int least_blocks() {
    if (!std::is_same_v<S, __half> || G::THREADS != 128 || (CHANNELS_LAST && V == 1)) return 1;
    return G::BM == 32 ? kNarrowBlocks : V == 1 ? 1 : kWideBlocks;
}

template <class S, bool CHANNELS_LAST, int V, class G>
__global__ void __launch_bounds__(G::THREADS, (least_blocks<S, CHANNELS_LAST, V, G>())) similarity_kernel(Arguments a) {
    using T = Arithmetic<S>;
    using L = Tiles<S, CHANNELS_LAST, V, G>;
    constexpr int target_parts = G::THREADS / G::BM;
    alignas(128) __shared__ unsigned char memory[L::kBytes];
    __shared__ int64_t cell_offset[G::BM];
    __shared__ T target_squares[target_parts][G::BM], query_squares[G::BN];
    S* const query_tile = reinterpret_cast<S*>(memory);
    S* const target_tile = query_tile + L::kQueries;

    const Place<G> at(a);
    const S* const target = static_cast<const S*>(a.target.data) + at.b * a.target.stride[0];
    const S* const queries = static_cast<const S*>(a.queries.data) + at.b * a.padded_channels * a.padded_queries + at.n0;
    list_cells<G::BM>(a.target, at.m0, at.M, cell_offset);
    __syncthreads();

    typename L::QueryCopy query_copy;
    typename L::TargetCopy target_copy;
    const auto fetch_queries = [&](int64_t c0, int part) {
        query_copy.fetch([&](int c, int n) -> const S* {
            return at.n0 + n < a.padded_queries ? queries + part * a.part_stride + (c0 + c) * a.padded_queries + n : nullptr;
        });
    };
    const int64_t own_cell = cell_offset[CHANNELS_LAST ? 0 : L::TargetCopy::fast(0)];
    const auto fetch_target = [&](int64_t c0) {
        target_copy.fetch([&](int slow, int fast) -> const S* {
            const int64_t c = c0 + (CHANNELS_LAST ? fast : slow), cell = CHANNELS_LAST ? cell_offset[slow] : own_cell;
            return cell != kNoCell && c < at.C ? target + cell + c * a.target.stride[1] : nullptr;
        });
    };

    typename ProductOf<S, CHANNELS_LAST, V, G>::type product;
    product.clear();
    T target_square = 0;
    const int m = threadIdx.x % G::BM, parts = a.queries.parts, steps = int(tiles_of(at.C, G::BC)) * parts;
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

    T* const products = reinterpret_cast<T*>(memory);
    product.template put<L::kProductStride>(products);
    target_squares[threadIdx.x / G::BM][m] = target_square;
    sum_query_squares(a, at, query_squares);
    __syncthreads();
    sum_target_squares(a, at, target_squares);
    __syncthreads();

    const T least = least_distance<T>(at.C);
    const auto score = [&](int r, int j, bool& wanting) {
        const T product = products[r * L::kProductStride + j], query = query_squares[r], cell = target_squares[0][j];
        const T s = finish_score(product, query, cell, a.metric);
        wanting = needs_float64(s, product, query, cell, least, a.metric);
        return s;
    };
    bool any = false;
    write_scores<G, T>(a, at, [&](int r, int j) {
        bool wanting;
        const T s = score(r, j, wanting);
        any = any || wanting;
        return s;
    });
    if (!__syncthreads_or(any)) return;
    write_scores<G, T>(a, at, [&](int r, int j) {
        bool wanting;
        const T s = score(r, j, wanting);
        return wanting ? float64_score<S>(a, at, r, j, cell_offset[j]) : s;
    });
}

// Wide tiles of queries where there are many; narrow tiles of cells where there are too few to fill the chip.
enum class TileSize { narrow, wide, many_queries };

TileSize tile_size(const View& target, const Block& block, Stream stream) {
    if (target.dtype == SIMPLEMATCH_FLOAT64) return TileSize::narrow;
    if (block.count > 48) return TileSize::many_queries;
    const int64_t blocks = tiles_of(target.size[2] * target.size[3], 64) * tiles_of(block.count, 32) * block.images;
    return blocks >= 2 * stream.processors ? TileSize::wide : TileSize::narrow;
}

template <class S, class G>
void launch_tiles(const Arguments& arguments, const Block& block, Stream stream) {
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

int64_t similarity_tile(const View& target, const Block& block, Stream stream) {
    return tile_size(target, block, stream) == TileSize::narrow ? 32 : 64;
}

int64_t similarity_tiles(const View& target, const Block& block, Stream stream) {
    return tiles_of(target.size[2] * target.size[3], similarity_tile(target, block, stream));
}

void similarity(const Similarity& step, const Block& block, Stream stream) {
    const int64_t padded_queries = QueryTiles::padded_queries(block.count);
    const int64_t padded_channels = QueryTiles::padded_channels(step.target.size[1]);
    const Arguments arguments{step, block, padded_queries, padded_channels, block.images * padded_queries * padded_channels};
    if (step.metric.kind == SIMPLEMATCH_L1)
        return absolute_similarity(arguments, similarity_tile(step.target, block, stream), stream);
    const TileSize size = tile_size(step.target, block, stream);
    with_storage(step.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        if constexpr (sizeof(S) == 8) {
            launch_tiles<S, Shape<32, 32, 16, 128, 4, 2>>(arguments, block, stream);
        } else {
            constexpr int deep = sizeof(S) == 2 ? 64 : 32;
            if (size == TileSize::many_queries) return launch_tiles<S, Shape<64, 64, deep, 256, 4, 4>>(arguments, block, stream);
            if (size == TileSize::wide) return launch_tiles<S, Shape<32, 64, deep, 128, 4, 4>>(arguments, block, stream);
            launch_tiles<S, Shape<32, 32, 64, 128, 4, 2>>(arguments, block, stream);
        }
    });
}

}  // namespace simplematch::cuda
