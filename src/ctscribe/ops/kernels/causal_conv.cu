// Causal convolution along L, one filter of TAPS weights a channel, with SiLU: forward and backward.
//
//   s_t = bias + sum_k w_k x_{t - TAPS + 1 + k},  y_t = silu(s_t)          (B, L, D)
//
// x, y, dy, dx: (B, L, D), D contiguous, each with a batch and a row stride of its own (x is half of
// in_proj's output, dx half of its gradient). weight: (D, TAPS), bias: (D,), fp32.
// initial: (B, TAPS - 1, D), the inputs before x, contiguous. mask: (B, L) bytes; where it is 0, x
// counts as zero and y is zero. SILU: 0 leaves it out. settled, REVERSE: see common.cuh; t counts steps
// of the walk. Null pointers: bias, initial (zeros), mask, d_initial and d_weight (not wanted);
// the latter three are looked at only with the macros WITH_INITIAL and WITH_WEIGHT.
// d_weight: (blocks along L, B, D, TAPS + 1) fp32, each block's own sums, the bias's last.
//
// Mapping: a thread has WIDE channels of GROUP rows, backward of STEPS rows; neighbouring threads have neighbouring channels.
// Memory-bound, if a (t, d) costs no more than about 25 instructions forward and 40 backward: x is read
// once, and TAPS - 1 rows a thread again.

#include "common.cuh"

#define PAST (TAPS - 1)
#ifndef STEPS
#define STEPS GROUP  // of the backward kernel
#endif
#ifndef SILU
#define SILU 0
#endif
#ifndef WITH_INITIAL
#define WITH_INITIAL 0
#endif

// The filters of WIDE channels from d on, and their biases.
struct Filters {
    float w[WIDE][TAPS], b[WIDE];

    __device__ __forceinline__ Filters(const float* weight, const float* bias, i64 d, int valid) {
        const Floats<WIDE> biases = load_floats<WIDE>(bias + (bias ? d : 0), bias ? valid : 0);
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const Floats<TAPS> filter = load_floats<TAPS>(weight + (d + e) * TAPS, e < valid ? TAPS : 0);
            b[e] = biases.at[e];
#pragma unroll
            for (int k = 0; k < TAPS; k++) w[e][k] = filter.at[k];
        }
    }
    // s_t of channel e, from the rows t - PAST to t.
    __device__ __forceinline__ float sum(const Row<WIDE>* rows, int e) const {
        float s = b[e];
#pragma unroll
        for (int k = 0; k < TAPS; k++) s += w[e][k] * rows[k].at(e);
        return s;
    }
};

// Bit i: row from + i is no padding (rows outside of x count as none). All threads of a warp call it.
template <int ROWS>
__device__ __forceinline__ unsigned seen_rows(const unsigned char* mask, int from, int L) {
    static_assert(ROWS <= 32, "a row a lane");
    if (!mask) return ~0u;
    const int lane = threadIdx.x % 32, t = from + lane;
    const bool there = lane < ROWS && t >= 0 && t < L;
    return __ballot_sync(~0u, !there || mask[REVERSE ? L - 1 - t : t]);
}

__device__ __forceinline__ void blank(Row<WIDE>& row, unsigned seen, int i) {
#pragma unroll
    for (int w = 0; w < Row<WIDE>::WORDS; w++) row.word[w] = seen >> i & 1u ? row.word[w] : 0u;
}

// Row t of x, `at`, where it exists; before x that of `initial`, if there is one; else zeros. Padding is
// left to `blank`, so that no load waits for the mask's.
__device__ __forceinline__ Row<WIDE> input(const elem* at, const elem* initial, int t, int L, i64 width,
                                           int valid) {
    bool there = t >= 0 && t < L;
    if (WITH_INITIAL && initial && t < 0 && t >= -PAST) {
        at = initial + (t + PAST) * width;
        there = true;
    }
    return load_row<WIDE>(at, there ? valid : 0);
}

extern "C" __global__ void __launch_bounds__(128) conv_forward(
    const elem* x, const float* weight, const float* bias,
    const elem* initial, const unsigned char* mask, elem* __restrict__ y,
    i64 length, i64 width, i64 settled, i64 x_batch, i64 x_row, i64 y_batch, i64 y_row)
{
    const i64 d = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * WIDE;
    const int batch = blockIdx.z, L = (int)length, valid = (int)min((i64)WIDE, width - d);
    const int first = blockIdx.y * GROUP;
    turn(x, x_row, length);
    turn(y, y_row, length);
    x += batch * x_batch + (first - PAST) * x_row + d;
    y += batch * y_batch + first * y_row + d;
    if (initial) initial += (i64)batch * PAST * width + d;
    if (mask) mask += (i64)batch * L;

    if (!settled) wait_for_previous();
    const Filters filters(weight, bias, d, valid);
    wait_for_previous();
    Row<WIDE> rows[PAST + GROUP];
#pragma unroll
    for (int i = 0; i < PAST + GROUP; i++)
        rows[i] = input(x + i * x_row, initial, first - PAST + i, L, width, valid);
    const unsigned seen = seen_rows<PAST + GROUP>(mask, first - PAST, L);
#pragma unroll
    for (int i = 0; i < PAST + GROUP; i++) blank(rows[i], seen, i);
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
        float value[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const float s = filters.sum(rows + i, e);
            value[e] = SILU ? silu(s) : s;
        }
        Row<WIDE> row = rounded<WIDE>(value);
        blank(row, seen, PAST + i);
        store_row<WIDE>(y + i * y_row, row, first + i < L ? valid : 0);
    }
}

