// conv_taps_bf16.h: the form of conv_taps.h with bf16 operands, in the order of conv_bf16.h.
#pragma once
#include "conv_taps.h"
#include "pack_bf16.h"

namespace thalweg {

// Calls follow(block) for whole rows of outputs: they must lie one after the other.
void conv_taps_bf16(const Exec&, const TapConv&, const NumbersBf16& source, const float* weight, const float* bias,
                    const OutBf16& out, const Follow& follow);

double conv_ns_bf16(const TapConv&);  // estimated, on one thread

}  // namespace thalweg
