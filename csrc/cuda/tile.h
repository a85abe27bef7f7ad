// Tiles of a map on their way from global memory through registers into shared memory.
#pragma once

#include "common.h"

namespace simplematch::cuda {

// A tile of FAST x SLOW numbers, of which V along the fast axis lie side by side in memory. `fetch` starts the reads of
// a tile, `put` waits for them and writes rows of STRIDE numbers: the fast axis along them, or across if TRANSPOSED.
//
// Lanes of a warp read whole lines; transposed, whole sectors of 32 bytes from as many rows as lets them write to
// shared memory without bank conflicts.
template <class S, class Stored, int FAST, int SLOW, int V, int THREADS, int STRIDE, bool TRANSPOSED>
class TileCopy {
public:
    static constexpr int kPasses = FAST * SLOW / (V * THREADS);
    static_assert(kPasses * V * THREADS == FAST * SLOW, "every thread reads as much");

    // Where the thread's vector `pass` begins. Not transposed, `fast` is the same in every pass.
    __device__ static int fast(int pass) {
        if constexpr (!TRANSPOSED) return threadIdx.x % kVectors * V;
        return (warp_tile(pass) % kTilesFast * kLanesFast + threadIdx.x % kLanesFast) * V;
    }
    __device__ static int slow(int pass) {
        if constexpr (!TRANSPOSED) return threadIdx.x / kVectors + pass * (THREADS / kVectors);
        return warp_tile(pass) / kTilesFast * kLanesSlow + threadIdx.x % kWarp / kLanesFast;
    }

    // `address(slow, fast)` is where to read, or null: zeros.
    template <class Address>
    __device__ void fetch(Address&& address) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            const S* const from = address(slow(pass), fast(pass));
            held_[pass] = from == nullptr ? Vector<S, V>{} : *reinterpret_cast<const Vector<S, V>*>(from);
        }
    }

    __device__ void put(Stored* shared) const {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            if constexpr (TRANSPOSED) {
#pragma unroll
                for (int v = 0; v < V; ++v) shared[(fast(pass) + v) * STRIDE + slow(pass)] = stored(held_[pass].at[v]);
            } else {
                put_row(shared + slow(pass) * STRIDE + fast(pass), held_[pass]);
            }
        }
    }

private:
    static constexpr int kVectors = FAST / V;
    static constexpr int kSector = 32 / (V * int(sizeof(S)));
    static constexpr int kLanesFast = kSector < 1 ? 1 : kSector;
    static constexpr int kLanesSlow = kWarp / kLanesFast;
    static constexpr int kTilesFast = FAST / (kLanesFast * V);
    static_assert(TRANSPOSED ? kTilesFast * kLanesFast * V == FAST && SLOW % kLanesSlow == 0 : THREADS % kVectors == 0,
                  "the tile divides evenly");

    __device__ static int warp_tile(int pass) { return threadIdx.x / kWarp + pass * (THREADS / kWarp); }

    __device__ static Stored stored(S x) {
        if constexpr (std::is_same_v<S, Stored>)
            return x;
        else
            return Stored(widen(x));
    }

    __device__ static void put_row(Stored* to, const Vector<S, V>& from) {
        constexpr int together = V * int(sizeof(Stored)) < 16 ? V : 16 / int(sizeof(Stored));
#pragma unroll
        for (int v = 0; v < V; v += together) {
            Vector<Stored, together> part;
#pragma unroll
            for (int i = 0; i < together; ++i) part.at[i] = stored(from.at[v + i]);
            *reinterpret_cast<Vector<Stored, together>*>(to + v) = part;
        }
    }

    Vector<S, V> held_[kPasses];
};

constexpr int64_t kNoCell = INT64_MIN;  // strides may be negative, and so offsets

// Element offsets, in one image of a map, of COUNT cells from `first` on; kNoCell where there is none before `end`.
template <int COUNT>
__device__ inline void list_cells(const View& map, int64_t first, int64_t end, int64_t* offsets) {
    for (int i = threadIdx.x; i < COUNT; i += blockDim.x) {
        const int64_t m = first + i;
        const uint32_t cell = uint32_t(m), width = uint32_t(map.size[3]);  // division of 64 bits takes four times as long
        offsets[i] = m < end ? cell / width * map.stride[2] + cell % width * map.stride[3] : kNoCell;
    }
}

}  // namespace simplematch::cuda
