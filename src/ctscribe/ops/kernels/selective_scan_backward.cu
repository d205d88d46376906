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
// starts: (B, ceil(L / TILE), D, N), fp32 or rounded (ROUND_KEPT), what the forward kernel kept.
// du, ddt: (B, L, D) contiguous. dz: (B, L, D) with strides of its own (half of in_proj's gradient).
// dBC: (ceil(D / CHANNELS), B, L, 2 N), each block's own sums over its channels, B's then C's:
// selective_scan_sum.cu adds them up, in a fixed order, so that results are equal from run to run.
// dA: (segments, B, D, N), dD, dbias: (segments, B, D), fp32, to be summed over segments and B.
// d_final, d_initial: (B, D, N) fp32.
// Null pointers: D, z, dt_bias, d_final (zeros), and every gradient that is not wanted, but dBC.
// settled, REVERSE: see common.cuh; t counts steps of the walk. WITH_PARAMETERS: 1 if dA, dD and dbias are wanted; all three are then written.
//
// Mapping: as in the forward file, tiles from last to first. Each thread goes forward from the state
// kept, with its states of all the tile's steps in registers, and then back; what is once per (t, d)
// is done for a tile at once, as in the forward file. What is summed over states (gh . B, h . C, the
// rest of g dt) is shared out over a channel's lanes; what is summed over channels (dB, dC) first over
// a warp's, then over the warps in shared memory, then it is written.
//
// Sums by shuffles cost half as much as all the rest. For bf16 with N 16 matrix products take them,
// of states rounded to bf16, with fp32 sums (MATRIX): four lanes of a channel hold four states each,
// as a product's left fragment wants its rows. Two steps of eight channels are the 16 rows of one
// product over the states, whose columns are the B (or C) of eight steps; each row needs one of them.
// For the sums over channels the same fragments are transposed.
//
// ends, steps: of selective_scan_ends.cu, for sequences cut into gridDim.z segments of `span` steps, a
// block each.
//
// Registers bound how many warps there are to hide latencies with: what only the once-per-(t, d) work
// needs stays in shared memory meanwhile, and addresses are a block's own but for a 32-bit offset.
//
// Floors, a (t, d, n), at 132 multiprocessors of 1.98 GHz, L 608, D 5120, N 16: about 20 instructions,
// 30 us (29 there are), two of them exps (24 us). Traffic: 14 bytes a (t, d), 4 N / TILE for the kept states, and
// 8 N / CHANNELS for dBC in fp32, half of it rounded.

#include "common.cuh"

#define LANES (STATES / PER_LANE)
#define THREADS (CHANNELS / PER_THREAD * LANES)
#define WARPS (THREADS / 32)
#define WIDE (TILE * CHANNELS / THREADS)     // channels of a row a thread loads and stores
#define EVEN_BC (TILE * STATES / THREADS)
#define WIDE_BC (EVEN_BC > PER_LANE ? EVEN_BC : PER_LANE)  // values of B, and of C, a thread loads
#define GROUPS (32 / LANES)                  // threads of a warp with the same states
#define BOTH (2 * PER_LANE)                  // states of B, then of C
#define SHARE (BOTH > GROUPS ? BOTH / GROUPS : 1)  // sums of dB, dC a lane ends with
// With more sums to keep a thread wants more registers.
#define BLOCKS (WITH_PARAMETERS && MIN_BLOCKS > 1 ? MIN_BLOCKS - 1 : MIN_BLOCKS)
static_assert(WIDE_BC % PER_LANE == 0 && TILE * STATES % WIDE_BC == 0 && TILE % LANES == 0, "tiles fit");
static_assert(CHANNELS % WIDE == 0 && THREADS % 32 == 0, "tiles fit");

