// Selective scan, forward (Gu & Dao 2023, arXiv:2312.00752, algorithm 2):
//
//   dt_t = softplus(dt_t + dt_bias)                      (B, L, D)
//   h_t  = exp(dt_t A) h_{t-1} + (dt_t u_t) B_t          (B, D, N), fp32 registers
//   y_t  = (h_t . C_t + D u_t) silu(z_t)                 (B, L, D)
//
// u, dt, z, y: (B, L, D), D contiguous; B, C: (B, L, N), N contiguous; every input with a batch and
// a row stride of its own. A: (D, N); D, dt_bias: (D,); initial, final: (B, D, N); all fp32.
// starts: (B, ceil(L / KEEP), D, N), fp32 or rounded (ROUND_KEPT), the state before every KEEP-th step,
// for the backward pass.
// ends, steps: of selective_scan_ends.cu, for sequences cut into gridDim.z segments of `span` steps.
// Null pointers: D, z, dt_bias, initial (zeros), y, final, starts (not wanted). settled, REVERSE: see
// common.cuh; t counts steps of the walk.
//
// Mapping. A block owns CHANNELS channels of one sequence and walks along L in tiles of TILE steps.
// For the recurrence a thread has PER_LANE states of each of PER_THREAD neighbouring channels in
// registers, and LANES = STATES / PER_LANE neighbouring threads share these channels; h . C is summed
// over the lanes for LANES steps at once (sum_and_share). For everything that is once per (t, d) -
// loading, softplus, gate, storing - a thread has WIDE neighbouring channels of one row of the tile;
// the next tile's row is loaded into registers while this one is computed.
//
// Floors, a (t, d, n), at 132 multiprocessors of 1.98 GHz, L 608, D 5120, N 16: one exp, 16 a clock,
// 12 us; about 8 instructions, 128 a clock, 12 us; 6 bytes out of shared memory (dt and dt u for two
// states of two channels each, B and C as they came), 128 a clock, 9 us. Traffic: 8 bytes a (t, d).

#include "common.cuh"

#define LANES (STATES / PER_LANE)
#define THREADS (CHANNELS / PER_THREAD * LANES)
#define WIDE (TILE * CHANNELS / THREADS)     // channels of a row a thread loads and stores
#define WIDE_BC (TILE * STATES / THREADS)    // values of B, and of C, a thread loads
static_assert(WIDE_BC % PER_LANE == 0 && KEEP % LANES == 0 && TILE % KEEP == 0, "tiles fit");

extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(
    const elem* u, const elem* dt, const float* A,
    const elem* B, const elem* C, const float* D,
    const elem* z, const float* dt_bias, const float* initial,
    const float* ends, const float* steps,
    elem* __restrict__ y, float* __restrict__ final, kept* __restrict__ starts,
    i64 length, i64 width, i64 apply_softplus, i64 settled, i64 span,
    i64 u_batch, i64 u_row, i64 dt_batch, i64 dt_row, i64 B_batch, i64 B_row, i64 C_batch, i64 C_row,
    i64 z_batch, i64 z_row)
{
    __shared__ __align__(16) float2 s_step[TILE][CHANNELS + 2];  // dt, dt u
    __shared__ Row<2 * PER_LANE> s_BC[TILE][LANES];          // a lane's B, then its C
    __shared__ __align__(16) float s_y[TILE][CHANNELS + 4];

    let_next_start();
    const int tid = threadIdx.x, lane = tid % LANES, channel = tid / LANES * PER_THREAD;
    const int row = tid / (CHANNELS / WIDE), own = tid % (CHANNELS / WIDE) * WIDE;
    const int row_bc = tid / (STATES / WIDE_BC), own_bc = tid % (STATES / WIDE_BC) * WIDE_BC;
    const int batch = blockIdx.y, begin = blockIdx.z * (int)span, all = (int)length;
    const int L = min(all, begin + (int)span), tiles = (L - begin + TILE - 1) / TILE;
    const i64 d0 = (i64)blockIdx.x * CHANNELS;
    const int valid = (int)min((i64)WIDE, width - d0 - own);  // of the thread's channels, this many exist
    const bool gated = z, writes = y, keeps = starts;
    const i64 state_at = ((i64)batch * width + d0 + channel) * STATES + lane * PER_LANE;
    const i64 states_of_step = width * STATES;

    if (!settled) wait_for_previous();
    float rate[PER_THREAD][PER_LANE], h[PER_THREAD][PER_LANE], skip[WIDE], bias[WIDE];
    bool scans[PER_THREAD];
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        scans[c] = d0 + channel + c < width;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            rate[c][j] = scans[c] ? A[(d0 + channel + c) * STATES + lane * PER_LANE + j] * LOG2E : 0.f;
        }
    }