extern "C" __global__ void __launch_bounds__(128) conv_backward(
    const elem* dy, const elem* x, const float* weight,
    const float* bias, const elem* initial,
    const unsigned char* mask, elem* __restrict__ dx, elem* __restrict__ d_initial,
    float* __restrict__ d_weight, i64 length, i64 width, i64 settled, i64 dy_batch,
    i64 dy_row, i64 x_batch, i64 x_row, i64 dx_batch, i64 dx_row)
{
    const i64 d = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * WIDE;
    const int batch = blockIdx.z, L = (int)length, valid = (int)min((i64)WIDE, width - d);
    const int first = blockIdx.y * STEPS, stop = min(first + STEPS, L);
    // ds_t needs x back to t - PAST, dx_t needs ds on to t + PAST: dx is written PAST rows behind. The
    // inputs before x belong to the first block: with their gradient wanted, it starts PAST rows early.
    const int start = WITH_INITIAL && blockIdx.y == 0 && d_initial ? -PAST : first;
    turn(dy, dy_row, length);
    turn(x, x_row, length);
    turn(dx, dx_row, length);
    dy += batch * dy_batch + start * dy_row + d;
    x += batch * x_batch + (start - PAST) * x_row + d;
    dx += batch * dx_batch + (start - PAST) * dx_row + d;
    if (initial) initial += (i64)batch * PAST * width + d;
    if (d_initial) d_initial += (i64)batch * PAST * width + d;
    if (mask) mask += (i64)batch * L;

    if (!settled) wait_for_previous();
    const Filters filters(weight, bias, d, valid);
    wait_for_previous();
    Row<WIDE> rows[PAST + GROUP], next_rows[GROUP], next_grads[GROUP];
    float ds[PAST + GROUP][WIDE] = {};
#if WITH_WEIGHT
    float sums[WIDE][TAPS + 1] = {};
#endif
    unsigned seen_before = seen_rows<PAST>(mask, start - PAST, L);
#pragma unroll
    for (int i = 0; i < PAST; i++) {
        rows[i] = input(x + i * x_row, initial, start - PAST + i, L, width, valid);
        blank(rows[i], seen_before, i);
    }
    x += PAST * x_row;
    auto load = [&](int from) {  // x and dy stand at this row
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            const int t = from + i;
            next_rows[i] = input(x + i * x_row, initial, t, L, width, valid);
            next_grads[i] = load_row<WIDE>(dy + i * dy_row, t >= 0 && t < L ? valid : 0);
        }
        x += GROUP * x_row;
        dy += GROUP * dy_row;
    };
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
            float value[WIDE];
#pragma unroll
            for (int e = 0; e < WIDE; e++) {
                const float s = filters.sum(rows + i, e), g = grads[i].at(e);
                ds[PAST + i][e] = SILU ? g * silu_slope(s, sigmoid(s)) : g;
#if WITH_WEIGHT
                if (t < stop) {  // later rows are the next block's
#pragma unroll
                    for (int k = 0; k < TAPS; k++) sums[e][k] += ds[PAST + i][e] * rows[i + k].at(e);
                    sums[e][TAPS] += ds[PAST + i][e];
                }
#endif
                value[e] = 0.f;
#pragma unroll
                for (int k = 0; k < TAPS; k++) value[e] += ds[i + k][e] * filters.w[e][PAST - k];
            }
            elem* target = dx + i * dx_row;
            if (WITH_INITIAL && to < 0) target = d_initial + (to + PAST) * width;
            Row<WIDE> row = rounded<WIDE>(value);
            blank(row, i < PAST ? seen_before : seen, i < PAST ? i : i - PAST);
            store_row<WIDE>(target, row, to >= start && to < stop ? valid : 0);
        }
        dx += GROUP * dx_row;
#pragma unroll
        for (int i = 0; i < PAST; i++) {
            rows[i] = rows[GROUP + i];
#pragma unroll
            for (int e = 0; e < WIDE; e++) ds[i][e] = ds[GROUP + i][e];
        }
        seen_before = seen >> (GROUP - PAST);
    }
#if WITH_WEIGHT
    d_weight += (((i64)blockIdx.y * gridDim.z + batch) * width + d) * (TAPS + 1);
#pragma unroll
    for (int e = 0; e < WIDE; e++)
        if (e < valid) {
#pragma unroll
            for (int k = 0; k <= TAPS; k++) d_weight[e * (TAPS + 1) + k] = sums[e][k];
        }
#endif
}
