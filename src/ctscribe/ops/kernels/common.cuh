// What every kernel shares: the element type, fast exponentials, and sums over lanes.
//
// ELEMENT chooses the type of activations: 0 fp32, 1 bf16, 2 fp16. Parameters and states are fp32.
// bf16 and fp16 are handled as their bits, so that NVRTC needs no CUDA header.

#pragma once

#ifndef ELEMENT
#define ELEMENT 0
#endif

typedef long long i64;

#if ELEMENT == 0
typedef float elem;
__device__ __forceinline__ float to_float(elem x) { return x; }
__device__ __forceinline__ elem to_elem(float x) { return x; }
#elif ELEMENT == 1
typedef unsigned short elem;
__device__ __forceinline__ float to_float(elem x) { return __uint_as_float((unsigned)x << 16); }
__device__ __forceinline__ elem to_elem(float x) {
#if __CUDA_ARCH__ >= 800
    elem r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
#else
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN
    return (elem)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // to nearest, ties to even
#endif
}
#else
typedef unsigned short elem;
__device__ __forceinline__ float to_float(elem x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
__device__ __forceinline__ elem to_elem(float x) {
    elem r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
}
#endif

// A kernel may be launched while the one before it still runs (programmatic dependent launch). It may
// read constants at once; everything else, and every write, only after this. All threads call it.
// Parameters count as constants only if `settled`: those of a frozen model, written long before. What
// the kernel just before has written, a cast say, is not there yet.
// So what is read is not constant while the kernel runs, and no pointer may say so: `const T* __restrict__`
// becomes ld.global.nc, which finds old values in a multiprocessor's cache even after the wait.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The kernel after this one may be launched as soon as all blocks have called this.
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#define LOG2E 1.4426950408889634f

// 2^x, about 2^-22 relative.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// 1 / x, to one unit in the last place.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.f + exp2_fast(-x * LOG2E)); }
__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }
// d silu(x) / dx, given s = sigmoid(x).
__device__ __forceinline__ float silu_slope(float x, float s) { return s * (1.f + x * (1.f - s)); }
// log(1 + e^x), from e = e^x; above 20 it is x (PyTorch's threshold). For 16-bit inputs in a few
// instructions without a branch, to 1e-5 relative: lg2 is good to 2^-22 absolute, which is too little
// where e is small, so there the series takes over.
__device__ __forceinline__ float softplus(float x, float e) {
#if ELEMENT == 0
    return x > 20.f ? x : log1pf(e);
#else
    float log2;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(log2) : "f"(1.f + e));
    const float series = e + e * e * (e * 0.33333333f - 0.5f);
    const float y = e < 0.015625f ? series : log2 * 0.69314718f;
    return x > 20.f ? x : y;
#endif
}

// Its slope, sigmoid(x), from y = softplus(x): 1 - e^-y.
__device__ __forceinline__ float softplus_slope(float y) {
    const float series = y * (1.f - y * (0.5f - y * 0.16666667f));
    return y < 0.015625f ? series : 1.f - exp2_fast(-y * LOG2E);
}

template <int E> struct __align__(E % 2 ? 4 : E % 4 ? 8 : 16) Floats { float at[E]; };

// E neighbouring elements, kept as the words they came in: unpacking at once would wait for the load.
template <int E> struct __align__(E * sizeof(elem) < 16 ? E * sizeof(elem) : 16) Row {
    static constexpr int WORDS = E * sizeof(elem) / 4;
    static_assert(WORDS >= 1, "a row is at least one word");
    unsigned word[WORDS];

    __device__ __forceinline__ float at(int e) const {
#if ELEMENT == 0
        return __uint_as_float(word[e]);
#elif ELEMENT == 1
        return __uint_as_float(e % 2 ? word[e / 2] & 0xffff0000u : word[e / 2] << 16);
#else
        return to_float((elem)(word[e / 2] >> (e % 2 * 16)));
#endif
    }
};

