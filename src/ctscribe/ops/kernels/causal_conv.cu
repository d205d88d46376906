// Causal convolution along L, one filter of TAPS weights a channel, with SiLU: forward and backward.
//
//   s_t = bias + sum_k w_k x_{t - TAPS + 1 + k},  y_t = silu(s_t)          (B, L, D)
//
// x, y, dy, dx: (B, L, D), D contiguous, each with a batch and a row stride of its own (x is half of
// in_proj's output, dx half of its gradient). weight: (D, TAPS), bias: (D,), fp32.
// initial: (B, TAPS - 1, D), the inputs before x, contiguous. mask: (B, L) bytes; where it is 0, x
// counts as zero and y is zero. apply_silu: 0 leaves it out. settled: see common.cuh. Null pointers: bias, initial (zeros), mask,
// and in the backward pass d_initial and d_weight (not wanted).
// d_weight: (blocks along L, B, D, TAPS + 1) fp32, each block's own sums, the bias's last.
//
// Mapping: a thread has WIDE channels of STEPS rows; neighbouring threads have neighbouring channels.
// Memory-bound: x is read once, and TAPS - 1 rows a thread again.

#include "common.cuh"

#define PAST (TAPS - 1)

// Row t of x where it exists, of `initial` before it, else zeros. Padding is left to `blank`, so that
// no load waits for the mask's.
__device__ __forceinline__ Row<WIDE> input(const elem* x, i64 x_row, const elem* initial, int t, int L,
                                           i64 width, int valid) {
    const bool before = t < 0, there = before ? initial && t >= -PAST : t < L;
    return load_row<WIDE>(before ? initial + (t + PAST) * width : x + t * x_row, there ? valid : 0);
}

// Bit i: row from + i is no padding (rows outside of x count as none).
template <int ROWS>
__device__ __forceinline__ unsigned seen_rows(const unsigned char* mask, int from, int L) {
    unsigned bits = 0xffffffffu;
    if (mask) {
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int t = from + i;
            if (t >= 0 && t < L && !mask[t]) bits &= ~(1u << i);
        }
    }
    return bits;
}

__device__ __forceinline__ void blank(Row<WIDE>& row, unsigned seen, int i) {
#pragma unroll
    for (int w = 0; w < Row<WIDE>::WORDS; w++) row.word[w] = seen >> i & 1u ? row.word[w] : 0u;
}

__device__ __forceinline__ void load_filter(float (&w)[WIDE][TAPS], float (&b)[WIDE], const float* weight,
                                            const float* bias, i64 d, int valid) {
    const Floats<WIDE> biases = load_floats<WIDE>(bias + (bias ? d : 0), bias ? valid : 0);
#pragma unroll
    for (int e = 0; e < WIDE; e++) {
        const Floats<TAPS> filter = load_floats<TAPS>(weight + (d + e) * TAPS, e < valid ? TAPS : 0);
        b[e] = biases.at[e];
#pragma unroll
        for (int k = 0; k < TAPS; k++) w[e][k] = filter.at[k];
    }
}

extern "C" __global__ void __launch_bounds__(128) conv_forward(
    const elem* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
    const elem* __restrict__ initial, const unsigned char* __restrict__ mask, elem* __restrict__ y,
    i64 length, i64 width, i64 apply_silu, i64 settled, i64 x_batch, i64 x_row, i64 y_batch, i64 y_row)
{
    const i64 d = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * WIDE;
    if (d >= width) return;
    const int batch = blockIdx.z, L = (int)length, valid = (int)min((i64)WIDE, width - d);
    const int first = blockIdx.y * GROUP;
    x += batch * x_batch + d;
    y += batch * y_batch + d;
    if (initial) initial += (i64)batch * PAST * width + d;
    if (mask) mask += (i64)batch * L;

    float w[WIDE][TAPS], b[WIDE];
    if (!settled) wait_for_previous();
    load_filter(w, b, weight, bias, d, valid);
    wait_for_previous();
    Row<WIDE> rows[PAST + GROUP];
#pragma unroll
    for (int i = 0; i < PAST + GROUP; i++)
        rows[i] = input(x, x_row, initial, first - PAST + i, L, width, valid);
    const unsigned seen = seen_rows<PAST + GROUP>(mask, first - PAST, L);
#pragma unroll
    for (int i = 0; i < PAST + GROUP; i++) blank(rows[i], seen, i);
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
        const int t = first + i;
        float value[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            float s = b[e];
#pragma unroll
            for (int k = 0; k < TAPS; k++) s += w[e][k] * rows[i + k].at(e);
            value[e] = !(seen >> (PAST + i) & 1u) ? 0.f : apply_silu ? silu(s) : s;
        }
        store_row<WIDE>(y + t * y_row, value, t < L ? valid : 0);
    }
}

