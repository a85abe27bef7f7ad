// What the kernels of `similarity` share: their arguments, the tile of a block, and how its scores are written.
#pragma once

#include "common.h"
#include "steps.h"

namespace simplematch::cuda {

struct SimilarityArguments : Similarity {
    Block block;
    int64_t padded_queries, padded_channels, part_stride;
};

// Which tile a block works on.
template <class G>
struct Place {
    int64_t C, M, cell_tiles, i_n, i_m, b, n0, m0;

    __device__ explicit Place(const SimilarityArguments& a)
        : C(a.target.size[1]), M(a.target.size[2] * a.target.size[3]), cell_tiles(tiles_of(M, G::BM)) {
        const int64_t query_tiles = tiles_of(a.block.count, G::BN);
        i_n = blockIdx.x % query_tiles, i_m = blockIdx.x / query_tiles % cell_tiles;
        b = blockIdx.x / query_tiles / cell_tiles;
        n0 = i_n * G::BN, m0 = i_m * G::BM;
    }
};

// The scores of a tile, each score(r, j), a warp to a row, and the best cell of each row.
template <class G, class T, class Score>
__device__ void write_scores(const SimilarityArguments& a, const Place<G>& at, Score&& score) {
    const int lane = threadIdx.x % kWarp;
    for (int r = threadIdx.x / kWarp; r < G::BN && at.n0 + r < a.block.count; r += G::THREADS / kWarp) {
        const int64_t slot = at.b * a.block.count + at.n0 + r;
        T* const row = static_cast<T*>(a.scores) + slot * at.M + at.m0;
        Best best{kNoKey, 0};
#pragma unroll
        for (int j = lane; j < G::BM; j += kWarp) {
            if (at.m0 + j >= at.M) break;
            const T s = score(r, j);
            row[j] = s;
            // Found again for each score: a pointer that waits for it takes registers that float16 tiles don't have.
            const uint8_t* const mask = a.masks.of(at.b, a.block.first + at.n0 + r);
            if (mask == nullptr || mask[at.m0 + j] != 0) best = better(best, {ordered(s), int32_t(at.m0 + j)});
        }
        if (a.best.key == nullptr) continue;
        best = best_of_warp(best);
        if (lane > 0) continue;
        a.best.key[slot * at.cell_tiles + at.i_m] = best.key;
        a.best.cell[slot * at.cell_tiles + at.i_m] = best.cell;
    }
}

// `similarity` of the metric l1.
void absolute_similarity(const SimilarityArguments& arguments, int64_t tile, Stream stream);

}  // namespace simplematch::cuda