// Elements [at, at + E) of b, then those of c, in one row.
template <int E, int M>
__device__ __forceinline__ Row<2 * E> side_by_side(const Row<M>& b, const Row<M>& c, int at) {
    Row<2 * E> both;
    if constexpr (E * sizeof(elem) >= 4) {
        constexpr int words = E * sizeof(elem) / 4;
#pragma unroll
        for (int w = 0; w < words; w++) {
            both.word[w] = b.word[at * sizeof(elem) / 4 + w];
            both.word[words + w] = c.word[at * sizeof(elem) / 4 + w];
        }
    } else {  // one 16-bit element of each
        const int shift = at % 2 * 16;
        both.word[0] = (b.word[at / 2] >> shift & 0xffffu) | (c.word[at / 2] >> shift) << 16;
    }
    return both;
}

// Elements [at, at + E) of a row, at a whole word.
template <int E, int M>
__device__ __forceinline__ Row<E> part_of(const Row<M>& row, int at) {
    Row<E> part;
#pragma unroll
    for (int w = 0; w < Row<E>::WORDS; w++) part.word[w] = row.word[at * sizeof(elem) / 4 + w];
    return part;
}

// Of E elements `valid` exist; the others read as zero and are not written. VECTOR: one access for
// all (16 bytes at a time), to aligned addresses, and all E exist or none.
#ifndef VECTOR
#define VECTOR 0
#endif

template <int E>
__device__ __forceinline__ Row<E> load_row(const elem* from, int valid) {
    Row<E> row = {};
#if VECTOR
    if (valid > 0) row = *reinterpret_cast<const Row<E>*>(from);
#else
#pragma unroll
    for (int e = 0; e < E; e++) {
#if ELEMENT == 0
        if (e < valid) row.word[e] = __float_as_uint(from[e]);
#else
        if (e < valid) row.word[e / 2] |= (unsigned)from[e] << (e % 2 * 16);
#endif
    }
#endif
    return row;
}

template <int E>
__device__ __forceinline__ Floats<E> load_floats(const float* from, int valid) {
    Floats<E> row = {};
#if VECTOR
    if (valid > 0) row = *reinterpret_cast<const Floats<E>*>(from);
#else
#pragma unroll
    for (int e = 0; e < E; e++)
        if (e < valid) row.at[e] = from[e];
#endif
    return row;
}

template <int E>
__device__ __forceinline__ void store_floats(float* to, const Floats<E>& row, int valid) {
#if VECTOR
    if (valid > 0) *reinterpret_cast<Floats<E>*>(to) = row;
#else
#pragma unroll
    for (int e = 0; e < E; e++)
        if (e < valid) to[e] = row.at[e];
#endif
}

#if ELEMENT != 0
// Two elements in a word.
__device__ __forceinline__ unsigned pack(float low, float high) {
#if __CUDA_ARCH__ >= 800
    unsigned r;
#if ELEMENT == 1
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
#endif
    return r;
#else
    return (unsigned)to_elem(low) | (unsigned)to_elem(high) << 16;
#endif
}
#endif

template <int E>
__device__ __forceinline__ Row<E> rounded(const float* values) {
    Row<E> row;
#pragma unroll
    for (int w = 0; w < Row<E>::WORDS; w++) {
#if ELEMENT == 0
        row.word[w] = __float_as_uint(values[w]);
#else
        row.word[w] = pack(values[2 * w], values[2 * w + 1]);
#endif
    }
    return row;
}

template <int E>
__device__ __forceinline__ void store_row(elem* to, const Row<E>& row, int valid) {
#if VECTOR
    if (valid <= 0) return;
    // Named, because the compiler may split a store of what it has computed word by word.
    if constexpr (Row<E>::WORDS == 1) *reinterpret_cast<unsigned*>(to) = row.word[0];
    else if constexpr (Row<E>::WORDS == 2)
        __stwb(reinterpret_cast<uint2*>(to), make_uint2(row.word[0], row.word[1]));
    else {
#pragma unroll
        for (int w = 0; w < Row<E>::WORDS; w += 4)
            __stwb(reinterpret_cast<uint4*>(to) + w / 4,
                   make_uint4(row.word[w], row.word[w + 1], row.word[w + 2], row.word[w + 3]));
    }
#else
#pragma unroll
    for (int e = 0; e < E; e++) {
#if ELEMENT == 0
        if (e < valid) to[e] = row.at(e);
#else
        if (e < valid) to[e] = (elem)(row.word[e / 2] >> (e % 2 * 16));
#endif
    }
#endif
}

template <int E>
__device__ __forceinline__ void store_row(elem* to, const float* values, int valid) {
    store_row<E>(to, rounded<E>(values), valid);
}

