// cuda.cu: the one door of the CUDA plug-in.
#include "../../cpp/ops/cuda.h"
#include "../../cpp/ops/formulas.h"
#include "../exec/planes.h"
#include "../optim/update.h"

namespace thalweg {
namespace {

bool formula_by_name(const std::string& name, Number number, std::span<const Buffer> in, Buffer out, int64_t n) {
  static const std::vector<Formula> parts[] = {math_formulas(), train_formulas(), scalar_formulas()};
  const Formula* found = find_formula(parts, name, in.size());
  if (!found) return false;
  const Planes planes{number, n};
  std::vector<DeviceMemory> memory;
  std::vector<Buffer> arguments;
  for (const Buffer& b : in) {
    memory.push_back(planes.send(b));
    arguments.push_back(planes.on_device(memory.back()));
  }
  const DeviceMemory result = planes.make();
  found->run(number, arguments, planes.on_device(result), n);
  planes.fetch(result, out);
  return true;
}

void update_arenas(DType t, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
                   std::byte* w, const std::byte* g, std::byte* state, int64_t stride) {
  const Number number = number_of(t, false);
  const Planes one{number, stride}, kept{number, u.rule.states(u.has_momentum) * stride};
  const DeviceMemory w_there = one.send({w}), g_there = one.send({const_cast<std::byte*>(g)}),
                     s_there = kept.send({state});
  update_on_device(t, u, rates, segments, w_there.data(), g_there.data(), s_there.data(), stride);
  one.fetch(w_there, {w});
  kept.fetch(s_there, {state});
}

}  // namespace
}  // namespace thalweg

extern "C" __attribute__((visibility("default"))) const thalweg::Cuda* thalweg_cuda() {
  static const thalweg::Cuda door{thalweg::device_name, thalweg::formula_by_name, thalweg::update_arenas};
  return &door;
}
