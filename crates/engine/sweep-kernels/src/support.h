/* Written in what CUDA C++ and C have in common. A CPU runs it with loops in place of threads, and gives the same bits. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC__
#define FUNCTION static __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__(256)
#define THREAD (blockIdx.x * (u64)blockDim.x + threadIdx.x)
#define THREADS (gridDim.x * (u64)blockDim.x)
#define FOR_WARPS(job, count) for (u64 job = THREAD / 32; job < count; job += THREADS / 32)
#define FOR_THREADS(job, count) for (u64 job = THREAD; job < count; job += THREADS)
#define LANES_BEGIN { const u32 lane = threadIdx.x & 31;
#define LANES_END } __syncwarp();
#define ON_LANE_0 if ((threadIdx.x & 31) == 0)
/* A number of each lane. */
#define LANED(x) float x = 0
#define OF(x) x
#define TOTAL(x) total32(x)
#define TOTAL8(x) total8(x)
#define IN_ORDER(x, n) in_order(x, n)
#define WIDE_LANED(x) double x = 0
FUNCTION float as_float(u64 word) { return __uint_as_float((u32)word); }
FUNCTION u32 as_bits(float x) { return __float_as_uint(x); }
/* The lanes by halves, as on the CPU, and the elements after the last full block in their order. */
#define SUMS(number, total, in_order) \
FUNCTION number total(number x) { \
    for (int far = 16; far; far >>= 1) x += __shfl_xor_sync(~0u, x, far); \
    return x; \
} \
FUNCTION number in_order(number x, u32 n) { \
    number sum = 0; \
    for (u32 i = 0; i < n; i++) sum += __shfl_sync(~0u, x, i); \
    return sum; \
}
FUNCTION float total8(float x) {
    for (int far = 4; far; far >>= 1) x += __shfl_xor_sync(~0u, x, far);
    return __shfl_sync(~0u, x, 0);
}
/* Adds 32 terms, of which there may be fewer, to eight lanes. */
#define ADD8(sum, x, n) sum = add8(sum, x, n)
FUNCTION float add8(float sum, float x, u64 n) {
    for (u32 from = threadIdx.x & 7; from < 32; from += 8) {
        const float term = __shfl_sync(~0u, x, from);
        if (from < n) sum += term;
    }
    return sum;
}
/* Work of the 256 threads of a block, which share memory; all have done a part before the next begins. */
#define FOR_BLOCKS(job, count) for (u64 job = blockIdx.x; job < count; job += gridDim.x)
#define SHARED __shared__
#define THREADS_BEGIN { const u32 thread = threadIdx.x;
#define THREADS_END } __syncthreads();
/* Numbers of each thread. */
#define THREADED(x, n) float x[n] = {0}
#define OWN(x) x
/* Loads of several elements before the first is needed. */
#define UNROLL _Pragma("unroll 4")
#define RESTRICT __restrict__
#else
#include <math.h>
#include <string.h>
#define FUNCTION static inline
#define KERNEL void
#define FOR_WARPS(job, count) for (u64 job = 0; job < count; job++)
#define FOR_THREADS(job, count) for (u64 job = 0; job < count; job++)
#define LANES_BEGIN for (u32 lane = 0; lane < 32; lane++) {
#define LANES_END }
#define ON_LANE_0
#define LANED(x) float x[32] = {0}
#define OF(x) x[lane]
#define TOTAL(x) total32(x)
#define TOTAL8(x) total8(x)
#define IN_ORDER(x, n) in_order(x, n)
#define WIDE_LANED(x) double x[32] = {0}
#define ADD8(sum, x, n) for (u64 i = 0; i < 32 && i < n; i++) sum[i % 8] += x[i]
#define FOR_BLOCKS(job, count) for (u64 job = 0; job < count; job++)
#define SHARED
#define THREADS_BEGIN for (u32 thread = 0; thread < 256; thread++) {
#define THREADS_END }
#define THREADED(x, n) float x[256][n] = {{0}}
#define OWN(x) x[thread]
#define UNROLL
#define RESTRICT restrict
FUNCTION float as_float(u64 word) { u32 bits = (u32)word; float x; memcpy(&x, &bits, 4); return x; }
FUNCTION u32 as_bits(float x) { u32 bits; memcpy(&bits, &x, 4); return bits; }
#define BY_HALVES(number, total, lanes) \
FUNCTION number total(number *x) { \
    for (u32 n = lanes / 2; n; n /= 2) for (u32 i = 0; i < n; i++) x[i] = x[i] + x[i + n]; \
    return x[0]; \
}
#define SUMS(number, total, in_order) \
BY_HALVES(number, total, 32) \
FUNCTION number in_order(const number *x, u32 n) { \
    number sum = 0; \
    for (u32 i = 0; i < n; i++) sum += x[i]; \
    return sum; \
}
BY_HALVES(float, total8, 8)
#endif
SUMS(float, total32, in_order)
/* Of terms in float64. */
SUMS(double, wide_total32, wide_in_order)
#define WIDE_TOTAL(x) wide_total32(x)
#define WIDE_IN_ORDER(x, n) wide_in_order(x, n)

