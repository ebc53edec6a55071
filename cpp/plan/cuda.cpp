#include "cuda.h"

#include <dlfcn.h>

#include "../tensor/error.h"
#include "library.h"

namespace thalweg {
namespace {

const Cuda& open() {
  const auto library = own_folder() / "_cuda.so";
  if (!std::filesystem::exists(library))
    throw std::runtime_error(text("[cuda] no plug-in ", library.string(), ": built with -DTHALWEG_CUDA=ON"));
  if (!dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) throw std::runtime_error(text("[cuda] no driver: ", dlerror()));
  const auto& plug_in = *static_cast<const Cuda*>(open_door(library, "thalweg_cuda"));
  plug_in.device();
  return plug_in;
}

}  // namespace

const Cuda& cuda() {
  static const Cuda& opened = open();
  return opened;
}

}  // namespace thalweg
