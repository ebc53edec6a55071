// conv_backward_weight.cpp: d_w from x and d_y: one walk (conv_weight.h) over the tiles of dense or depthwise ones.
#include "conv_weight_dense.h"
#include "conv_weight_depth.h"
#include "conv_winograd.h"

namespace thalweg {
namespace {

template <class Tiles>
void run_walk(const Exec& exec, const Conv& v, const Shards& shards, const Tiles& tiles) {
  using T = typename Tiles::Number;
  const double ns = conv_ns(v.flops(), sizeof(T) == 8);
  WeightWalk<Tiles> walk(v, shards, exec.threads_for(ns), tiles);
  walk.prepare(exec.scratch<std::byte>(0, Slot::shared_pack, walk.memory_bytes()));
  exec.parallel(walk.pack_items(), ns, [&](int64_t image, int) { walk.pack(image); });
  exec.parallel(walk.tasks(), ns, [&](int64_t task, int worker) {
    walk.run(task, exec.scratch<T>(worker, Slot::a_pack, walk.halo_count()),
             exec.scratch<T>(worker, Slot::tile, walk.stack_count()));
  });
  if (!walk.split()) return;
  exec.parallel(walk.tiles(), ns, [&](int64_t tile, int worker) {
    walk.merge(tile, exec.scratch<T>(worker, Slot::tile, walk.merge_count()));
  });
}

}  // namespace

template <class T>
void conv_backward_weight(const Exec& exec, const Conv& v, const Shards& shards, const T* x, const T* d_y, T* d_w,
                          bool accumulate) {
  if (v.out == 0 || v.c == 0) return;
  if constexpr (sizeof(T) == 4)
    if (conv_winograd_weight_fits(v, shards)) return conv_winograd_weight(exec, v, shards, x, d_y, d_w, accumulate);
  if (v.group_in() == 1 && v.group_out() == 1 && v.groups > 1)
    run_walk(exec, v, shards, DepthWeight<T>(v, x, d_y, d_w, accumulate));
  else run_walk(exec, v, shards, DenseWeight<T>(v, x, d_y, d_w, accumulate));
}
template void conv_backward_weight(const Exec&, const Conv&, const Shards&, const float*, const float*, float*, bool);
template void conv_backward_weight(const Exec&, const Conv&, const Shards&, const double*, const double*, double*,
                                   bool);

}  // namespace thalweg
