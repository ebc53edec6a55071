// onednn_none.cpp: stands in where oneDNN was not found.
#include "onednn.h"

namespace thalweg::bench {

bool have_onednn() { return false; }
Job onednn_matmul(const PeerMatmul&, int, const float*, const float*, float*) { return {}; }
Job onednn_matmul_bf16(const PeerMatmul&, int) { return {}; }
Job onednn_conv(const Conv&, ConvPart, int, bool) { return {}; }

}  // namespace thalweg::bench
