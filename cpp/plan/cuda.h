// cuda.h: the CUDA plug-in, opened where it is installed beside this library and a device answers.
#pragma once
#include "../ops/cuda.h"

namespace thalweg {

const Cuda& cuda();  // throws, with the reason, where there is none

}  // namespace thalweg
