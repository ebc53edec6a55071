// update.h: cpp/optim/update.h on the GPU; w, g and state are in its memory.
#pragma once
#include "../../cpp/optim/update.h"

namespace thalweg {

void update_on_device(DType, const Update&, std::span<const Rates>, std::span<const Segment>, std::byte* w,
                      const std::byte* g, std::byte* state, int64_t stride);

}  // namespace thalweg
