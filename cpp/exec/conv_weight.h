// conv_weight.h: the walk of d_w of a convolution, over tiles of d_w and images. K is pixels. A task is a range of
// tiles over a run of images. Images pass in groups that stay in L2; every tile keeps the stack of its tree from group
// to group. When d_w has few tiles, images are split into runs (aligned subtrees of a shard) with partial results of
// their own, which fold in the same tree at the end. What a tile is says the class Tiles (conv_weight_dense.h,
// _depth.h):
//   Number, kSlot                   its numbers, and how many of them a slot of its stack has
//   tiles()                         how many; neighbours read the same part of x
//   prepare(tiles, alone)           ranges have at most so many; there is one range alone
//   group, chunk, band              images that pass together; chains that a tile, and that all tiles pass at a time
//   x_first, x_step, y_step         whether A is x; how far apart pixels lie in x (depthwise: 1) and d_y
//   x_at(place, image, row), y_at(image, row)    where a row of outputs begins; the image is at `place` of a group
//                                   (depthwise, x_at is the number of the output pixel, for the tile to look up)
//   packed_count(), packed, pack(image)    d_y in another layout: numbers, memory, an image to there; not of split ones
//   halo_count()                    numbers of memory for copies of x
//   same_x(t, end)                  behind the tiles of [t, end) that one bring() serves
//   bring(band, begin, end, halo)   x for tiles [begin, end): where it is, to which x_at is added
//   ahead(band, next, last, tiles)  what tiles ask for meanwhile, as images [next, last) follow
//   run(tile, order, x, stack, ahead), put(tile, sum)
#pragma once
#include "../tensor/arena.h"
#include "conv.h"
#include "conv_taps.h"
#include "halo.h"
#include "matmul.h"

namespace thalweg {

inline constexpr int64_t kWholeImages = int64_t(1) << 40;  // chains of a band
inline constexpr int64_t kGroupBytes = 256 << 10;          // of x and d_y at a time

// Rows [begin, end) of the outputs of images that pass together.
struct WeightBand {
  int64_t image, images, begin, end;
  int64_t rows() const { return images * (end - begin); }
};

template <class Tiles>
class WeightWalk {
 public:
  using T = typename Tiles::Number;

  WeightWalk(const Conv& v, const Shards& shards, int threads, const Tiles& all)
      : v_(v), shards_(shards), tiles_(all), p_(v.out_h()), q_(v.out_w()) {
    chains_per_image_ = std::max<int64_t>(1, divide_up(p_ * q_, kKBlock));
    cut_tasks(threads);
    tiles_.prepare(divide_up(tiles(), ranges_), ranges_ == 1);
  }

  int64_t memory_bytes() const {
    return segment_bytes() + chain_bytes() + run_bytes() + image_bytes() +
           (split_ ? runs_ * tiles() * kSlot : tiles_.packed_count()) * int64_t(sizeof(T));
  }
  void prepare(std::byte* memory) {
    auto* segment = reinterpret_cast<KSegment*>(memory);
    auto* chain = reinterpret_cast<Chain*>(memory += segment_bytes());
    part_ = reinterpret_cast<Run*>(memory += chain_bytes());
    image_chain_ = reinterpret_cast<int64_t*>(memory += run_bytes());
    partial_ = reinterpret_cast<T*>(memory += image_bytes());
    tiles_.packed = partial_;
    const int64_t a_step = tiles_.x_first ? tiles_.x_step : tiles_.y_step;
    SumOrderWriter w(segment, chain, a_step, tiles_.x_step + tiles_.y_step - a_step, kKBlock);
    if (split_) write_split(w);
    else write_whole(w);
    order_ = w.order();
  }

  int64_t tiles() const { return tiles_.tiles(); }
  int64_t pack_items() const { return !split_ && tiles_.packed_count() > 0 ? v_.n : 0; }
  void pack(int64_t image) const { tiles_.pack(image); }
  int64_t tasks() const { return runs_ * ranges_; }
  int64_t stack_count() const { return order_.slots * kSlot * divide_up(tiles(), ranges_); }
  int64_t halo_count() const { return tiles_.halo_count(); }
  bool split() const { return split_; }

  void run(int64_t task, T* halo, T* stack) const {
    const Run& part = part_[task / ranges_];
    const int64_t range = task % ranges_, begin = range * tiles() / ranges_, end = (range + 1) * tiles() / ranges_;
    int64_t chain = part.chain;
    for (int64_t i = part.first; i < part.last || chain < part.last_chain; i += tiles_.group) {
      const int64_t next = std::min(part.last, i + tiles_.group);
      const int64_t last = next < part.last ? image_chain_[next] : part.last_chain;
      for (int64_t band_end; chain < last; chain = band_end) {
        band_end = std::min(last, chain + tiles_.band);
        const WeightBand band = band_at(i, next, chain, band_end);
        Ahead ahead = ranges_ == 1 ? tiles_.ahead(band, next, part.last, end - begin) : Ahead{};
        for (int64_t from = begin, to; from < end; from = to) {
          to = tiles_.same_x(from, end);
          const T* const x = tiles_.bring(band, from, to, halo);
          for (int64_t first = chain; first < band_end; first += tiles_.chunk)
            for (int64_t t = from; t < to; t++)
              tiles_.run(t, chains(first, std::min(band_end, first + tiles_.chunk)), x, stack_of(t - begin, stack),
                         ahead);
        }
      }
    }
    for (int64_t t = begin; t < end; t++) {
      if (split_) std::copy_n(stack_of(t - begin, stack), kSlot, partial(&part - part_, t));
      else tiles_.put(t, stack_of(t - begin, stack));
    }
  }
  // Partial results of one tile fold, runs within shards, then shards, and go to d_w.
  void merge(int64_t t, T* stack) const {
    int64_t run = 0;
    auto add = [&](int into, int from) {
      for (int64_t i = 0; i < kSlot; i++) stack[into * kSlot + i] += stack[from * kSlot + i];
    };
    fold_tree(
        shards_.count(),
        [&](int64_t s, int level) {
          const int64_t end = shard_runs(s) + run;
          fold_tree(
              end - run,
              [&](int64_t, int inner) { std::copy_n(partial(run++, t), kSlot, stack + (level + inner) * kSlot); },
              [&](int into, int from) { add(level + into, level + from); });
        },
        add);
    tiles_.put(t, stack);
  }
  int64_t merge_count() const { return (tree_slots(shards_.count()) + tree_slots(v_.n)) * kSlot; }

