// A GPU for tests: this folder stands in for CUDA's headers, so that the sources in csrc/cuda compile with a C++ compiler
// and their kernels run on the CPU, statement by statement as written.
//
// The blocks of a launch run one after another, the threads of a block as fibers that hand over at barriers and warp
// exchanges, so every order that depends on them is exercised and sanitizers see every access. A barrier that some thread
// never reaches, or a warp exchange without its whole warp, ends the program with a message.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // blocks do not overlap in time
#define __launch_bounds__(...)

using std::max;
using std::min;

struct dim3 {
    unsigned x, y, z;
    explicit dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 {
    unsigned x, y, z;
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulation {

// Hands over until every thread that has not returned, or every lane of the warp, is here.
void block_barrier();
void warp_barrier();
// 8 bytes per thread of the block, in two sets: one is written while the other may still be read. Warps exchange each at
// its own pace, so the votes of a block have sets of their own.
uint64_t* exchange_slots();
uint64_t* vote_slots();
void launch(void (*run)(void* kernel, void* argument), void* kernel, void* argument, dim3 grid, dim3 block);

template <class T>
T exchange(T mine, unsigned from_thread) {
    static_assert(sizeof(T) <= 8, "a slot holds 8 bytes");
    uint64_t* const slots = exchange_slots();
    std::memcpy(slots + threadIdx.x, &mine, sizeof mine);
    warp_barrier();
    T other;
    std::memcpy(&other, slots + from_thread, sizeof other);
    return other;
}

}  // namespace emulation

inline void __syncthreads() { emulation::block_barrier(); }

inline int __syncthreads_or(int mine) {
    uint64_t* const slots = emulation::vote_slots();
    slots[threadIdx.x] = mine != 0;
    emulation::block_barrier();
    return std::any_of(slots, slots + blockDim.x, [](uint64_t x) { return x != 0; });
}

template <class T>
T __shfl_xor_sync(unsigned, T mine, int distance) {
    return emulation::exchange(mine, threadIdx.x ^ unsigned(distance));
}

inline unsigned __ballot_sync(unsigned, int mine) {
    uint64_t* const slots = emulation::exchange_slots();
    slots[threadIdx.x] = mine != 0;
    emulation::warp_barrier();
    unsigned lanes = 0;
    for (unsigned lane = 0; lane < 32; ++lane) lanes |= unsigned(slots[threadIdx.x / 32 * 32 + lane]) << lane;
    return lanes;
}

inline int __ffs(unsigned x) { return __builtin_ffs(int(x)); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int32_t __float_as_int(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline float __int_as_float(int32_t x) {
    float value;
    std::memcpy(&value, &x, sizeof value);
    return value;
}
inline double __longlong_as_double(long long x) {
    double value;
    std::memcpy(&value, &x, sizeof value);
    return value;
}
inline long long __double_as_longlong(double x) {
    long long bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };
using cudaStream_t = struct EmulatedStream*;

inline const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "invalid argument"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 4, cudaSuccess; }

template <class Argument>
cudaError_t cudaLaunchKernel(void (*kernel)(Argument), dim3 grid, dim3 block, void** arguments, size_t, cudaStream_t) {
    if (grid.x == 0 || block.x == 0 || block.x > 1024 || block.x % 32 != 0) return cudaErrorInvalidValue;
    emulation::launch(
        [](void* k, void* a) { (*reinterpret_cast<void (**)(Argument)>(k))(*static_cast<Argument*>(a)); }, &kernel,
        arguments[0], grid, block);
    return cudaSuccess;
}