#define MATRIX (ELEMENT == 1 && STATES == 16 && PER_LANE == 4 && PER_THREAD == 1 && __CUDA_ARCH__ >= 800)
#if MATRIX
// A thread's four states as two words: those of even number, those of odd number.
struct Packed { unsigned even, odd; };
__device__ __forceinline__ Packed pack(const float (&x)[4]) {
    return {pack(x[0], x[2]), pack(x[1], x[3])};
}
__device__ __forceinline__ Packed pack(unsigned x01, unsigned x23) {
    return {__byte_perm(x01, x23, 0x5410), __byte_perm(x01, x23, 0x7632)};
}
// Rows are eight channels, columns eight states: the thread's word becomes two channels of one state.
__device__ __forceinline__ unsigned transposed(unsigned x) {
    unsigned y;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
// The matrix product of 16 x 16 and 16 x 8. Of its result a thread has rows group and group + 8, of
// each the columns 2 lane and 2 lane + 1.
struct Sums { float at[2][2]; };
__device__ __forceinline__ Sums product(unsigned left0, unsigned left1, unsigned left2, unsigned left3,
                                        unsigned right0, unsigned right1) {
    Sums d;
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=f"(d.at[0][0]), "=f"(d.at[0][1]), "=f"(d.at[1][0]), "=f"(d.at[1][1])
        : "r"(left0), "r"(left1), "r"(left2), "r"(left3), "r"(right0), "r"(right1), "f"(0.f));
    return d;
}
// Over the states, of a step and the one after it.
__device__ __forceinline__ Sums over_states(const Packed (&left)[2], Packed right) {
    return product(left[0].even, left[1].even, left[0].odd, left[1].odd, right.even, right.odd);
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) scan_backward(
    const elem* dout, const elem* u, const elem* dt,
    const float* A, const elem* B, const elem* C,
    const float* D, const elem* z, const float* dt_bias,
    const kept* starts, const float* d_final,
    const float* ends, const float* steps,
    elem* __restrict__ du, elem* __restrict__ ddt, elem* __restrict__ dz, summand* __restrict__ dBC,
    float* __restrict__ dA, float* __restrict__ dD, float* __restrict__ dbias,
    float* __restrict__ d_initial, i64 length, i64 width, i64 apply_softplus, i64 settled, i64 span,
    i64 dout_batch, i64 dout_row, i64 u_batch, i64 u_row, i64 dt_batch, i64 dt_row,
    i64 B_batch, i64 B_row, i64 C_batch, i64 C_row, i64 z_batch, i64 z_row, i64 dz_batch, i64 dz_row)
{
    __shared__ __align__(16) float2 s_step[TILE][CHANNELS + 2];  // dt, dt u
    __shared__ __align__(16) float s_dy[TILE][CHANNELS];
    __shared__ Row<BOTH> s_BC[TILE][LANES];  // a lane's B, then its C
#if MATRIX
    __shared__ __align__(8) uint2 s_columns[TILE][2][CHANNELS / 2];  // of two channels: dt u for dB; dy for dC
#endif
    __shared__ __align__(16) float s_du[TILE][CHANNELS + 4], s_ddt[TILE][CHANNELS + 4];
    __shared__ __align__(16) float s_y[TILE][CHANNELS + 4];
    __shared__ __align__(16) float s_skip[CHANNELS], s_bias[CHANNELS];
    __shared__ __align__(16) float s_dBC[TILE][WARPS][2 * STATES];

    let_next_start();
    const int tid = threadIdx.x, lane = tid % LANES, group = tid / LANES % GROUPS;
    const int channel = tid / LANES * PER_THREAD;
    const int row = tid / (CHANNELS / WIDE), own = tid % (CHANNELS / WIDE) * WIDE;
    const int row_bc = tid / (STATES / WIDE_BC), own_bc = tid % (STATES / WIDE_BC) * WIDE_BC;
    const bool loads_bc = row_bc < TILE;
    const int batch = blockIdx.y, L = (int)length, tiles = (L + TILE - 1) / TILE;
    const i64 d0 = (i64)blockIdx.x * CHANNELS;
    const int valid = (int)min((i64)WIDE, width - d0 - own);  // of the thread's channels, this many exist
    const int segment = blockIdx.z, first_tile = segment * (int)span / TILE;
    const int last_tile = min(tiles, first_tile + (int)span / TILE) - 1;
    const bool gated = z;
    const bool writes_du = du, writes_ddt = ddt, writes_dz = dz;
    const i64 state_at = ((i64)batch * width + d0 + channel) * STATES + lane * PER_LANE;

    if (!settled) wait_for_previous();
    float rate[PER_THREAD][PER_LANE], gh[PER_THREAD][PER_LANE];
    bool scans[PER_THREAD];
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        scans[c] = d0 + channel + c < width;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++)
            rate[c][j] = scans[c] ? A[(d0 + channel + c) * STATES + lane * PER_LANE + j] : 0.f;
    }
    if (tid < CHANNELS) {
        const bool exists = d0 + tid < width;
        s_skip[tid] = D && exists ? D[d0 + tid] : 0.f;
        s_bias[tid] = dt_bias && exists ? dt_bias[d0 + tid] : 0.f;
    }
    __syncthreads();
    wait_for_previous();
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            gh[c][j] = scans[c] && d_final ? d_final[state_at + c * STATES + j] : 0.f;
            if (scans[c])  // ends of the first segment are not there: they start at the second's
                gh[c][j] = through(gh[c][j], rate[c][j] * LOG2E, ends + state_at + c * STATES + j,
                                   steps + state_at / STATES + c, gridDim.z - 2, segment - 1, -1,
                                   gridDim.y * width, STATES);
        }
    }