extern "C" __global__ void __launch_bounds__(128) conv_backward(
    const elem* __restrict__ dy, const elem* __restrict__ x, const float* __restrict__ weight,
    const float* __restrict__ bias, const elem* __restrict__ initial,
    const unsigned char* __restrict__ mask, elem* __restrict__ dx, elem* __restrict__ d_initial,
    float* __restrict__ d_weight, i64 length, i64 width, i64 apply_silu, i64 settled, i64 dy_batch,
    i64 dy_row, i64 x_batch, i64 x_row, i64 dx_batch, i64 dx_row)
{
    const i64 d = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * WIDE;
    if (d >= width) return;
    const int batch = blockIdx.z, L = (int)length, valid = (int)min((i64)WIDE, width - d);
    const int first = blockIdx.y * STEPS;
    dy += batch * dy_batch + d;
    x += batch * x_batch + d;
    dx += batch * dx_batch + d;
    if (initial) initial += (i64)batch * PAST * width + d;
    if (d_initial) d_initial += (i64)batch * PAST * width + d;
    if (mask) mask += (i64)batch * L;

    float w[WIDE][TAPS], b[WIDE], sums[WIDE][TAPS + 1] = {};
    if (!settled) wait_for_previous();
    load_filter(w, b, weight, bias, d, valid);
    wait_for_previous();
    // ds_t needs x back to t - PAST, dx_t needs ds on to t + PAST: dx is written PAST rows behind. The
    // inputs before x belong to the first block: with their gradient wanted, it starts PAST rows early.
    const int start = blockIdx.y == 0 && d_initial ? -PAST : first, stop = min(first + STEPS, L);
    Row<WIDE> rows[PAST + GROUP], next_rows[GROUP], next_grads[GROUP];
    float ds[PAST + GROUP][WIDE] = {};
    auto load = [&](int from) {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            const int t = from + i;
            next_rows[i] = input(x, x_row, initial, t, L, width, valid);
            next_grads[i] = load_row<WIDE>(dy + t * dy_row, t >= 0 && t < L ? valid : 0);
        }
    };
    unsigned seen_before = seen_rows<PAST>(mask, start - PAST, L);
#pragma unroll
    for (int i = 0; i < PAST; i++) {
        rows[i] = input(x, x_row, initial, start - PAST + i, L, width, valid);
        blank(rows[i], seen_before, i);
    }
    load(start);
    for (int from = start; from < stop + PAST; from += GROUP) {
        const unsigned seen = seen_rows<GROUP>(mask, from, L);
        Row<WIDE> grads[GROUP];
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            rows[PAST + i] = next_rows[i];
            grads[i] = next_grads[i];
            blank(rows[PAST + i], seen, i);
            blank(grads[i], seen, i);
        }
        if (from + GROUP < stop + PAST) load(from + GROUP);
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            const int t = from + i, to = t - PAST;
            const bool hidden = !(i < PAST ? seen_before >> i & 1u : seen >> (i - PAST) & 1u);
            float value[WIDE];
#pragma unroll
            for (int e = 0; e < WIDE; e++) {
                float s = b[e];
#pragma unroll
                for (int k = 0; k < TAPS; k++) s += w[e][k] * rows[i + k].at(e);
                const float g = grads[i].at(e);
                ds[PAST + i][e] = apply_silu ? g * silu_slope(s, sigmoid(s)) : g;
                if (d_weight && t < stop) {  // later rows are the next block's
#pragma unroll
                    for (int k = 0; k < TAPS; k++) sums[e][k] += ds[PAST + i][e] * rows[i + k].at(e);
                    sums[e][TAPS] += ds[PAST + i][e];
                }
                value[e] = 0.f;
#pragma unroll
                for (int k = 0; k < TAPS; k++) value[e] += ds[i + k][e] * w[e][PAST - k];
                if (hidden) value[e] = 0.f;
            }
            store_row<WIDE>(to < 0 ? d_initial + (to + PAST) * width : dx + to * dx_row, value,
                            to >= start && to < stop ? valid : 0);
        }
#pragma unroll
        for (int i = 0; i < PAST; i++) {
            rows[i] = rows[GROUP + i];
#pragma unroll
            for (int e = 0; e < WIDE; e++) ds[i][e] = ds[GROUP + i][e];
        }
        seen_before = seen >> (GROUP - PAST);
    }
    if (d_weight) {
        d_weight += (((i64)blockIdx.y * gridDim.z + batch) * width + d) * (TAPS + 1);
#pragma unroll
        for (int e = 0; e < WIDE; e++)
            if (e < valid) {
#pragma unroll
                for (int k = 0; k <= TAPS; k++) d_weight[e * (TAPS + 1) + k] = sums[e][k];
            }
    }
}
