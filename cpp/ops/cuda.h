// cuda.h: the door of the CUDA plug-in: a shared object that the engine never links, opened at run time through the
// single symbol thalweg_cuda where a device answers (plan/cuda.h). Its sources stand in cuda/.
#pragma once
#include <span>
#include <string>

#include "../optim/update.h"

namespace thalweg {

struct Cuda {
  std::string (*device)();  // its name; throws where none answers
  // Kernels::formula and Kernels::update on the GPU. Memory is the host's.
  bool (*formula)(const std::string& name, Number, std::span<const Buffer> in, Buffer out, int64_t n);
  void (*update)(DType, const Update&, std::span<const Rates>, std::span<const Segment>, std::byte* w,
                 const std::byte* g, std::byte* state, int64_t stride);
};

}  // namespace thalweg

extern "C" const thalweg::Cuda* thalweg_cuda();
