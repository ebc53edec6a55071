// update.cu: each segment of the arenas in one loop, by the functors that the CPU's pass runs.
#include "../../cpp/optim/rules.h"
#include "../exec/for_each.h"
#include "update.h"

namespace thalweg {
namespace {

template <class T>
void update_segment(const Update& u, const Rates& r, const Segment& s, T* w, const T* g, T* state, int64_t stride) {
  const Place<T> to{w + s.begin, state ? state + s.begin : nullptr, state ? state + stride + s.begin : nullptr};
  with_formula<T>(u, r, [&](auto formula) {
    for_each(s.end - s.begin,
             UpdateElement<T, decltype(formula)>{to, g + s.begin, gradient_rates<T>(u, r, s), formula});
  });
}

}  // namespace

void update_on_device(DType t, const Update& u, std::span<const Rates> rates, std::span<const Segment> segments,
                      std::byte* w, const std::byte* g, std::byte* state, int64_t stride) {
  auto run = [&]<class T>(T) {
    for (const Segment& s : segments)
      update_segment<T>(u, rates[size_t(s.group)], s, reinterpret_cast<T*>(w), reinterpret_cast<const T*>(g),
                        reinterpret_cast<T*>(state), stride);
  };
  t == DType::f32 ? run(float{}) : run(double{});
}

}  // namespace thalweg
