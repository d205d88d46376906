// One token through a Mamba block: four kernels for few sequences, two of them for many.
//
//   step_in    normed = RMS norm of residual;  x, z = in_proj normed;  u = silu(conv(state, x))
//   step_x     low, B, C = x_proj u
//   step_scan  dt = softplus(dt_proj low + bias);  h = exp(dt A) h + dt u B;  y = (h . C + D u) silu(z)
//   step_out   residual += out_proj y
//   step_head  logits = head (RMS norm of residual)
//
// residual: (BATCH, WIDTH) fp32, updated in place. Matrices: rows contiguous, of elements; all other
// weights fp32. conv_state: (B, TAPS - 1, D) elements, scan_state: (B, D, STATES) fp32, both updated in
// place. u, z, y: (B, D); x_proj's output: (B, RANK + 2 STATES). Roundings are those of transformers'
// blocks. For many sequences, and for blocks whose products are not plain, the products are others'; then
// step_conv and step_scan (WITH_DT 0: dt (B, D) comes ready in place of dt_proj) do the rest.
//
// Mapping of the products: a warp has ROWS_A_WARP rows of the matrix, its lanes 16 bytes each of every
// 512 bytes, and sums by shuffles. All weights of a warp are asked for before anything else, so the
// norm, or staging the input in shared memory, costs no time of its own; with programmatic dependent
// launch that is while the kernel before still runs.
//
// Floor: the weights, read once; at 4.3 TB/s 19 us a block of mamba-2.8b in bf16.

#define VECTOR 1
#include "common.cuh"

#define CHUNK ((int)(16 / sizeof(elem)))  // elements of a 16-byte load

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int far = 16; far > 0; far /= 2) value += __shfl_xor_sync(~0u, value, far);
    return value;
}

#ifdef PRODUCT
// Of a matrix (rows, INPUTS), the warp's rows against BATCH vectors in shared memory.
#ifndef WARPS
#define WARPS 8
#endif
#define THREADS (32 * WARPS)
#define LOADS ((INPUTS + 32 * CHUNK - 1) / (32 * CHUNK))

struct Weights {
    Row<CHUNK> part[ROWS_A_WARP][LOADS];

    __device__ __forceinline__ void load(const elem* matrix, int first, int rows, int lane) {
#pragma unroll
        for (int r = 0; r < ROWS_A_WARP; r++) {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const int at = (i * 32 + lane) * CHUNK;
                const bool there = first + r < rows && at < INPUTS;
                part[r][i] = load_row<CHUNK>(matrix + (i64)(first + r) * INPUTS + at, there ? CHUNK : 0);
            }
        }
    }

    // Row r against vector b; every lane gets the sum.
    __device__ __forceinline__ float product(int r, const elem (*vectors)[INPUTS], int b, int lane) const {
        float sum = 0.f;
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int at = (i * 32 + lane) * CHUNK;
            if (at >= INPUTS) continue;
            const Row<CHUNK> x = *reinterpret_cast<const Row<CHUNK>*>(&vectors[b][at]);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) sum += part[r][i].at(e) * x.at(e);
        }
        return warp_sum(sum);
    }
};

// RMS norm of every row of residual, into shared memory. ROUND: the sum is rounded before, as in a
// block; the last norm rounds only its result.
__device__ __forceinline__ void norm_rows(elem (*to)[INPUTS], const float* residual, const float* weight,
                                          float eps) {
    __shared__ float s_squares[WARPS];
    for (int b = 0; b < BATCH; b++) {
        float x[(INPUTS + THREADS - 1) / THREADS], squares = 0.f;
#pragma unroll
        for (int i = 0; i * THREADS < INPUTS; i++) {
            const int at = i * THREADS + threadIdx.x;
            x[i] = at < INPUTS ? residual[(i64)b * INPUTS + at] : 0.f;
#if ROUND
            x[i] = to_float(to_elem(x[i]));
#endif
            squares += x[i] * x[i];
        }
        squares = warp_sum(squares);
        __syncthreads();
        if (threadIdx.x % 32 == 0) s_squares[threadIdx.x / 32] = squares;
        __syncthreads();
        float sum = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += s_squares[w];
        const float scale = rsqrtf(sum / INPUTS + eps);
#pragma unroll
        for (int i = 0; i * THREADS < INPUTS; i++) {
            const int at = i * THREADS + threadIdx.x;
            if (at >= INPUTS) continue;
            float hat = x[i] * scale;
#if ROUND
            hat = to_float(to_elem(hat));
#endif
            to[b][at] = to_elem(hat * weight[at]);
        }
    }
    __syncthreads();
}

__device__ __forceinline__ void copy_rows(elem (*to)[INPUTS], const elem* from) {
    for (int at = threadIdx.x * CHUNK; at < BATCH * INPUTS; at += THREADS * CHUNK)
        *reinterpret_cast<Row<CHUNK>*>(&to[0][at]) = *reinterpret_cast<const Row<CHUNK>*>(from + at);
    __syncthreads();
}
#endif

