// Cross-entropy of rows of logits, and its gradient in their place.
//
// logits: (rows, V) contiguous; with `gradient`, overwritten by softmax - onehot. targets: (rows,)
// 64-bit, negative: no loss, gradient zero. losses: (rows,) fp32, logsumexp - logit of the target.
//
// Mapping: a block a row, twice over it: maximum and sum together first, then the gradient; the second
// time the row comes from the L2 cache. Memory-bound: 2 or 3 passes over 2 V bytes.

#include "common.cuh"

#define THREADS 512
#define INF __int_as_float(0x7f800000)

// The pair (maximum, sum of exp(x - maximum)) of two sets of numbers.
__device__ __forceinline__ float2 join(float2 a, float2 b) {
    const float top = fmaxf(a.x, b.x);
    if (top == -INF) return make_float2(top, 0.f);
    return make_float2(top, a.y * exp2_fast((a.x - top) * LOG2E) + b.y * exp2_fast((b.x - top) * LOG2E));
}

extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy(
    elem* __restrict__ logits, const i64* targets, float* __restrict__ losses,
    i64 words, i64 gradient)
{
    let_next_start();
    wait_for_previous();
    __shared__ float2 s_part[THREADS / 32];
    elem* row = logits + (i64)blockIdx.x * words;
    const i64 target = targets[blockIdx.x];
    const int count = (int)words;
    // Read before any of the row is overwritten.
    const float wanted = target >= 0 ? to_float(row[target]) : 0.f;
    float2 part = make_float2(-INF, 0.f);
    for (int at = threadIdx.x * WIDE; at < count; at += THREADS * WIDE) {
        const int valid = min(WIDE, count - at);
        const Row<WIDE> x = load_row<WIDE>(row + at, valid);
        float top = part.x;
#pragma unroll
        for (int e = 0; e < WIDE; e++)
            if (e < valid) top = fmaxf(top, x.at(e));
        if (top == -INF) continue;
        float sum = part.y * exp2_fast((part.x - top) * LOG2E);
#pragma unroll
        for (int e = 0; e < WIDE; e++)
            if (e < valid) sum += exp2_fast((x.at(e) - top) * LOG2E);
        part = make_float2(top, sum);
    }
#pragma unroll
    for (int far = 16; far > 0; far /= 2)
        part = join(part, make_float2(__shfl_xor_sync(~0u, part.x, far), __shfl_xor_sync(~0u, part.y, far)));
    if (threadIdx.x % 32 == 0) s_part[threadIdx.x / 32] = part;
    __syncthreads();
    part = s_part[0];
#pragma unroll
    for (int w = 1; w < THREADS / 32; w++) part = join(part, s_part[w]);
    const float norm = part.x + logf(part.y);
    if (threadIdx.x == 0) losses[blockIdx.x] = target >= 0 ? norm - wanted : 0.f;
    if (!gradient) return;
    const float factor = target >= 0 ? 1.f : 0.f;
    for (int at = threadIdx.x * WIDE; at < count; at += THREADS * WIDE) {
        const int valid = min(WIDE, count - at);
        const Row<WIDE> x = load_row<WIDE>(row + at, valid);
        float value[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++)
            value[e] = (exp2_fast((x.at(e) - norm) * LOG2E) - (at + e == target ? 1.f : 0.f)) * factor;
        store_row<WIDE>(row + at, value, valid);
    }
}
