// Residual sum and RMS norm in one pass, and its backward pass.
//
//   r = residual + delta;  x = r (rounded to the element type, if ROUND);
//   hat = x / sqrt(mean(x^2) + eps), rounded;  normed = weight hat                     (rows, W)
//   dx = inv (g w - hat mean(g w hat)),  g_residual += dx,  g_delta = g_residual, rounded
//
// residual, g_residual: fp32, updated in place. delta, hat, normed, g, g_delta: elements. inv: (rows,),
// 1 / sqrt(...). weight: (W,) fp32. Null pointers: delta, hat, inv (not wanted).
//
// Mapping: a block a row; a thread has WIDE neighbouring columns in each of ROUNDS rounds, in
// registers. Memory-bound: every tensor is read or written once.

#include "common.cuh"

#define THREADS 256

// Sum over the block, in a fixed order; every thread gets it.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float s_sum[THREADS / 32];
#pragma unroll
    for (int far = 16; far > 0; far /= 2) value += __shfl_xor_sync(~0u, value, far);
    if (threadIdx.x % 32 == 0) s_sum[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < THREADS / 32; w++) sum += s_sum[w];
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) norm_forward(
    float* __restrict__ residual, const elem* delta, const float* weight,
    elem* __restrict__ hat, elem* __restrict__ normed, float* __restrict__ inv, i64 width, float eps)
{
    wait_for_previous();
    const i64 row = (i64)blockIdx.x * width;
    float x[ROUNDS][WIDE], squares = 0.f;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int at = (r * THREADS + threadIdx.x) * WIDE, valid = min(WIDE, (int)width - at);
        const Row<WIDE> add = load_row<WIDE>(delta + row + at, delta ? valid : 0);
        const Floats<WIDE> before = load_floats<WIDE>(residual + row + at, valid);
        Floats<WIDE> sum;
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            x[r][e] = sum.at[e] = before.at[e] + add.at(e);
#if ROUND
            x[r][e] = to_float(to_elem(x[r][e]));
#endif
            squares += x[r][e] * x[r][e];
        }
        if (delta) store_floats<WIDE>(residual + row + at, sum, valid);
    }
    const float scale = rsqrtf(block_sum(squares) / width + eps);
    if (inv && threadIdx.x == 0) inv[blockIdx.x] = scale;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int at = (r * THREADS + threadIdx.x) * WIDE, valid = min(WIDE, (int)width - at);
        const Floats<WIDE> w = load_floats<WIDE>(weight + at, valid);
        float value[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            x[r][e] *= scale;
#if ROUND
            x[r][e] = to_float(to_elem(x[r][e]));
#endif
            value[e] = x[r][e] * w.at[e];
        }
        if (hat) store_row<WIDE>(hat + row + at, x[r], valid);
        store_row<WIDE>(normed + row + at, value, valid);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) norm_backward(
    const elem* g, const elem* hat, const float* inv,
    const float* weight, float* __restrict__ g_residual, elem* __restrict__ g_delta,
    i64 width)
{
    wait_for_previous();
    const i64 row = (i64)blockIdx.x * width;
    float gw[ROUNDS][WIDE], along = 0.f;
    Row<WIDE> x[ROUNDS];
    Floats<WIDE> past[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int at = (r * THREADS + threadIdx.x) * WIDE, valid = min(WIDE, (int)width - at);
        const Row<WIDE> to = load_row<WIDE>(g + row + at, valid);
        x[r] = load_row<WIDE>(hat + row + at, valid);
        const Floats<WIDE> w = load_floats<WIDE>(weight + at, valid);
        past[r] = load_floats<WIDE>(g_residual + row + at, valid);
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            gw[r][e] = to.at(e) * w.at[e];
            along += gw[r][e] * x[r].at(e);
        }
    }
    const float scale = inv[blockIdx.x], mean = block_sum(along) / width;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int at = (r * THREADS + threadIdx.x) * WIDE, valid = min(WIDE, (int)width - at);
#pragma unroll
        for (int e = 0; e < WIDE; e++) past[r].at[e] += scale * (gw[r][e] - x[r].at(e) * mean);
        store_floats<WIDE>(g_residual + row + at, past[r], valid);
        store_row<WIDE>(g_delta + row + at, past[r].at, valid);
    }
}