// One step of the convolution of channel d, before SiLU: shifts x into its state.
__device__ __forceinline__ float conv_step(elem* state, const float* weight, const float* bias, elem x,
                                           i64 d, i64 inner) {
    float sum = bias ? bias[d] : 0.f;
#pragma unroll
    for (int k = 0; k < TAPS - 1; k++) {
        const elem past = state[k * inner];
        sum += weight[d * TAPS + k] * to_float(past);
        if (k > 0) state[(k - 1) * inner] = past;
    }
    state[(TAPS - 2) * inner] = x;
    return sum + weight[d * TAPS + TAPS - 1] * to_float(x);
}

#if defined(STEP_IN)
extern "C" __global__ void __launch_bounds__(THREADS) step_in(
    const float* residual, const float* norm, const elem* matrix,
    const float* conv, const float* conv_bias, elem* __restrict__ conv_state,
    elem* __restrict__ u, elem* __restrict__ z, i64 inner, float eps)
{
    __shared__ __align__(16) elem s_x[BATCH][INPUTS];
    const int lane = threadIdx.x % 32;
    const int first = (blockIdx.x * WARPS + threadIdx.x / 32) * ROWS_A_WARP;
    Weights weights;
    let_next_start();
    weights.load(matrix, first, 2 * (int)inner, lane);
    wait_for_previous();
    norm_rows(s_x, residual, norm, eps);
#pragma unroll
    for (int r = 0; r < ROWS_A_WARP; r++) {
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            const elem value = to_elem(weights.product(r, s_x, b, lane));
            const i64 d = first + r;
            if (lane != b % 32) continue;  // another lane a sequence: their states come side by side
            if (d < inner)
                u[b * inner + d] = to_elem(silu(
                    conv_step(conv_state + (i64)b * (TAPS - 1) * inner + d, conv, conv_bias, value, d, inner)));
            else if (d < 2 * inner)
                z[b * inner + d - inner] = value;
        }
    }
}
#elif defined(STEP_X)
extern "C" __global__ void __launch_bounds__(THREADS) step_x(
    const elem* u, const elem* matrix, elem* __restrict__ out, i64 rows)
{
    // A block has one row: there are few of them, and a warp alone would wait too long.
    __shared__ float s_sum[WARPS][BATCH];
    const int row = blockIdx.x, warp = threadIdx.x / 32;
    constexpr int loads = (INPUTS + THREADS * CHUNK - 1) / (THREADS * CHUNK);
    float sum[BATCH] = {};
    Row<CHUNK> weights[loads];
    let_next_start();
#pragma unroll
    for (int i = 0; i < loads; i++) {
        const int at = (i * THREADS + threadIdx.x) * CHUNK;
        weights[i] = load_row<CHUNK>(matrix + (i64)row * INPUTS + at, at < INPUTS ? CHUNK : 0);
    }
    wait_for_previous();
#pragma unroll
    for (int i = 0; i < loads; i++) {
        const int at = (i * THREADS + threadIdx.x) * CHUNK;
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            const Row<CHUNK> x = load_row<CHUNK>(u + (i64)b * INPUTS + at, at < INPUTS ? CHUNK : 0);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) sum[b] += weights[i].at(e) * x.at(e);
        }
    }
#pragma unroll
    for (int b = 0; b < BATCH; b++) {
        sum[b] = warp_sum(sum[b]);
        if (threadIdx.x % 32 == 0) s_sum[warp][b] = sum[b];
    }
    __syncthreads();
    if (threadIdx.x < BATCH) {
        float total = 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) total += s_sum[w][threadIdx.x];
        out[threadIdx.x * rows + row] = to_elem(total);
    }
}
#elif defined(STEP_OUT)
extern "C" __global__ void __launch_bounds__(THREADS) step_out(
    const elem* y, const elem* matrix, float* __restrict__ residual, i64 rows)
{
    __shared__ __align__(16) elem s_y[BATCH][INPUTS];
    const int lane = threadIdx.x % 32;
    const int first = (blockIdx.x * WARPS + threadIdx.x / 32) * ROWS_A_WARP;
    Weights weights;
    let_next_start();
    weights.load(matrix, first, (int)rows, lane);
    wait_for_previous();
    copy_rows(s_y, y);
#pragma unroll
    for (int r = 0; r < ROWS_A_WARP; r++) {
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            const float value = to_float(to_elem(weights.product(r, s_y, b, lane)));
            if (lane == b % 32 && first + r < rows) residual[b * rows + first + r] += value;
        }
    }
}
#elif defined(STEP_HEAD)
extern "C" __global__ void __launch_bounds__(THREADS) step_head(
    const float* residual, const float* norm, const elem* matrix,
    float* __restrict__ logits, i64 rows, float eps)
{
    __shared__ __align__(16) elem s_x[BATCH][INPUTS];
    const int lane = threadIdx.x % 32;
    const int first = (blockIdx.x * WARPS + threadIdx.x / 32) * ROWS_A_WARP;
    Weights weights;
    let_next_start();
    weights.load(matrix, first, (int)rows, lane);
    wait_for_previous();
    norm_rows(s_x, residual, norm, eps);
#pragma unroll
    for (int r = 0; r < ROWS_A_WARP; r++) {
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            const float value = to_float(to_elem(weights.product(r, s_x, b, lane)));
            if (lane == b % 32 && first + r < rows) logits[b * rows + first + r] = value;
        }
    }
}
#elif defined(STEP_CONV)
extern "C" __global__ void __launch_bounds__(128) step_conv(
    const elem* x, const float* conv, const float* conv_bias,
    elem* __restrict__ conv_state, elem* __restrict__ u, i64 inner, i64 x_row, i64 apply_silu)
{
    let_next_start();
    wait_for_previous();
    const i64 d = (i64)blockIdx.x * blockDim.x + threadIdx.x, b = blockIdx.y;
    if (d >= inner) return;
    const float sum = conv_step(conv_state + b * (TAPS - 1) * inner + d, conv, conv_bias, x[b * x_row + d],
                                d, inner);
    u[b * inner + d] = to_elem(apply_silu ? silu(sum) : sum);
}
#elif defined(STEP_SCAN)
#define LANES (STATES / PER_LANE)

