// squares_check.cpp: 3x3 convolutions in squares of outputs (conv_winograd.h) beside scalar references, as
// products_check.cpp: odd sizes, channels that leave a rest, units, panels, leaves, rounds and ranges of d_w, blocks of
// K, groups, wide padding, uneven shards, what follows. Prints one hash over all results. Run by test_products.py.
#include "convs_check.h"

using namespace thalweg;

namespace {

void check_sizes(const Exec& one, const Exec& two) {
  for (int64_t c : {16, 17, 32, 40, 70})
    for (int64_t out : {16, 31, 33, 64}) {
      Conv v = same_conv(pick(1, 4), pick(4, 9), c, out, 3);
      v.w = pick(4, 12), v.pad_top = pick(0, 2), v.pad_left = pick(0, 3), v.pad_right = pick(0, 2);
      check_both<float>(one, two, v);
    }
  for (int64_t pad : {4, 7}) {  // squares that lie outside
    Conv v = same_conv(2, 5, 16, 18, 3);
    v.pad_top = pad, v.pad_right = pad - 1, v.pad_left = 0;
    check_conv<float>(one, two, v);
  }
  check_conv<float>(one, two, same_conv(2, 41, 16, 20, 3));  // bands of an image; several leaves of it
  check_conv<float>(one, two, same_conv(45, 6, 24, 16, 3));  // several images a unit
  check_conv<float>(one, two, same_conv(2, 6, 300, 40, 3));  // blocks of K
  Conv v = same_conv(16, 7, 36, 54, 3);
  v.groups = 2;
  check_conv<float>(one, two, v);
  for (int64_t total : {1, 8, 16}) check_backward_weight<float>(one, two, v, total);
}

// Several rounds and ranges of outputs; shards that don't divide by the threads; more images than a leaf.
void check_weights(const Exec& one, const Exec& two, const Exec& eight) {
  check_backward_weight<float>(one, two, same_conv(32, 7, 160, 70, 3), 32);
  check_backward_weight<float>(one, two, same_conv(32, 8, 128, 129, 3), 32);
  check_backward_weight<float>(one, two, same_conv(3, 9, 300, 120, 3), 1);
  for (int64_t total : {1, 2, 4}) check_backward_weight<float>(one, eight, same_conv(9, 9, 20, 90, 3), total);
  for (int64_t n : {13, 15, 24, 31}) check_backward_weight<float>(one, eight, same_conv(n, 8, 17, 33, 3), 8);
  check_conv_ranks<float>(one, same_conv(8, 12, 40, 18, 3), 8);
  check_conv_ranks<float>(one, same_conv(15, 6, 40, 18, 3),
                          8);  // the second rank alone has shards that are large enough
  check_conv_ranks<float>(one, same_conv(13, 12, 18, 20, 3), 8);  // uneven ones
}

// Every element of y and d_x is followed once, when it is whole.
void check_follows(const Exec& exec, const Conv& v) {
  const ConvSizes size(v);
  const auto x = values<float>(size.x), w = values<float>(size.w), d_y = values<float>(size.y);
  auto y = d_y, d_x = x;
  Followed y_once(size.y), x_once(size.x);
  conv_forward<float>(exec, v, x.data(), w.data(), nullptr, y.data(), false, y_once.follow());
  conv_backward_input<float>(exec, v, d_y.data(), w.data(), d_x.data(), false, x_once.follow());
  CHECK(y_once.once() && x_once.once(), "follow %s", text_of(v).c_str());
}

}  // namespace

int main() {
  const auto pool1 = make_pool(1), pool2 = make_pool(2), pool8 = make_pool(8);
  const Exec one{*pool1}, two{*pool2}, eight{*pool8};
  check_sizes(one, two);
  check_sizes(one, eight);
  check_weights(one, two, eight);
  for (const Exec* exec : {&one, &two, &eight})
    for (int64_t n : {1, 3, 40})
      for (int64_t size : {5, 8, 23}) check_follows(*exec, same_conv(n, size, 17, 33, 3));
  std::printf("%016lx\n", (unsigned long)hash);
  if (failures) std::fprintf(stderr, "%d checks failed\n", failures);
  return failures != 0;
}
