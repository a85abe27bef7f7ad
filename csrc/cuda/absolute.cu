// similarity of the metric l1: s[n, m] = -sum_c |q_nc - f_mc| of every query with every target cell.
//
// Block = 32 queries x 32 or 64 cells of one image, as in `similarity`: of both, tiles of channels lie in shared memory in the
// type of the arithmetic, and a thread sums a few differences in registers. Bytes: those of `similarity`. Two operations for each
// difference, whose magnitude costs none, where a product has one. Nothing cancels, so that float needs no help.
#include "absolute.h"
#include "launch.h"
#include "similarity.h"
#include "tile.h"

namespace simplematch::cuda {
namespace {

constexpr int kThreads = 128, kQueries = 32;

template <class S, int CELLS>
struct Shape {
    static constexpr int BN = kQueries, BM = CELLS, BC = sizeof(S) == 8 ? 16 : 32, THREADS = kThreads;
    static constexpr int kColumns = CELLS / 16;  // of a thread, which has 4 rows
    static constexpr int kQueryStride = BN + 4, kTargetStride = BM + 4, kScoreStride = BM + 4;
};

// One tile of the queries, [channel][query]. 16-bit parts of bilinear samples would lose what float32 keeps of a small
// difference: those are sampled again.
template <class S, class G>
__device__ void read_queries(const SimilarityArguments& a, const Place<G>& at, int64_t c0, const Sample* samples,
                             Arithmetic<S>* tile) {
    const S* const from = static_cast<const S*>(a.queries.data) + (at.b * a.padded_channels + c0) * a.padded_queries + at.n0;
    for (int i = threadIdx.x; i < G::BC * G::BN; i += kThreads) {
        const int c = i / G::BN, n = i % G::BN;
        Arithmetic<S>& to = tile[c * G::kQueryStride + n];
        if (a.queries.parts > 1)
            to = at.n0 + n < a.block.count && c0 + c < at.C ? sampled<S, 1>(a.from.source, samples[n], at.b, c0 + c) : 0;
        else
            to = widen(from[c * a.padded_queries + n]);
    }
}

template <class S, bool CHANNELS_LAST, int V, class G>
__global__ void __launch_bounds__(kThreads, 1) absolute_kernel(SimilarityArguments a) {
    using T = Arithmetic<S>;
    using TargetCopy = TileCopy<S, T, CHANNELS_LAST ? G::BC : G::BM, CHANNELS_LAST ? G::BM : G::BC, V, kThreads,
                                G::kTargetStride, CHANNELS_LAST>;
    constexpr int inputs = G::BC * (G::kQueryStride + G::kTargetStride), outputs = G::BN * G::kScoreStride;
    alignas(128) __shared__ T memory[inputs > outputs ? inputs : outputs];
    __shared__ int64_t cell_offset[G::BM];
    __shared__ T target_squares[kThreads / G::BM][G::BM];
    __shared__ Sample samples[G::BN];
    T* const query_tile = memory;
    T* const target_tile = memory + G::BC * G::kQueryStride;
    const Place<G> at(a);
    const S* const target = static_cast<const S*>(a.target.data) + at.b * a.target.stride[0];
    list_cells<G::BM>(a.target, at.m0, at.M, cell_offset);
    if (a.queries.parts > 1 && threadIdx.x < G::BN && at.n0 + threadIdx.x < a.block.count)
        samples[threadIdx.x] =
            sample_query(a.from.source, a.from.keypoints, a.from.sampling, at.b, a.block.first + at.n0 + threadIdx.x);
    __syncthreads();

    TargetCopy copy;
    const auto fetch = [&](int64_t c0) {
        copy.fetch([&](int slow, int fast) -> const S* {
            const int64_t c = c0 + (CHANNELS_LAST ? fast : slow), cell = cell_offset[CHANNELS_LAST ? slow : fast];
            return cell != kNoCell && c < at.C ? target + cell + c * a.target.stride[1] : nullptr;
        });
    };
    DifferenceSum<T, G::BM, G::BC, 4, G::kColumns, G::kQueryStride, G::kTargetStride> sum;
    sum.clear();
    T square = 0;
    const int m = threadIdx.x % G::BM;
    fetch(0);
    for (int64_t c0 = 0; c0 < at.C; c0 += G::BC) {
        copy.put(target_tile);
        read_queries<S>(a, at, c0, samples, query_tile);
        __syncthreads();
        if (c0 + G::BC < at.C) fetch(c0 + G::BC);  // while these tiles are worked on
        sum.add(query_tile, target_tile);
        for (int c = threadIdx.x / G::BM; c < G::BC; c += kThreads / G::BM) {
            const T f = target_tile[c * G::kTargetStride + m];
            square = fma(f, f, square);
        }
        __syncthreads();
    }
    sum.template put<G::kScoreStride>(memory);
    target_squares[threadIdx.x / G::BM][m] = square;
    __syncthreads();
    if (a.norms != nullptr && at.i_n == 0 && threadIdx.x < G::BM && at.m0 + m < at.M) {
        for (int part = 1; part < kThreads / G::BM; ++part) square += target_squares[part][m];
        static_cast<T*>(a.norms)[at.b * at.M + at.m0 + m] = sqrt(square);
    }
    write_scores<G, T>(a, at, [&](int r, int j) { return 0 - memory[r * G::kScoreStride + j]; });
}

template <class S, class G>
void launch_tiles(const SimilarityArguments& arguments, Stream stream) {
    const Walk walk = walk_of(arguments.target);
    const int64_t cells = arguments.target.size[2] * arguments.target.size[3];
    const int64_t blocks = tiles_of(arguments.block.count, G::BN) * tiles_of(cells, G::BM) * arguments.block.images;
    with_bool(walk.channels_last, [&](auto channels_last) {
        with_bool(walk.vectors, [&](auto vectors) {
            constexpr int V = vectors ? 16 / int(sizeof(S)) : 1;
            launch(absolute_kernel<S, channels_last, V, G>, blocks, kThreads, arguments, stream, "similarity");
        });
    });
}

}  // namespace

void absolute_similarity(const SimilarityArguments& arguments, int64_t tile, Stream stream) {
    with_storage(arguments.target.dtype, [&](auto* type) {
        using S = std::remove_pointer_t<decltype(type)>;
        if (tile == 32) return launch_tiles<S, Shape<S, 32>>(arguments, stream);
        if constexpr (sizeof(S) < 8) launch_tiles<S, Shape<S, 64>>(arguments, stream);
    });
}

}  // namespace simplematch::cuda
