#pragma once

__device__ __forceinline__ float silu(float x) { return x / (1.f + __expf(-x)); }
