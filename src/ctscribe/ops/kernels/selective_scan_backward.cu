// Selective scan, backward. With gh_t the gradient of h_t, and everything else as in the forward file:
//
//   dy_t   = dout_t silu(z_t)
//   gh_t   = dy_t C_t + exp(dt_{t+1} A) gh_{t+1}                      (last: + d_final)
//   dC_t   = sum_D dy_t h_t            dB_t = sum_D gh_t dt_t u_t
//   du_t   = dy_t D + dt_t (gh_t . B_t)
//   g dt_t = u_t (gh_t . B_t) + sum_N A exp(dt_t A) h_{t-1} gh_t      (through softplus: * sigmoid)
//   dz_t   = dout_t (h_t . C_t + D u_t) silu'(z_t)
//   dA     = sum_BL dt_t exp(dt_t A) h_{t-1} gh_t,  dD = sum_BL dy_t u_t,  d_initial = exp(dt_0 A) gh_0
//
// dout, u, dt, z: (B, L, D), B, C: (B, L, N), each with a batch and a row stride of its own.
// starts: (B, ceil(L / KEEP), D, N) fp32, what the forward kernel kept.
// du, ddt: (B, L, D) contiguous. dz: (B, L, D) with strides of its own (half of in_proj's gradient).
// dBC: (ceil(D / CHANNELS), B, L, 2 N) fp32, each block's own sums over its channels, B's then C's:
// selective_scan_sum.cu adds them up, in a fixed order, so that results are equal from run to run.
// dA: (B, D, N), dD, dbias: (B, D), fp32, to be summed over B. d_final, d_initial: (B, D, N) fp32.
// Null pointers: D, z, dt_bias, d_final (zeros), and every gradient that is not wanted, but dBC.
// WITH_PARAMETERS: 1 if dA, dD and dbias are wanted; all three are then written.
//
// Mapping: as in the forward file, tiles from last to first. Each thread goes forward from the
// states kept, with its states of KEEP steps in registers, and then back; a tile has one or more of
// such pieces, and what is once per (t, d) is done for a tile at once, as in the forward file. What is summed over
// states (gh . B, h . C, the rest of g dt) is shared out over a channel's lanes; what is summed over
// channels (dB, dC) first over a warp's, then over the warps in shared memory, then it is written.
// A warp's channels are summed by shuffles, or, for bf16 with N 16, by one matrix product a step:
// gh and h, rounded to bf16, are its 16 rows of states, (dt u, 0) and (0, dy) of the channels its
// columns. A channel's lanes lie GROUPS apart for that: a thread holds what the fragment wants.
//
// Floors, a (t, d, n), at 132 multiprocessors of 1.98 GHz, L 608, D 5120, N 16: about 25 instructions,
// 37 us, two of them exps (24 us). Traffic: 14 bytes a (t, d), 4 N / KEEP for the kept states, and
// 8 N / CHANNELS for dBC.

#include "common.cuh"

#define LANES (STATES / PER_LANE)
#define THREADS (CHANNELS / PER_THREAD * LANES)
#define WARPS (THREADS / 32)
#define WIDE (TILE * CHANNELS / THREADS)     // channels of a row a thread loads and stores
#define WIDE_BC (TILE * STATES / THREADS)    // values of B, and of C, a thread loads
#define OUT_BC (2 * WIDE_BC)                 // sums of dB and dC a thread writes
#define GROUPS (32 / LANES)                  // threads of a warp with the same states
#define BOTH (2 * PER_LANE)                  // states of B, then of C
#define SHARE (BOTH > GROUPS ? BOTH / GROUPS : 1)  // sums of dB, dC a lane ends with
#define PIECES (TILE / KEEP)
// With more sums to keep, and from sm_100 on for the same code, a thread wants more registers.
#define BLOCKS ((__CUDA_ARCH__ >= 1000 || WITH_PARAMETERS) && MIN_BLOCKS > 1 ? MIN_BLOCKS - 1 : MIN_BLOCKS)
static_assert(WIDE_BC % PER_LANE == 0 && KEEP % LANES == 0 && TILE % KEEP == 0 && THREADS % 32 == 0, "tiles fit");