#if WITH_PARAMETERS
    float sum_A[PER_THREAD][PER_LANE] = {}, sum_D[WIDE] = {}, sum_bias[WIDE] = {};
#endif

    i64 out_row = width, ddt_out_row = width;
    turn(u, u_row, length);
    turn(dt, dt_row, length);
    turn(z, z_row, length);
    turn(B, B_row, length);
    turn(C, C_row, length);
    turn(dout, dout_row, length);
    turn(dz, dz_row, length);
    turn(du, out_row, length);
    turn(ddt, ddt_out_row, length);
    // Addresses of a tile: the block's, and from there this thread's, which fit 32 bits (FARTHEST_ROW).
    const int out_at = row * (int)out_row + own;
    const int u_at = row * (int)u_row + own, dt_at = row * (int)dt_row + own, z_at = row * (int)z_row + own;
    const int dout_at = row * (int)dout_row + own, dz_at = row * (int)dz_row + own;
    const int B_at = row_bc * (int)B_row + own_bc, C_at = row_bc * (int)C_row + own_bc;
    u += batch * u_batch + d0;
    dt += batch * dt_batch + d0;
    z += gated ? batch * z_batch + d0 : 0;
    dout += batch * dout_batch + d0;
    B += batch * B_batch;
    C += batch * C_batch;
    du += writes_du ? (i64)batch * L * width + d0 : 0;
    ddt += writes_ddt ? (i64)batch * L * width + d0 : 0;
    dz += writes_dz ? batch * dz_batch + d0 : 0;
    dBC += ((i64)blockIdx.x * gridDim.y + batch) * L * 2 * STATES;
    starts += ((i64)batch * tiles * width + d0) * STATES;
    const int start_at = channel * STATES + lane * PER_LANE;

    Row<WIDE> next_u, next_dt, next_z, next_dout;
    Row<WIDE_BC> next_B, next_C;
    Kept<PER_LANE> next_start[PER_THREAD];
    auto load = [&](int tile) {
        const i64 t0 = (i64)tile * TILE;
        const int there = t0 + row < L ? valid : 0, there_bc = loads_bc && t0 + row_bc < L ? WIDE_BC : 0;
        next_u = load_row<WIDE>(u + t0 * u_row + u_at, there);
        next_dt = load_row<WIDE>(dt + t0 * dt_row + dt_at, there);
        next_z = load_row<WIDE>(z + t0 * z_row + z_at, gated ? there : 0);
        next_dout = load_row<WIDE>(dout + t0 * dout_row + dout_at, there);
        next_B = load_row<WIDE_BC>(B + t0 * B_row + B_at, there_bc);
        next_C = load_row<WIDE_BC>(C + t0 * C_row + C_at, there_bc);
        const kept* start = starts + tile * width * STATES;
#pragma unroll
        for (int c = 0; c < PER_THREAD; c++) {
            next_start[c] = {};
            if (scans[c]) next_start[c] = *reinterpret_cast<const Kept<PER_LANE>*>(start + start_at + c * STATES);
        }
    };

    load(last_tile);
    for (int tile = last_tile; tile >= first_tile; tile--) {
        const int t0 = tile * TILE;
        const Row<WIDE> now_u = next_u, now_z = next_z, now_dout = next_dout;
        float h[TILE + 1][PER_THREAD][PER_LANE], step[WIDE], to_B[WIDE], to_C[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const float x = next_dt.at(e) + s_bias[own + e];
            step[e] = apply_softplus ? softplus(x, exp2_fast(x * LOG2E)) : x;
            if (t0 + row >= L) step[e] = 0.f;  // past the end the state stands still
            to_B[e] = step[e] * now_u.at(e);
            to_C[e] = now_dout.at(e) * (gated ? silu(now_z.at(e)) : 1.f);
            s_dy[row][own + e] = to_C[e];
        }
#pragma unroll
        for (int e = 0; e < WIDE; e += 2)  // 16 bytes a thread, with fewer conflicts
            *reinterpret_cast<Floats<4>*>(&s_step[row][own + e]) = {step[e], to_B[e], step[e + 1], to_B[e + 1]};
#if MATRIX
#pragma unroll
        for (int e = 0; e < WIDE; e += 2) {
            s_columns[row][0][(own + e) / 2] = make_uint2(pack(to_B[e], to_B[e + 1]), 0);
            s_columns[row][1][(own + e) / 2] = make_uint2(0, pack(to_C[e], to_C[e + 1]));
        }
#endif
        if (loads_bc) {
#pragma unroll
            for (int i = 0; i < WIDE_BC / PER_LANE; i++)
                s_BC[row_bc][own_bc / PER_LANE + i] = side_by_side<PER_LANE>(next_B, next_C, i * PER_LANE);
        }
#pragma unroll
        for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
            for (int j = 0; j < PER_LANE; j++) h[0][c][j] = kept_at(next_start[c], j);
        }
        __syncthreads();
        if (tile > first_tile) load(tile - 1);
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[t][channel]);
            const Row<PER_LANE> b = *reinterpret_cast<Row<PER_LANE>*>(&s_BC[t][lane]);
