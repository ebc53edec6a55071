#include "device.h"

namespace thalweg {

std::string device_name() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "the search for a device");
  if (count == 0) throw std::runtime_error("[cuda] no device");
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, 0), "the properties of device 0");
  return text(p.name, ", compute capability ", p.major, ".", p.minor, ", ", p.multiProcessorCount, " multiprocessors");
}

}  // namespace thalweg
