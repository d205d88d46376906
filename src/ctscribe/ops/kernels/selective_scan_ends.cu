// The first of two passes of a scan whose sequences are cut into segments along L: what each segment
// makes of a state of zero. With few channels that fills a GPU, where whole sequences would not.
//
//   forward:            h_t = exp(dt_t A) h_{t-1} + v_t B_t,      v = dt u,          t upwards
//   backward (BACK 1):  g_t = exp(dt_t A) (g_{t+1} + v_t C_t),    v = dout silu(z),  t downwards
//
// A segment that starts from h ends at exp(A sum dt) h + this; so the main kernels know at once where
// each of their segments starts (`through` in common.cuh).
//
// dt, value (u or dout), gate (z): (B, L, D); table (B or C): (B, L, N); each with a batch and a row
// stride of its own, as in the main kernels. A: (D, N), dt_bias: (D,), fp32. Null: gate, dt_bias.
// span: time steps of a segment, a multiple of TILE. ends: (segments - 1, B, D, N), steps: (segments - 1,
// B, D), fp32: of all segments but the last, or, backward, but the first. settled, REVERSE: see
// common.cuh.
//
// Mapping: as in selective_scan_forward.cu. Floor: two thirds of its instructions, without the sums over
// states.

#include "common.cuh"

#define LANES (STATES / PER_LANE)
#define THREADS (CHANNELS / PER_THREAD * LANES)
#define WIDE (TILE * CHANNELS / THREADS)     // channels of a row a thread loads
#define WIDE_BC (TILE * STATES / THREADS)    // values of the table a thread loads
static_assert(WIDE_BC % PER_LANE == 0, "tiles fit");

extern "C" __global__ void __launch_bounds__(THREADS) scan_ends(
    const elem* dt, const elem* value, const elem* gate,
    const elem* table, const float* A, const float* dt_bias,
    float* __restrict__ ends, float* __restrict__ steps, i64 length, i64 width, i64 apply_softplus,
    i64 settled, i64 span, i64 dt_batch, i64 dt_row, i64 value_batch, i64 value_row, i64 gate_batch,
    i64 gate_row, i64 table_batch, i64 table_row)
{
    __shared__ __align__(16) float2 s_step[TILE][CHANNELS];  // dt, v
    __shared__ Row<PER_LANE> s_table[TILE][LANES];

    let_next_start();
    const int tid = threadIdx.x, lane = tid % LANES, channel = tid / LANES * PER_THREAD;
    const int row = tid / (CHANNELS / WIDE), own = tid % (CHANNELS / WIDE) * WIDE;
    const int row_bc = tid / (STATES / WIDE_BC), own_bc = tid % (STATES / WIDE_BC) * WIDE_BC;
    const int batch = blockIdx.y, begin = (blockIdx.z + BACK) * (int)span;
    const int L = min((int)length, begin + (int)span), tiles = (L - begin + TILE - 1) / TILE;
    const i64 d0 = (i64)blockIdx.x * CHANNELS;
    const int valid = (int)min((i64)WIDE, width - d0 - own);  // of the thread's channels, this many exist

    if (!settled) wait_for_previous();
    float rate[PER_THREAD][PER_LANE], h[PER_THREAD][PER_LANE] = {}, sum[PER_THREAD] = {}, bias[WIDE];
    bool scans[PER_THREAD];
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        scans[c] = d0 + channel + c < width;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++)
            rate[c][j] = scans[c] ? A[(d0 + channel + c) * STATES + lane * PER_LANE + j] * LOG2E : 0.f;
    }
#pragma unroll
    for (int e = 0; e < WIDE; e++) bias[e] = e < valid && dt_bias ? dt_bias[d0 + own + e] : 0.f;
    wait_for_previous();
    const bool gated = gate;
    turn(dt, dt_row, length);
    turn(value, value_row, length);
    turn(gate, gate_row, length);
    turn(table, table_row, length);
    dt += batch * dt_batch + d0 + own;
    value += batch * value_batch + d0 + own;
    gate += gated ? batch * gate_batch + d0 + own : 0;
    table += batch * table_batch + own_bc;

    Row<WIDE> next_dt, next_value, next_gate;
    Row<WIDE_BC> next_table;
    auto load = [&](int t0) {
        const int t = t0 + row, there = t < L ? valid : 0, t_bc = t0 + row_bc;
        next_dt = load_row<WIDE>(dt + t * dt_row, there);
        next_value = load_row<WIDE>(value + t * value_row, there);
        next_gate = load_row<WIDE>(gate + t * gate_row, gated ? there : 0);
        next_table = load_row<WIDE_BC>(table + t_bc * table_row, t_bc < L ? WIDE_BC : 0);
    };
    auto at = [&](int n) { return begin + (BACK ? tiles - 1 - n : n) * TILE; };

    load(at(0));
    for (int n = 0; n < tiles; n++) {
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            float step = next_dt.at(e) + bias[e];
            if (apply_softplus) step = softplus(step, exp2_fast(step * LOG2E));
            if (at(n) + row >= L) step = 0.f;  // past the end the state stands still
            float v = next_value.at(e);
            if (BACK) v *= gated ? silu(next_gate.at(e)) : 1.f;
            else v *= step;
            s_step[row][own + e] = make_float2(step, v);
        }
#pragma unroll
        for (int i = 0; i < WIDE_BC / PER_LANE; i++)
            s_table[row_bc][own_bc / PER_LANE + i] = part_of<PER_LANE>(next_table, i * PER_LANE);
        __syncthreads();
        if (n + 1 < tiles) load(at(n + 1));
#pragma unroll
        for (int k = 0; k < TILE; k++) {
            const int t = BACK ? TILE - 1 - k : k;
            const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[t][channel]);
            const Row<PER_LANE> b = s_table[t][lane];
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
                sum[c] += step.at[2 * c];
#pragma unroll
                for (int j = 0; j < PER_LANE; j++) {
                    const float decay = exp2_fast(step.at[2 * c] * rate[c][j]);
                    const float add = step.at[2 * c + 1] * b.at(j);
                    h[c][j] = BACK ? decay * (h[c][j] + add) : decay * h[c][j] + add;
                }
            }
        }
        __syncthreads();
    }
    const i64 first = ((i64)blockIdx.z * gridDim.y + batch) * width + d0 + channel;
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        if (!scans[c]) continue;
        if (lane == 0) steps[first + c] = sum[c];
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) ends[(first + c) * STATES + lane * PER_LANE + j] = h[c][j];
    }
}
