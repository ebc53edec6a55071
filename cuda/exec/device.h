// device.h: the GPU: whether there is one, its errors, its memory.
#pragma once
#include <cuda_runtime.h>

#include <string>
#include <utility>

#include "../../cpp/tensor/error.h"

namespace thalweg {

// Throws where a call of the CUDA runtime failed. what: what was tried.
inline void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess) throw std::runtime_error(text("[cuda] ", what, ": ", cudaGetErrorString(e)));
}

// A block of memory on the device, with copies from and to the host. Copies wait for the loops before them.
class DeviceMemory {
 public:
  explicit DeviceMemory(int64_t bytes) { check(cudaMalloc(&data_, size_t(bytes > 0 ? bytes : 1)), "memory"); }
  DeviceMemory(DeviceMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&&) = delete;
  ~DeviceMemory() { cudaFree(data_); }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  // `at`: the byte of this block where the copied ones begin.
  void copy_from(const std::byte* from, int64_t bytes, int64_t at = 0) {
    check(cudaMemcpy(data() + at, from, size_t(bytes), cudaMemcpyHostToDevice), "copy to the device");
  }
  void copy_to(std::byte* to, int64_t bytes, int64_t at = 0) const {
    check(cudaMemcpy(to, data() + at, size_t(bytes), cudaMemcpyDeviceToHost), "copy from the device");
  }

 private:
  void* data_ = nullptr;
};

std::string device_name();  // with its compute capability; throws where no device answers

}  // namespace thalweg