#pragma unroll
            for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
                for (int j = 0; j < PER_LANE; j++)
                    h[t + 1][c][j] = exp2_fast(step.at[2 * c] * (rate[c][j] * LOG2E)) * h[t][c][j]
                                     + step.at[2 * c + 1] * b.at(j);
            }
        }
        // Decays are computed again: kept, they would cost as many registers as states. The compiler,
        // which would keep them, is told that the rates may have changed.
        float back[PER_THREAD][PER_LANE];
#pragma unroll
        for (int c = 0; c < PER_THREAD; c++) {
#pragma unroll
            for (int j = 0; j < PER_LANE; j++) {
                back[c][j] = rate[c][j];
                asm volatile("" : "+f"(back[c][j]));
            }
        }
#if MATRIX
#pragma unroll
        for (int first = TILE - 8; first >= 0; first -= 8) {  // eight steps: a product's columns
            const Row<BOTH> column = s_BC[first + group][lane];
            const Packed by_B = pack(column.word[0], column.word[1]), by_C = pack(column.word[2], column.word[3]);
            float to_u[2], to_y[2], to_dt[2];  // of the steps 2 lane and 2 lane + 1
#pragma unroll
            for (int two = 3; two >= 0; two--) {
                Packed of_gh[2], of_h[2], of_past[2];
#pragma unroll
                for (int k = 1; k >= 0; k--) {
                    const int t = first + 2 * two + k;
                    const float2 step = s_step[t][channel];
                    const float dy = s_dy[t][channel];
                    const Row<BOTH> bc = s_BC[t][lane];
                    const uint2 columns = s_columns[t][group / 4][tid / 32 * 4 + lane];
                    float past[4];
#pragma unroll
                    for (int j = 0; j < 4; j++) gh[0][j] += dy * bc.at(4 + j);
                    of_gh[k] = pack(gh[0]);
                    of_h[k] = pack(h[t + 1][0]);
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        gh[0][j] *= exp2_fast(step.x * (back[0][j] * LOG2E));
                        past[j] = gh[0][j] * h[t][0][j];
#if WITH_PARAMETERS
                        sum_A[0][j] += past[j] * step.x;
#endif
                        past[j] *= back[0][j];
                    }
                    of_past[k] = pack(past);
                    // Columns 0 to 3 are dB, all the same; 4 to 7 dC. Rows are states.
                    const Sums sums = product(transposed(of_gh[k].even), transposed(of_gh[k].odd),
                                              transposed(of_h[k].even), transposed(of_h[k].odd),
                                              columns.x, columns.y);
                    if (lane % 2 == 0)
                        *reinterpret_cast<float2*>(&s_dBC[t][tid / 32][lane / 2 * STATES + group * 2]) =
                            make_float2(sums.at[0][0], sums.at[1][0]);
                }
                const Sums u_sums = over_states(of_gh, by_B), y_sums = over_states(of_h, by_C);
                const Sums dt_sums = over_states(of_past, {0x3f803f80u, 0x3f803f80u});  // ones
#pragma unroll
                for (int k = 0; k < 2; k++) {
                    to_u[k] = lane == two ? u_sums.at[k][k] : to_u[k];
                    to_y[k] = lane == two ? y_sums.at[k][k] : to_y[k];
                    to_dt[k] = lane == two ? dt_sums.at[k][k] : to_dt[k];
                }
            }
