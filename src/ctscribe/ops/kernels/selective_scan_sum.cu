// dB and dC of the selective scan: sums each block's partial sums over the blocks, in a fixed order.
//
// partial: (P, B L, 2 N) fp32. dB, dC: (B L, N) with a row stride of their own, so that they can be
// columns of x_proj's gradient. Blocks of (32, 8): a column of threads for each of 32 neighbouring
// values, whose 8 rows sum every 8th partial each. Floor: P * 8 N bytes a step read once.

#include "common.cuh"

extern "C" __global__ void __launch_bounds__(256) scan_sum(
    const float* __restrict__ partial, elem* __restrict__ dB, elem* __restrict__ dC,
    i64 partials, i64 values, i64 states, i64 dB_row, i64 dC_row)
{
    __shared__ float s_sum[8][32];
    wait_for_previous();
    const int x = threadIdx.x % 32, y = threadIdx.x / 32;
    const i64 at = (i64)blockIdx.x * 32 + x;
    float sum = 0.f;
    if (at < values) {
#pragma unroll 8
        for (int p = y; p < (int)partials; p += 8) sum += partial[p * values + at];
    }
    s_sum[y][x] = sum;
    __syncthreads();
    if (y == 0 && at < values) {
#pragma unroll
        for (int i = 1; i < 8; i++) sum += s_sum[i][x];
        const i64 row = at / (2 * states), n = at % (2 * states);
        if (n < states) {
            if (dB) dB[row * dB_row + n] = to_elem(sum);
        } else {
            if (dC) dC[row * dC_row + n - states] = to_elem(sum);
        }
    }
}