// REVERSE: sequences are walked from their last row to their first.
#ifndef REVERSE
#define REVERSE 0
#endif
// To where row t of the walk is `rows + t * row`.
template <class T>
__device__ __forceinline__ void turn(T* __restrict__& rows, i64& row, i64 length) {
    if (!REVERSE) return;
    rows += (length - 1) * row;
    row = -row;
}

// States that a forward pass keeps for a backward pass, E neighbours of a thread: in fp32, or rounded
// to the inputs' type, which is half as much to keep and to read. So too what each block sums up of dB
// and dC, but not in fp16, in which many small sums would be zeros.
#ifndef ROUND_KEPT
#define ROUND_KEPT 0
#endif
#if ROUND_KEPT
typedef elem kept;
template <int E> using Kept = Row<E>;
#else
typedef float kept;
template <int E> using Kept = Floats<E>;
#endif
#if ROUND_KEPT && ELEMENT == 1
typedef elem summand;
template <int E> using Summands = Row<E>;
#else
typedef float summand;
template <int E> using Summands = Floats<E>;
#endif

template <int E>
__device__ __forceinline__ void keep(float* to, const float (&values)[E]) {
    Floats<E> row;
#pragma unroll
    for (int i = 0; i < E; i++) row.at[i] = values[i];
    *reinterpret_cast<Floats<E>*>(to) = row;
}
#if ELEMENT != 0
template <int E>
__device__ __forceinline__ void keep(elem* to, const float (&values)[E]) {
    *reinterpret_cast<Row<E>*>(to) = rounded<E>(values);
}
#endif
template <int E>
__device__ __forceinline__ float kept_at(const Floats<E>& row, int i) { return row.at[i]; }
template <int E>
__device__ __forceinline__ float kept_at(const Row<E>& row, int i) { return row.at(i); }

// Sums v over the W lanes whose numbers differ in the bits [STRIDE, STRIDE * W), and shares the sums
// out: with V >= W, lane i of them ends with the sums of v[i * V / W ...] in v[0 .. V / W); with
// V < W, lanes i * W / V ... all hold the sum of v[i] in v[0]. Halving what is sent at every
// exchange costs V shuffles where one butterfly a value costs V log2(W).
template <int V, int W, int STRIDE>
__device__ __forceinline__ void sum_and_share(float* v, int lane) {
    if constexpr (W > 1) {
        constexpr int far = STRIDE * (W / 2);
        if constexpr (V > 1) {
            const bool upper = lane & far;
#pragma unroll
            for (int i = 0; i < V / 2; i++) {
                const float give = upper ? v[i] : v[i + V / 2];
                const float keep = upper ? v[i + V / 2] : v[i];
                v[i] = keep + __shfl_xor_sync(~0u, give, far);
            }
            sum_and_share<V / 2, W / 2, STRIDE>(v, lane);
        } else {
            v[0] += __shfl_xor_sync(~0u, v[0], far);
            sum_and_share<1, W / 2, STRIDE>(v, lane);
        }
    }
}

// The same sums of W values v_k given one after another, k from W - 1 to 0: two are joined as soon as
// both are there, so that few are held. What the last `add` returns is, in lane i of the W, the sum of v_i.
template <int W, int STRIDE>
struct SharedSums {
    float waiting[W > 1 ? W - 1 : 1];  // at most one a level

    __device__ __forceinline__ float add(int k, float v, int lane) {
#pragma unroll
        for (int level = 0; 1 << level < W; level++) {
            if (k >> level & 1) {  // the first of two
                waiting[level] = v;
                return v;
            }
            const int far = STRIDE << level;
            const bool upper = lane & far;
            const float give = upper ? v : waiting[level];
            v = (upper ? waiting[level] : v) + __shfl_xor_sync(~0u, give, far);
        }
        return v;
    }
};

// A state led through segments of a sequence one after the other: from `start` to what follows segment
// `stop` - step, with what selective_scan_ends.cu found of each. rate: A log2(e). ends and steps stand at
// this state and channel of segment 0; `apart` channels lie between segments.
__device__ __forceinline__ float through(float start, float rate, const float* ends, const float* steps,
                                         int from, int stop, int step, i64 apart, int states) {
    for (int s = from; s != stop; s += step)
        start = exp2_fast(rate * steps[s * apart]) * start + ends[s * apart * states];
    return start;
}
