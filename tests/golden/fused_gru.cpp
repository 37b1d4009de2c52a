// The element-wise half of a GRU step, for recbole_ranks.py: what torch does in ten small operations a step, in one pass.
// The equations and the order of the gates (r, z, n) are torch's, without biases:
//   r = sigmoid(xr + hr)   z = sigmoid(xz + hz)   n = tanh(xn + r * hn)   h' = (h - n) * z + n
#include <cmath>
#include <cstdint>

namespace {
inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
}  // namespace

// x: [rows, 3H] input half of the gates   g: [rows, 3H] hidden half   h: [rows, H] state before
// out: [rows, H] state after              kept: [rows, 4H] r, z, n, hn for the way back
extern "C" void gru_step(int64_t rows, int64_t H, const float* __restrict x, const float* __restrict g,
                         const float* __restrict h, float* __restrict out, float* __restrict kept) {
  for (int64_t i = 0; i < rows; ++i, x += 3 * H, g += 3 * H, h += H, out += H, kept += 4 * H) {
    for (int64_t j = 0; j < H; ++j) {
      const float r = sigmoid(x[j] + g[j]);
      const float z = sigmoid(x[H + j] + g[H + j]);
      const float n = std::tanh(x[2 * H + j] + r * g[2 * H + j]);
      out[j] = (h[j] - n) * z + n;
      kept[j] = r;
      kept[H + j] = z;
      kept[2 * H + j] = n;
      kept[3 * H + j] = g[2 * H + j];
    }
  }
}

// dh: [rows, H] gradient of the state after, in; the part that goes straight to the state before, out
// dx, dg: [rows, 3H] gradients of the two halves of the gates
extern "C" void gru_step_back(int64_t rows, int64_t H, const float* __restrict kept, const float* __restrict h,
                              float* __restrict dh, float* __restrict dx, float* __restrict dg) {
  for (int64_t i = 0; i < rows; ++i, kept += 4 * H, h += H, dh += H, dx += 3 * H, dg += 3 * H) {
    for (int64_t j = 0; j < H; ++j) {
      const float r = kept[j], z = kept[H + j], n = kept[2 * H + j], hn = kept[3 * H + j];
      const float dn = dh[j] * (1.0f - z) * (1.0f - n * n);
      const float dz = dh[j] * (h[j] - n) * z * (1.0f - z);
      const float dr = dn * hn * r * (1.0f - r);
      dx[j] = dg[j] = dr;
      dx[H + j] = dg[H + j] = dz;
      dx[2 * H + j] = dn;
      dg[2 * H + j] = dn * r;
      dh[j] *= z;
    }
  }
}