#pragma unroll
            for (int k = 0; k < 2; k++) {
                s_du[first + 2 * lane + k][channel] = to_u[k];
                s_ddt[first + 2 * lane + k][channel] = to_dt[k];
                s_y[first + 2 * lane + k][channel] = to_y[k];
            }
        }
#else
#pragma unroll
        for (int g = TILE - LANES; g >= 0; g -= LANES) {
            SharedSums<LANES, 1> u_sums[PER_THREAD], dt_sums[PER_THREAD], y_sums[PER_THREAD];
#pragma unroll
            for (int k = LANES - 1; k >= 0; k--) {
                const int t = g + k;
                const auto step = *reinterpret_cast<Floats<2 * PER_THREAD>*>(&s_step[t][channel]);
                const auto dy = *reinterpret_cast<Floats<PER_THREAD>*>(&s_dy[t][channel]);
                const Row<BOTH> bc = s_BC[t][lane];
                float over_channels[BOTH] = {};
#pragma unroll
                for (int c = 0; c < PER_THREAD; c++) {
                    float to_u = 0.f, to_dt = 0.f, to_y = 0.f;
#pragma unroll
                    for (int j = 0; j < PER_LANE; j++) {
                        gh[c][j] += dy.at[c] * bc.at(PER_LANE + j);
                        over_channels[j] += gh[c][j] * step.at[2 * c + 1];
                        over_channels[PER_LANE + j] += dy.at[c] * h[t + 1][c][j];
                        to_u += gh[c][j] * bc.at(j);
                        to_y += h[t + 1][c][j] * bc.at(PER_LANE + j);
                        gh[c][j] *= exp2_fast(step.at[2 * c] * (back[c][j] * LOG2E));
                        const float past = gh[c][j] * h[t][c][j];
                        to_dt += past * back[c][j];
#if WITH_PARAMETERS
                        sum_A[c][j] += past * step.at[2 * c];
#endif
                    }
                    to_u = u_sums[c].add(k, to_u, tid);
                    to_dt = dt_sums[c].add(k, to_dt, tid);
                    to_y = y_sums[c].add(k, to_y, tid);
                    if (k == 0) {
                        s_du[g + lane][channel + c] = to_u;
                        s_ddt[g + lane][channel + c] = to_dt;
                        s_y[g + lane][channel + c] = to_y;
                    }
                }
                sum_and_share<BOTH, GROUPS, LANES>(over_channels, tid);
                if (group * BOTH % GROUPS == 0) {  // the thread holds sums group * BOTH / GROUPS and on
#pragma unroll
                    for (int i = 0; i < SHARE; i++) {
                        const int sum = group * BOTH / GROUPS + i;
                        s_dBC[t][tid / 32][sum / PER_LANE * STATES + lane * PER_LANE + sum % PER_LANE] =
                            over_channels[i];
                    }
                }
            }
        }