#pragma unroll
    for (int e = 0; e < WIDE; e++) {
        skip[e] = e < valid && D ? D[d0 + own + e] : 0.f;
        bias[e] = e < valid && dt_bias ? dt_bias[d0 + own + e] : 0.f;
    }
    wait_for_previous();
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            h[c][j] = scans[c] && initial ? initial[state_at + c * STATES + j] : 0.f;
            if (scans[c])
                h[c][j] = through(h[c][j], rate[c][j], ends + state_at + c * STATES + j,
                                  steps + state_at / STATES + c, 0, blockIdx.z, 1, gridDim.y * width, STATES);
        }
    }
    i64 y_row = width;
    turn(u, u_row, length);
    turn(dt, dt_row, length);
    turn(z, z_row, length);
    turn(B, B_row, length);
    turn(C, C_row, length);
    turn(y, y_row, length);
    // Every pointer stands at this thread's row of the tile that is loaded, or stored, next.
    const int from = begin + row, from_bc = begin + row_bc;
    u += batch * u_batch + from * u_row + d0 + own;
    dt += batch * dt_batch + from * dt_row + d0 + own;
    z += gated ? batch * z_batch + from * z_row + d0 + own : 0;
    B += batch * B_batch + from_bc * B_row + own_bc;
    C += batch * C_batch + from_bc * C_row + own_bc;
    y += writes ? (i64)batch * all * width + from * y_row + d0 + own : 0;
    const i64 kept_before = (i64)batch * ((all + KEEP - 1) / KEEP - 1) + begin / KEEP;
    starts += keeps ? state_at + kept_before * states_of_step : 0;

    Row<WIDE> next_u, next_dt, next_z;
    Row<WIDE_BC> next_B, next_C;
    auto load = [&](int t0) {
        const int there = t0 + row < L ? valid : 0, there_bc = t0 + row_bc < L ? WIDE_BC : 0;
        next_u = load_row<WIDE>(u, there);
        next_dt = load_row<WIDE>(dt, there);
        next_z = load_row<WIDE>(z, gated ? there : 0);
        next_B = load_row<WIDE_BC>(B, there_bc);
        next_C = load_row<WIDE_BC>(C, there_bc);
        u += TILE * u_row;
        dt += TILE * dt_row;
        z += TILE * z_row;
        B += TILE * B_row;
        C += TILE * C_row;
    };

    load(begin);
    for (int tile = 0; tile < tiles; tile++) {
        const int t0 = begin + tile * TILE;
        const Row<WIDE> now_u = next_u, now_z = next_z;
#pragma unroll
        for (int e = 0; e < WIDE; e += 2) {
            Floats<4> two;  // channels: shared memory takes 16 bytes a thread with fewer conflicts
#pragma unroll
            for (int k = 0; k < 2; k++) {
                float step = next_dt.at(e + k) + bias[e + k];
                if (apply_softplus) step = softplus(step, exp2_fast(step * LOG2E));
                if (t0 + row >= L) step = 0.f;  // past the end the state stands still
                two.at[2 * k] = step;
                two.at[2 * k + 1] = step * now_u.at(e + k);
            }
            *reinterpret_cast<Floats<4>*>(&s_step[row][own + e]) = two;
        }
#pragma unroll
        for (int i = 0; i < WIDE_BC / PER_LANE; i++)
            s_BC[row_bc][own_bc / PER_LANE + i] = side_by_side<PER_LANE>(next_B, next_C, i * PER_LANE);
        __syncthreads();
        if (tile + 1 < tiles) load(t0 + TILE);

#pragma unroll 1
        for (int g = 0; g < TILE; g += LANES) {
            if (keeps && g % KEEP == 0 && t0 + g < L) {
#pragma unroll
                for (int c = 0; c < PER_THREAD; c++)
                    if (scans[c]) keep(starts + c * STATES, h[c]);
                starts += states_of_step;
            }
            float sums[PER_THREAD][LANES];
#pragma unroll
            for (int k = 0; k < LANES; k++) {
                const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[g + k][channel]);
                const Row<2 * PER_LANE> bc = s_BC[g + k][lane];
#pragma unroll
                for (int c = 0; c < PER_THREAD; c++) {
                    sums[c][k] = 0.f;
#pragma unroll
                    for (int j = 0; j < PER_LANE; j++) {
                        h[c][j] = exp2_fast(step.at[2 * c] * rate[c][j]) * h[c][j]
                                  + step.at[2 * c + 1] * bc.at(j);
                        sums[c][k] += h[c][j] * bc.at(PER_LANE + j);
                    }
                }
            }
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
                sum_and_share<LANES, LANES, 1>(sums[c], lane);
                s_y[g + lane][channel + c] = sums[c][0];
            }
        }
        __syncthreads();
        if (writes) {
            float value[WIDE];
#pragma unroll
            for (int e = 0; e < WIDE; e++) {
                value[e] = s_y[row][own + e] + skip[e] * now_u.at(e);
                if (gated) value[e] *= silu(now_z.at(e));
            }
            store_row<WIDE>(y, value, t0 + row < L ? valid : 0);
            y += TILE * y_row;
        }
    }
    if (final && L == all) {
#pragma unroll
        for (int c = 0; c < PER_THREAD; c++)
            if (scans[c]) {
#pragma unroll
                for (int j = 0; j < PER_LANE; j++) final[state_at + c * STATES + j] = h[c][j];
            }
    }
}