#define MATRIX (ELEMENT == 1 && STATES == 16 && PER_LANE == 2 && PER_THREAD <= 2 && __CUDA_ARCH__ >= 800)
#if MATRIX
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// rows (16 x 8 PER_THREAD) times columns (8 PER_THREAD x 8): the thread's first column of the two rows
// that its states stand in.
__device__ __forceinline__ float2 matrix_sums(const unsigned (&rows)[PER_THREAD][2],
                                              const unsigned (&columns)[PER_THREAD]) {
    float a, b, c, d;
#if PER_THREAD == 1
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=f"(a), "=f"(b), "=f"(c), "=f"(d)
        : "r"(rows[0][0]), "r"(rows[0][1]), "r"(columns[0]), "f"(0.f));
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=f"(a), "=f"(b), "=f"(c), "=f"(d)
        : "r"(rows[0][0]), "r"(rows[0][1]), "r"(rows[1][0]), "r"(rows[1][1]), "r"(columns[0]),
          "r"(columns[1]), "f"(0.f));
#endif
    return make_float2(a, c);
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_backward(
    const elem* __restrict__ dout, const elem* __restrict__ u, const elem* __restrict__ dt,
    const float* __restrict__ A, const elem* __restrict__ B, const elem* __restrict__ C,
    const float* __restrict__ D, const elem* __restrict__ z, const float* __restrict__ dt_bias,
    const float* __restrict__ starts, const float* __restrict__ d_final,
    elem* __restrict__ du, elem* __restrict__ ddt, elem* __restrict__ dz, float* __restrict__ dBC,
    float* __restrict__ dA, float* __restrict__ dD, float* __restrict__ dbias,
    float* __restrict__ d_initial, i64 length, i64 width, i64 apply_softplus,
    i64 dout_batch, i64 dout_row, i64 u_batch, i64 u_row, i64 dt_batch, i64 dt_row,
    i64 B_batch, i64 B_row, i64 C_batch, i64 C_row, i64 z_batch, i64 z_row, i64 dz_batch, i64 dz_row)
{
    __shared__ __align__(16) float2 s_step[TILE][CHANNELS];  // dt, dt u
    __shared__ __align__(16) float s_dy[TILE][CHANNELS];
    __shared__ Row<BOTH> s_BC[TILE][LANES];  // a lane's B, then its C
    __shared__ __align__(16) float s_du[TILE][CHANNELS + 4], s_ddt[TILE][CHANNELS + 4];
    __shared__ __align__(16) float s_y[TILE][CHANNELS + 4];
    __shared__ __align__(16) float s_dBC[TILE][WARPS][2 * STATES];

    let_next_start();
    wait_for_previous();
    const int tid = threadIdx.x, group = tid % GROUPS, lane = tid % 32 / GROUPS;
    const int channel = (tid / 32 * GROUPS + group) * PER_THREAD;
    const int row = tid / (CHANNELS / WIDE), own = tid % (CHANNELS / WIDE) * WIDE;
    const int row_bc = tid / (STATES / WIDE_BC), own_bc = tid % (STATES / WIDE_BC) * WIDE_BC;
    const int row_out = tid * OUT_BC / (2 * STATES), own_out = tid * OUT_BC % (2 * STATES);
    const int batch = blockIdx.y, L = (int)length, tiles = (L + TILE - 1) / TILE;
    const i64 d0 = (i64)blockIdx.x * CHANNELS;
    const int valid = (int)min((i64)WIDE, width - d0 - own);  // of the thread's channels, this many exist
    const bool gated = z;
    const bool writes_du = du, writes_ddt = ddt, writes_dz = dz;
    const i64 state_at = ((i64)batch * width + d0 + channel) * STATES + lane * PER_LANE;

    float rate[PER_THREAD][PER_LANE], gh[PER_THREAD][PER_LANE], skip[WIDE], bias[WIDE];
    bool scans[PER_THREAD];
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        scans[c] = d0 + channel + c < width;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            rate[c][j] = scans[c] ? A[(d0 + channel + c) * STATES + lane * PER_LANE + j] : 0.f;
            gh[c][j] = scans[c] && d_final ? d_final[state_at + c * STATES + j] : 0.f;
        }
    }
