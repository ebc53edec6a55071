// planes.h: the planes of a host buffer of n elements, one after the other in the memory of the device.
#pragma once
#include "../../cpp/tensor/buffer.h"
#include "../../cpp/tensor/type.h"
#include "device.h"

namespace thalweg {

struct Planes {
  Number number;
  int64_t n;

  int64_t plane_bytes() const { return n * bytes_of(dtype_of(number)); }
  int64_t planes() const { return is_dual(number) ? 2 : 1; }
  Buffer on_device(const DeviceMemory& m) const { return {m.data(), is_dual(number) ? n : 0}; }
  DeviceMemory make() const { return DeviceMemory(planes() * plane_bytes()); }
  DeviceMemory send(Buffer host) const {
    DeviceMemory m = make();
    for (int64_t k = 0; k < planes(); k++) m.copy_from(plane(host, k), plane_bytes(), k * plane_bytes());
    return m;
  }
  void fetch(const DeviceMemory& m, Buffer host) const {
    for (int64_t k = 0; k < planes(); k++) m.copy_to(plane(host, k), plane_bytes(), k * plane_bytes());
  }

 private:
  std::byte* plane(Buffer host, int64_t k) const { return host.data + k * host.plane * bytes_of(dtype_of(number)); }
};

}  // namespace thalweg