#endif
        __syncthreads();
        const int there = t0 + row < L ? valid : 0;
        float g_u[WIDE], g_dt[WIDE], g_z[WIDE];
#pragma unroll
        for (int e = 0; e < WIDE; e++) {
            const float a_u = now_u.at(e), a_z = now_z.at(e), a_dout = now_dout.at(e);
            const float dy = s_dy[row][own + e], inner = s_du[row][own + e];
            const float step = s_step[row][own + e].x, skip = s_skip[own + e];
            g_u[e] = dy * skip + step * inner;
            g_dt[e] = (a_u * inner + s_ddt[row][own + e]) * (apply_softplus ? softplus_slope(step) : 1.f);
            g_z[e] = a_dout * (s_y[row][own + e] + skip * a_u) * silu_slope(a_z, sigmoid(a_z));
#if WITH_PARAMETERS
            if (there > 0) {
                sum_D[e] += dy * a_u;
                sum_bias[e] += g_dt[e];
            }
#endif
        }
        if (writes_du) store_row<WIDE>(du + t0 * out_row + out_at, g_u, there);
        if (writes_ddt) store_row<WIDE>(ddt + t0 * out_row + out_at, g_dt, there);
        if (writes_dz) store_row<WIDE>(dz + t0 * dz_row + dz_at, g_z, there);
#pragma unroll
        for (int round = 0; round < (TILE * 2 * STATES + THREADS * 4 - 1) / (THREADS * 4); round++) {
            const int i = (round * THREADS + tid) * 4, t = i / (2 * STATES);
            if (t >= TILE) break;
            Floats<4> sum = {};
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                const Floats<4> part = *reinterpret_cast<Floats<4>*>(&s_dBC[t][w][i % (2 * STATES)]);
#pragma unroll
                for (int k = 0; k < 4; k++) sum.at[k] += part.at[k];
            }
            const i64 to = REVERSE ? (i64)(L - 1 - t0 - 2 * t) * 2 * STATES : (i64)t0 * 2 * STATES;
            if (t0 + t < L) keep(dBC + to + i, sum.at);
        }
    }
#pragma unroll
    for (int c = 0; c < PER_THREAD; c++) {
        if (!scans[c]) continue;
#pragma unroll
        for (int j = 0; j < PER_LANE; j++) {
            if (d_initial && segment == 0) d_initial[state_at + c * STATES + j] = gh[c][j];
#if WITH_PARAMETERS
            dA[(i64)blockIdx.z * gridDim.y * width * STATES + state_at + c * STATES + j] = sum_A[c][j];
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
        const i64 sequence = (i64)blockIdx.z * gridDim.y + batch;
        dD[sequence * width + d0 + tid] = of_D;
        dbias[sequence * width + d0 + tid] = of_bias;
    }
#endif
}