#pragma unroll
    for (int e = 0; e < WIDE; e++) {
        skip[e] = e < valid && D ? D[d0 + own + e] : 0.f;
        bias[e] = e < valid && dt_bias ? dt_bias[d0 + own + e] : 0.f;
    }
#if WITH_PARAMETERS
    float sum_A[PER_THREAD][PER_LANE] = {}, sum_D[WIDE] = {}, sum_bias[WIDE] = {};
#endif

    // Every pointer stands at this thread's row of the tile that is loaded, or stored, next.
    const int t_last = (tiles - 1) * TILE;
    const i64 at = t_last + row, at_bc = t_last + row_bc, out_at = ((i64)batch * L + at) * width + d0 + own;
    u += batch * u_batch + at * u_row + d0 + own;
    dt += batch * dt_batch + at * dt_row + d0 + own;
    z += gated ? batch * z_batch + at * z_row + d0 + own : 0;
    dout += batch * dout_batch + at * dout_row + d0 + own;
    B += batch * B_batch + at_bc * B_row + own_bc;
    C += batch * C_batch + at_bc * C_row + own_bc;
    du += du ? out_at : 0;
    ddt += ddt ? out_at : 0;
    dz += dz ? batch * dz_batch + at * dz_row + d0 + own : 0;
    dBC += (((i64)blockIdx.x * gridDim.y + batch) * L + t_last + row_out) * 2 * STATES + own_out;
    const int kept = (L + KEEP - 1) / KEEP;
    starts += state_at + ((i64)batch * (kept - 1) + t_last / KEEP) * width * STATES;

    Row<WIDE> next_u, next_dt, next_z, next_dout;
    Row<WIDE_BC> next_B, next_C;
    float next_start[PIECES][PER_THREAD][PER_LANE];
    auto load = [&](int t0) {  // and step back to the tile before
        const int there = t0 + row < L ? valid : 0, there_bc = t0 + row_bc < L ? WIDE_BC : 0;
        next_u = load_row<WIDE>(u, there);
        next_dt = load_row<WIDE>(dt, there);
        next_z = load_row<WIDE>(z, gated ? there : 0);
        next_dout = load_row<WIDE>(dout, there);
        next_B = load_row<WIDE_BC>(B, there_bc);
        next_C = load_row<WIDE_BC>(C, there_bc);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            const float* start = starts + p * width * STATES;
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
                for (int j = 0; j < PER_LANE; j++)
                    next_start[p][c][j] = scans[c] && t0 + p * KEEP < L ? start[c * STATES + j] : 0.f;
            }
        }
        u -= TILE * u_row;
        dt -= TILE * dt_row;
        z -= TILE * z_row;
        dout -= TILE * dout_row;
        B -= TILE * B_row;
        C -= TILE * C_row;
        starts -= PIECES * width * STATES;
    };

    load(t_last);
    for (int tile = tiles - 1; tile >= 0; tile--) {
        const int t0 = tile * TILE;
        const Row<WIDE> now_u = next_u, now_z = next_z, now_dout = next_dout;
        float now_step[WIDE], slope[WIDE], start[PIECES][PER_THREAD][PER_LANE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const float x = next_dt.at(e) + bias[e], power = exp2_fast(x * LOG2E);
            now_step[e] = apply_softplus ? softplus(x, power) : x;
            slope[e] = apply_softplus && x <= 20.f ? __fdividef(power, 1.f + power) : 1.f;
            if (t0 + row >= L) now_step[e] = 0.f;  // past the end the state stands still
            s_step[row][own + e] = make_float2(now_step[e], now_step[e] * now_u.at(e));
            s_dy[row][own + e] = now_dout.at(e) * (gated ? silu(now_z.at(e)) : 1.f);
        }
#pragma unroll
        for (int i = 0; i < WIDE_BC / PER_LANE; i++)
            s_BC[row_bc][own_bc / PER_LANE + i] = side_by_side<PER_LANE>(next_B, next_C, i * PER_LANE);
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
                for (int j = 0; j < PER_LANE; j++) start[p][c][j] = next_start[p][c][j];
            }
        }
        __syncthreads();
        if (tile > 0) load(t0 - TILE);