#define TILE 1024u
#define CHUNK 524288u

/* bfloat16 in memory. */
FUNCTION float from_bf16(u16 x) { return as_float((u32)x << 16); }
FUNCTION u16 to_nearest(float x) {
    const u32 bits = as_bits(x);
    if (x != x) return (u16)(bits >> 16 | 0x40);
    return (u16)((bits + (0x7fffu + (bits >> 16 & 1))) >> 16);
}
FUNCTION u16 to_either(float x, u32 random) {
    const u32 bits = as_bits(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) random = 0;
    return (u16)((bits + random) >> 16);
}
FUNCTION float round_bf16(float x) {
    const u32 bits = as_bits(x);
    return as_float(x != x ? bits | 0x00400000u : (bits + (0x7fffu + (bits >> 16 & 1))) & 0xffff0000u);
}
FUNCTION double wide_round_bf16(double x) { return round_bf16((float)x); }

/* The random bits of stochastic rounding: the key of a tile, and those of an element within it. */
FUNCTION u64 key_of_tile(u64 stream, u64 tile) {
    u64 z = stream ^ tile;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
FUNCTION u32 random_bits(u64 key, u32 within) {
    u32 h = (within / 128 * 64 + within % 64) * 0x9e3779b1u ^ (u32)key;
    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;
    h += (u32)(key >> 32);
    h *= 0x846ca68bu;
    h ^= h >> 16;
    return within % 128 < 64 ? h >> 16 : h & 0xffffu;
}

/* Of a number from 0 to 1. */
FUNCTION float arctangent(float x) {
    const float t = x * x, t2 = t * t, t4 = t2 * t2;
    const float first = (-0.3333328f + 0.1999823f * t) + (-0.14261574f + 0.10940199f * t) * t2;
    const float second = (-0.08372064f + 0.05746356f * t) + (-0.030717509f + 0.01068072f * t) * t2;
    return x * (1.0f + t * (first + (second - 0.001743701f * t4) * t4));
}

/* An element's place in an array without an axis; `inner` elements follow one another, and `outer` of them make a round. */
FUNCTION u64 along_at(u64 at, u64 outer, u64 inner) {
    if ((at | outer) >> 32) return at / outer * inner + at % inner;
    const u32 a = (u32)at, o = (u32)outer, i = (u32)inner;
    return a / o * i + a % i;
}

#define ARRAY(type, word) ((type *)(base + w[word]))
#define ARGUMENTS u8 *base, const u64 *words, const float *along, const u32 *jobs, u64 count, double *doubles, float *floats

/* Sums of tiles to one of a chunk: first, number, destination. */
KERNEL fold_sums(ARGUMENTS) {
    (void)base; (void)words; (void)along; (void)floats;
    FOR_THREADS(job, count) {
        const u32 *j = jobs + 3 * job;
        double sum = 0;
        for (u32 i = 0; i < j[1]; i++) sum += doubles[j[0] + i];
        doubles[j[2]] = sum;
    }
}

/* Parts of up to 32 sums, added in order: first, distance of parts, parts, destination, sums. */
KERNEL fold_parts(ARGUMENTS) {
    (void)base; (void)words; (void)along; (void)doubles;
    FOR_WARPS(job, count) {
        const u32 *j = jobs + 5 * job;
        LANES_BEGIN
            if (lane < j[4]) {
                float sum = 0;
                for (u32 i = 0; i < j[2]; i++) sum += floats[j[0] + (u64)i * j[1] + lane];
                floats[j[3] + lane] = sum;
            }
        LANES_END
    }
}
