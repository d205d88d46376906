// Writes down every argument as it arrived: out is (5,), one thread.
extern "C" __global__ void arguments(long long* out, const void* tensor, const void* none,
                                     long long whole, float real, long long negative) {
  out[0] = (long long)tensor;
  out[1] = (long long)none;
  out[2] = whole;
  out[3] = __float_as_int(real);
  out[4] = negative;
}
