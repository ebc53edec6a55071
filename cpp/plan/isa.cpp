#include "isa.h"

#include <sched.h>

#include <cstdlib>
#include <thread>

#include "../ops/kernels.h"
#include "library.h"

namespace thalweg {
namespace {

bool processor_has(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma");
  if (isa == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == "generic";
}

std::filesystem::path library(const std::string& isa) { return own_folder() / ("_kernels_" + isa + ".so"); }

}  // namespace

std::vector<std::string> supported_isas() {
  std::vector<std::string> found;
  for (const char* isa : {"avx512", "avx2", "generic"})
    if (processor_has(isa) && std::filesystem::exists(library(isa))) found.push_back(isa);
  return found;
}

std::string chosen_isa() {
  const auto all = supported_isas();
  if (all.empty()) throw std::runtime_error(text("no kernel library in ", own_folder().string()));
  const char* forced = std::getenv("THALWEG_ISA");
  if (!forced || !*forced) return all.front();
  std::string list;
  for (auto& isa : all) {
    if (isa == forced) return isa;
    list += (list.empty() ? "" : ", ") + isa;
  }
  fail("THALWEG_ISA=", forced, " cannot run here; choose one of ", list);
}

int usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return int(std::max(1u, std::thread::hardware_concurrency()));
}

const Kernels& kernels() {
  static const auto* chosen = static_cast<const Kernels*>(open_door(library(chosen_isa()), "thalweg_kernels"));
  return *chosen;
}

}  // namespace thalweg