#pragma unroll 1
        for (int piece = PIECES - 1; piece >= 0; piece--) {
            const int first = piece * KEEP;
            float h[KEEP + 1][PER_THREAD][PER_LANE];
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
                for (int j = 0; j < PER_LANE; j++) {
                    h[0][c][j] = start[0][c][j];
#pragma unroll
                    for (int p = 1; p < PIECES; p++)  // registers have no index: choose
                        if (piece == p) h[0][c][j] = start[p][c][j];
                }
            }
#pragma unroll
            for (int t = 0; t < KEEP; t++) {
                const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[first + t][channel]);
                const Row<PER_LANE> b = *reinterpret_cast<Row<PER_LANE>*>(&s_BC[first + t][lane]);
#pragma unroll
                for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
                    for (int j = 0; j < PER_LANE; j++)
                        h[t + 1][c][j] = exp2_fast(step.at[2 * c] * (rate[c][j] * LOG2E)) * h[t][c][j]
                                         + step.at[2 * c + 1] * b.at(j);
                }
            }
#pragma unroll
            for (int g = KEEP - LANES; g >= 0; g -= LANES) {
                float to_u[PER_THREAD][LANES], to_dt[PER_THREAD][LANES], to_y[PER_THREAD][LANES];
#pragma unroll
                for (int k = LANES - 1; k >= 0; k--) {
                    const int t = g + k;
                    const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[first + t][channel]);
                    const auto dy = *reinterpret_cast<Floats<PER_THREAD>*>(&s_dy[first + t][channel]);
                    const Row<BOTH> bc = s_BC[first + t][lane];
#if MATRIX
                    unsigned rows[PER_THREAD][2], columns[PER_THREAD];
#else
                    float over_channels[BOTH] = {};
#endif
#pragma unroll
                    for (int c = 0; c < PER_THREAD; c++) {
                        to_u[c][k] = to_dt[c][k] = to_y[c][k] = 0.f;
#pragma unroll
                        for (int j = 0; j < PER_LANE; j++) {
                            gh[c][j] += dy.at[c] * bc.at(PER_LANE + j);
#if MATRIX
                            rows[c][j] = pack_bf16(gh[c][j], h[t + 1][c][j]);
#else
                            over_channels[j] += gh[c][j] * step.at[2 * c + 1];
                            over_channels[PER_LANE + j] += dy.at[c] * h[t + 1][c][j];
#endif
                            to_u[c][k] += gh[c][j] * bc.at(j);
                            to_y[c][k] += h[t + 1][c][j] * bc.at(PER_LANE + j);
                            // The decay again: kept for all steps, decays cost as many registers as states.
                            gh[c][j] *= exp2_fast(step.at[2 * c] * (rate[c][j] * LOG2E));
                            const float past = gh[c][j] * h[t][c][j];
                            to_dt[c][k] += past * rate[c][j];
#if WITH_PARAMETERS
                            sum_A[c][j] += past * step.at[2 * c];
#endif
                        }
                    }
#if MATRIX
#pragma unroll
                    for (int c = 0; c < PER_THREAD; c++)
                        columns[c] = pack_bf16(step.at[2 * c + 1], dy.at[c]) & (lane < 4 ? 0xffffu : 0xffff0000u);
                    const float2 sums = matrix_sums(rows, columns);  // of the states lane * 2 and the next
                    if (group % 2 == 0)  // columns 0 to 3 are dB, all the same; 4 to 7 dC
                        *reinterpret_cast<float2*>(&s_dBC[first + t][tid / 32][group / 2 * STATES + lane * 2]) = sums;
#else
                    sum_and_share<BOTH, GROUPS, 1>(over_channels, tid);
                    if (group * BOTH % GROUPS == 0) {  // the thread holds sums group * BOTH / GROUPS and on
#pragma unroll
                        for (int i = 0; i < SHARE; i++) {
                            const int sum = group * BOTH / GROUPS + i;
                            s_dBC[first + t][tid / 32][sum / PER_LANE * STATES + lane * PER_LANE + sum % PER_LANE] =
                                over_channels[i];
                        }
                    }
#endif
                }