 private:
  static constexpr int64_t kSlot = Tiles::kSlot;
  static constexpr int64_t kFewTiles = 256;    // below, images are split
  static constexpr int64_t kTasks = 4;         // a thread, at least
  static constexpr int64_t kRangeTiles = 384;  // whose stacks lie about in L2
  struct Run {                                 // images [first, last), chains [chain, last_chain)
    int64_t first, last, chain, last_chain;
  };

  void cut_tasks(int threads) {
    split_ = tiles() < kFewTiles && v_.n > 1;
    if (split_) {
      while (v_.n / (2 * run_images_) >= kTasks * threads) run_images_ *= 2;
      runs_ = 0;
      for (int s = 0; s < shards_.count(); s++) runs_ += shard_runs(s);
    } else {
      ranges_ = std::min(tiles(), std::max(kTasks * threads, divide_up(tiles(), kRangeTiles)));
    }
  }
  WeightBand band_at(int64_t image, int64_t next, int64_t chain, int64_t last) const {
    if (tiles_.band == kWholeImages || image == next) return {image, next - image, 0, p_};
    auto pixel = [&](int64_t c) {  // empty shards have chains before and behind those of the image
      return std::min(p_ * q_, std::clamp<int64_t>(c - image_chain_[image], 0, chains_per_image_) * kKBlock);
    };
    const int64_t begin = pixel(chain) / q_, end = divide_up(pixel(last), q_);
    return {image, pixel(chain) < pixel(last), begin, end};
  }
  SumOrder chains(int64_t first, int64_t last) const { return {order_.segment, order_.chain + first, last - first}; }
  T* stack_of(int64_t tile, T* stack) const { return stack + tile * order_.slots * kSlot; }
  T* partial(int64_t run, int64_t tile) const { return partial_ + (run * tiles() + tile) * kSlot; }

  int64_t shard_images(int64_t s) const { return shards_.offset[s + 1] - shards_.offset[s]; }
  int64_t shard_runs(int64_t s) const { return std::max<int64_t>(1, divide_up(shard_images(s), run_images_)); }
  int64_t segment_bytes() const { return align_up((v_.n * (p_ + chains_per_image_) + 1) * int64_t(sizeof(KSegment))); }
  int64_t chain_bytes() const {
    return align_up((v_.n * chains_per_image_ + shards_.count()) * int64_t(sizeof(Chain)));
  }
  int64_t run_bytes() const { return align_up(runs_ * int64_t(sizeof(Run))); }
  int64_t image_bytes() const { return align_up((v_.n + 1) * int64_t(sizeof(int64_t))); }

  // One order: images fold in their shard, shards in the tree below.
  void write_whole(SumOrderWriter& w) {
    const int64_t shards = shards_.count();
    for (int64_t s = 0; s < shards; s++) {
      const int64_t images = shard_images(s);
      const int base = std::popcount(uint64_t(s));
      const int merges = s + 1 == shards ? base : std::countr_one(uint64_t(s));
      for (int64_t i = 0; i < images; i++)
        write_image(w, shards_.offset[s] + i, shards_.offset[s] + i, i, images, base, i + 1 == images ? merges : 0);
      if (images == 0) {
        w.begin_leaf(0, 1, base);
        w.also_merge(merges);
        w.end_leaf();
      }
    }
    part_[0] = {0, v_.n, 0, w.chains()};
  }
  // One order for each run of images.
  void write_split(SumOrderWriter& w) {
    Run* part = part_;
    for (int s = 0; s < shards_.count(); s++)
      for (int64_t r = 0; r < shard_runs(s); r++) {
        const int64_t first = shards_.offset[s] + r * run_images_;
        const int64_t last = std::min(shards_.offset[s + 1], first + run_images_), chain = w.chains();
        for (int64_t i = first; i < last; i++) write_image(w, i, i - first, i - first, last - first, 0, 0);
        if (first == last) w.begin_leaf(0, 1), w.end_leaf();
        *part++ = {first, last, chain, w.chains()};
      }
  }
  // Leaf i of `leaves` is an image; `place` counts images since the first group of the run.
  void write_image(SumOrderWriter& w, int64_t image, int64_t place, int64_t i, int64_t leaves, int base, int merges) {
    image_chain_[image] = w.chains();
    w.begin_leaf(i, leaves, base);
    w.also_merge(merges);
    for (int64_t p = 0; p < p_; p++) {
      const int64_t x = tiles_.x_at(place % tiles_.group, image, p), y = tiles_.y_at(image, p);
      w.add(tiles_.x_first ? x : y, tiles_.x_first ? y : x, q_);
    }
    w.end_leaf();
  }

  const Conv v_;
  const Shards& shards_;
  Tiles tiles_;
  bool split_ = false;
  int64_t p_, q_, chains_per_image_;
  int64_t run_images_ = 1, runs_ = 1, ranges_ = 1;
  Run* part_ = nullptr;
  int64_t* image_chain_ = nullptr;
  T* partial_ = nullptr;
  SumOrder order_;
};

}  // namespace thalweg
