// y = silu(scale x): an elementwise kernel for the tests of compiling and launching.
// x, y: (n,), y null: nothing is written. One thread an element, -DTYPE=float.
#include "common.cuh"

extern "C" __global__ void scaled_silu(const TYPE* x, TYPE* y, long long n, float scale) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n && y) y[i] = silu(scale * x[i]);
}