#pragma unroll
                for (int c = 0; c < PER_THREAD; c++) {
                    sum_and_share<LANES, LANES, GROUPS>(to_u[c], tid);
                    sum_and_share<LANES, LANES, GROUPS>(to_dt[c], tid);
                    sum_and_share<LANES, LANES, GROUPS>(to_y[c], tid);
                    s_du[first + g + lane][channel + c] = to_u[c][0];
                    s_ddt[first + g + lane][channel + c] = to_dt[c][0];
                    s_y[first + g + lane][channel + c] = to_y[c][0];
                }
            }
        }
        __syncthreads();
        const int there = t0 + row < L ? valid : 0;
        float g_u[WIDE], g_dt[WIDE], g_z[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const float a_u = now_u.at(e), a_z = now_z.at(e), a_dout = now_dout.at(e);
            const float gate = sigmoid(a_z), dy = gated ? a_dout * a_z * gate : a_dout;
            const float inner = s_du[row][own + e];
            g_u[e] = dy * skip[e] + now_step[e] * inner;
            g_dt[e] = (a_u * inner + s_ddt[row][own + e]) * slope[e];
            g_z[e] = a_dout * (s_y[row][own + e] + skip[e] * a_u) * silu_slope(a_z, gate);
#if WITH_PARAMETERS
            if (there > 0) {
                sum_D[e] += dy * a_u;
                sum_bias[e] += g_dt[e];
            }
#endif
        }
        if (writes_du) store_row<WIDE>(du, g_u, there);
        if (writes_ddt) store_row<WIDE>(ddt, g_dt, there);
        if (writes_dz) store_row<WIDE>(dz, g_z, there);
        du -= TILE * width;
        ddt -= TILE * width;
        dz -= TILE * dz_row;
        Floats<OUT_BC> sum = {};
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            const Floats<OUT_BC> part = *reinterpret_cast<Floats<OUT_BC>*>(&s_dBC[row_out][w][own_out]);
#pragma unroll
            for (int i = 0; i < OUT_BC; i++) sum.at[i] += part.at[i];
        }
        if (t0 + row_out < L) *reinterpret_cast<Floats<OUT_BC>*>(dBC) = sum;
        dBC -= TILE * 2 * STATES;
    }
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        if (!scans[c]) continue;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            if (d_initial) d_initial[state_at + c * STATES + j] = gh[c][j];
#if WITH_PARAMETERS
            dA[state_at + c * STATES + j] = sum_A[c][j];
#endif
        }
    }
#if WITH_PARAMETERS
    __syncthreads();
#pragma unroll
    for (int e = 0; e < WIDE; e++) {
        s_du[row][own + e] = sum_D[e];
        s_ddt[row][own + e] = sum_bias[e];
    }
    __syncthreads();
    if (tid < CHANNELS && d0 + tid < width) {
        float of_D = 0.f, of_bias = 0.f;
        for (int r = 0; r < TILE; r++) {
            of_D += s_du[r][tid];
            of_bias += s_ddt[r][tid];
        }
        dD[batch * width + d0 + tid] = of_D;
        dbias[batch * width + d0 + tid] = of_bias;
    }
#endif
}
