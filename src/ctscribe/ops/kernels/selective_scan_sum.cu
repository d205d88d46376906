// dB and dC of the selective scan: sums each block's partial sums over the blocks, in a fixed order.
//
// partial: (P, B L, 2 N), fp32 or rounded (see common.cuh). dB, dC: (B L, N) with a row stride of their
// own, so that they can be columns of x_proj's gradient. Blocks of (16, 16): a column of threads for
// 16 bytes of neighbouring values each, whose 16 rows sum every 16th partial each. Floor: P * 8 N bytes
// a step read once, or half of it.

#include "common.cuh"

#define VALUES (16 / (int)sizeof(summand))

extern "C" __global__ void __launch_bounds__(256) scan_sum(
    const summand* partial, elem* __restrict__ dB, elem* __restrict__ dC,
    i64 partials, i64 values, i64 states, i64 dB_row, i64 dC_row)
{
    __shared__ Floats<VALUES> s_sum[16][16];
    wait_for_previous();
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    const i64 at = ((i64)blockIdx.x * 16 + x) * VALUES;
    Floats<VALUES> sum = {};
    auto add = [&](const auto& part) {
#pragma unroll
        for (int k = 0; k < VALUES; k++) sum.at[k] += kept_at(part, k);
    };
    if (at < values) {
#pragma unroll 8
        for (int p = y; p < (int)partials; p += 16)
            add(*reinterpret_cast<const Summands<VALUES>*>(partial + p * values + at));
    }
    s_sum[y][x] = sum;
    __syncthreads();
    if (y == 0 && at < values) {
#pragma unroll
        for (int i = 1; i < 16; i++) add(s_sum[i][x]);
        const i64 row = at / (2 * states), n = at % (2 * states);
        elem* to = n < states ? dB + row * dB_row + n : dC + row * dC_row + n - states;
        if (n < states ? dB : dC) {
#pragma unroll
            for (int k = 0; k < VALUES; k++) to[k] = to_elem(sum.at[k]);
        }
    }
}