// A block has 128 / LANES channels of one sequence; LANES threads share a channel's row of dt_proj, and
// then have PER_LANE of its states each.
extern "C" __global__ void __launch_bounds__(128) step_scan(
    const elem* u, const elem* low, const elem* B,
    const elem* C, const elem* dt_or_matrix, const float* dt_bias,
    const float* A, const float* D, const elem* z,
    float* __restrict__ state, elem* __restrict__ y,
    i64 inner, i64 low_row, i64 B_row, i64 C_row, i64 z_row, i64 apply_softplus)
{
    const int lane = threadIdx.x % LANES;
    const i64 d = (i64)blockIdx.x * (128 / LANES) + threadIdx.x / LANES, b = blockIdx.y;
    const bool live = d < inner;
    B += b * B_row;
    C += b * C_row;
    float* h = state + (b * inner + d) * STATES + lane * PER_LANE;
    float past[PER_LANE] = {}, rate[PER_LANE] = {}, step = 0.f;
    let_next_start();
#if !WITH_DT
    wait_for_previous();  // whoever brings dt may have made the parameters just before, too
#endif
    if (live) {
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) rate[j] = A[d * STATES + lane * PER_LANE + j];
    }
    const float bias = live && dt_bias ? dt_bias[d] : 0.f, skip = live && D ? D[d] : 0.f;
#if WITH_DT
    constexpr int loads = (RANK + LANES * CHUNK - 1) / (LANES * CHUNK);
    Row<CHUNK> weights[loads];
#pragma unroll
    for (int i = 0; i < loads; i++) {
        const int at = (i * LANES + lane) * CHUNK;
        weights[i] = load_row<CHUNK>(dt_or_matrix + d * RANK + at, live && at < RANK ? CHUNK : 0);
    }
    wait_for_previous();
#endif
    if (live) {
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) past[j] = h[j];
    }
#if WITH_DT
#pragma unroll
    for (int i = 0; i < loads; i++) {
        const int at = (i * LANES + lane) * CHUNK;
        const Row<CHUNK> x = load_row<CHUNK>(low + b * low_row + at, at < RANK ? CHUNK : 0);
#pragma unroll
        for (int e = 0; e < CHUNK; e++) step += weights[i].at(e) * x.at(e);
    }
#pragma unroll
    for (int far = LANES / 2; far > 0; far /= 2) step += __shfl_xor_sync(~0u, step, far);
    step = to_float(to_elem(step));
#else
    if (live) step = to_float(dt_or_matrix[b * inner + d]);
#endif
    step += bias;
    if (apply_softplus) step = softplus(step, exp2_fast(step * LOG2E));
    const float x = live ? to_float(u[b * inner + d]) : 0.f;
    float sum = 0.f;
#pragma unroll
    for (int j = 0; j < PER_LANE; j++) {
        const int n = lane * PER_LANE + j;
        past[j] = exp2_fast(step * rate[j] * LOG2E) * past[j] + step * x * to_float(B[n]);
        sum += past[j] * to_float(C[n]);
        if (live) h[j] = past[j];
    }
#pragma unroll
    for (int far = LANES / 2; far > 0; far /= 2) sum += __shfl_xor_sync(~0u, sum, far);
    if (live && lane == 0) {
        sum += skip * x;
        if (z) sum *= silu(to_float(z[b * z_row + d]));
        y[b * inner + d] = to_elem(sum);
    }
}
#endif
