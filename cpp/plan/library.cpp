#include "library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "../tensor/error.h"

namespace thalweg {

std::filesystem::path own_folder() {
  if (const char* named = std::getenv("THALWEG_KERNELS")) return named;
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&own_folder), &info);
  return std::filesystem::absolute(info.dli_fname).parent_path();
}

const void* open_door(const std::filesystem::path& library, const char* symbol) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(text("cannot open ", library.string(), ": ", dlerror()));
  auto door = reinterpret_cast<const void* (*)()>(dlsym(handle, symbol));
  if (!door) throw std::runtime_error(text(library.string(), " has no ", symbol));
  return door();
}

}  // namespace thalweg
