// CUDA C++ as far as the kernels use it, on a CPU: the threads of a block are contexts that take turns,
// each until it waits for the others; blocks run one after the other. See emulator.py.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

#define __CUDA_ARCH__ 900
#define __device__
#define __global__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static  // one block at a time

using std::max;
using std::min;

struct Index { int x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 { float x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
template <class T> static inline void __stwb(T* to, T value) { *to = value; }

template <class To, class From> static inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline float __uint_as_float(unsigned x) { return bits<float>(x); }
static inline float __int_as_float(int x) { return bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return bits<unsigned>(x); }
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which) {
    const unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(both >> (which >> 4 * i & 7) * 8 & 255) << 8 * i;
    return r;
}
static inline unsigned short bf16_of(float x) {  // to nearest, ties to even
    const unsigned b = bits<unsigned>(x);
    return (b & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
}
static inline float of_bf16(unsigned x) { return bits<float>(x << 16); }
static inline unsigned short fp16_of(float x) { return bits<unsigned short>((_Float16)x); }
static inline float of_fp16(unsigned short x) { return (float)bits<_Float16>(x); }

// Threads.

struct Thread {
    ucontext_t entry;
    jmp_buf here;
    bool started, done;
};
struct Barrier { int arrived, round; };
static Thread threads[1024];
static jmp_buf scheduler;
static void (*entry)();
static int now, count;
static Barrier of_block, of_warp[32];
static unsigned given[32][8][32];  // of a warp, of a register, of a lane

static void yield() {
    const int self = now;
    if (!_setjmp(threads[self].here)) _longjmp(scheduler, 1);
    threadIdx = {self, 0, 0};
}
static void wait_at(Barrier& barrier, int all) {
    const int round = barrier.round;
    if (++barrier.arrived == all) {
        barrier.arrived = 0;
        barrier.round++;
    }
    while (barrier.round == round) yield();
}
static inline void __syncthreads() { wait_at(of_block, count); }
static inline void sync_warp() { wait_at(of_warp[now / 32], min(32, count - now / 32 * 32)); }
template <class Read> static inline auto exchange(int registers, const unsigned* mine, Read read) {
    const int warp = now / 32, lane = now % 32;
    for (int i = 0; i < registers; i++) given[warp][i][lane] = mine[i];
    sync_warp();
    const auto found = read(given[warp], lane);
    sync_warp();
    return found;
}
static inline float __shfl_xor_sync(unsigned, float x, int far) {
    const unsigned mine = bits<unsigned>(x);
    return exchange(1, &mine, [&](auto& all, int lane) { return bits<float>(all[0][lane ^ far]); });
}
static inline unsigned __ballot_sync(unsigned, bool vote) {
    const unsigned mine = vote;
    return exchange(1, &mine, [&](auto& all, int) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; lane++) votes |= all[0][lane] << lane;
        return votes;
    });
}
// An 8 x 8 matrix of 16-bit numbers, two neighbours a thread, row by row.
static inline unsigned transposed_8x8(unsigned x) {
    return exchange(1, &x, [](auto& all, int lane) {
        auto at = [&](int row, int column) {
            return all[0][row * 4 + column / 2] >> column % 2 * 16 & 0xffffu;
        };
        const int row = lane / 4, column = lane % 4 * 2;
        return at(column, row) | at(column + 1, row) << 16;
    });
}
// mma.m16n8k16, bf16 to fp32, with the layouts of the PTX manual.
static inline void matrix_product(float& d0, float& d1, float& d2, float& d3, unsigned a0, unsigned a1,
                                  unsigned a2, unsigned a3, unsigned b0, unsigned b1, float c) {
    struct Four { float at[4]; };
    const unsigned mine[6] = {a0, a1, a2, a3, b0, b1};
    const Four d = exchange(6, mine, [&](auto& all, int lane) {
        auto half = [](unsigned word, int k) { return of_bf16(word >> k % 2 * 16 & 0xffffu); };
        auto a = [&](int row, int k) {
            return half(all[(row >= 8) + 2 * (k >= 8)][row % 8 * 4 + k % 8 / 2], k);
        };
        auto b = [&](int k, int column) { return half(all[4 + (k >= 8)][column * 4 + k % 8 / 2], k); };
        Four sums;
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            sums.at[i] = c;
            for (int k = 0; k < 16; k++) sums.at[i] += a(row, k) * b(k, column);
        }
        return sums;
    });
    d0 = d.at[0], d1 = d.at[1], d2 = d.at[2], d3 = d.at[3];
}

static void run_thread() {  // once a block, without end
    for (;; yield()) {
        entry();
        threads[now].done = true;
    }
}

static void resume(int t) {  // until it yields
    Thread& thread = threads[t];
    now = t;
    if (_setjmp(scheduler)) return;
    if (thread.started) _longjmp(thread.here, 1);
    thread.started = true;
    threadIdx = {t, 0, 0};
    const size_t size = 1 << 16;
    getcontext(&thread.entry);
    thread.entry.uc_stack.ss_sp = malloc(size);
    thread.entry.uc_stack.ss_size = size;
    makecontext(&thread.entry, run_thread, 0);
    setcontext(&thread.entry);
}

static void run_blocks(Index grid, int block, void (*kernel)()) {
    gridDim = grid, blockDim = {block, 1, 1}, count = block, entry = kernel;
    for (int i = 0; i < grid.x * grid.y * grid.z; i++) {
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        of_block = {};
        for (Barrier& barrier : of_warp) barrier = {};
        for (int t = 0; t < block; t++) threads[t].done = false;
        for (bool all = false; !all;) {
            all = true;
            for (int t = 0; t < block; t++) {
                if (!threads[t].done) resume(t);
                all = all && threads[t].done;
            }
        }
    }
}
