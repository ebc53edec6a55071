// plan_shared.cpp: the update that ranks share. Each has the sums of its own stripes of the gradients; it updates these
// parameters and copies the others from the ranks that did. The norm's blocks are shared in the same way. Elements are
// updated one by one and blocks are whole, so the bits are those of the update of all by one.
#include <chrono>
#include <cstring>

#include "../optim/norm.h"
#include "plan.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

bool Plan::shares_update(const StepSettings& settings) const {
  return replica_.shared.stripes.length > 0 && settings.first && settings.last && settings.max_layer_norm == 0;
}

// Every block is one rank's; to the zeros of the others its sum is added without rounding.
double Plan::squares_of_stripes() {
  const int64_t n = layout_.parameter_elements, element = bytes_of(dtype_);
  Communicator& comm = *replica_.comm;
  squares_.assign(size_t((n + kSquaresBlock - 1) / kSquaresBlock), 0.0);
  program_.stripes().each(comm.rank(), comm.size(), n, [&](int64_t begin, int64_t end) {
    kernels().squares_of_blocks(replica_.exec(), dtype_, replica_.gradients.data() + begin * element, end - begin,
                                squares_.data() + begin / kSquaresBlock);
  });
  const auto start = Clock::now();
  comm.all_reduce(reinterpret_cast<std::byte*>(squares_.data()), int64_t(squares_.size()), sizeof(double),
                  [](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t count) {
                    kernels().merge_sums(DType::f64, into, from, 0, count);
                  });
  seconds_shared_ += since(start);
  return kernels().fold_blocks(squares_.data(), int64_t(squares_.size()));
}

// No rank changes its parameters again before all have copied them.
void Plan::take_parameters() {
  const auto start = Clock::now();
  const int64_t n = layout_.parameter_elements, element = bytes_of(dtype_);
  Communicator& comm = *replica_.comm;
  int64_t own = n;
  comm.barrier();
  for (int r = 0; r < comm.size(); r++) {
    if (r == comm.rank()) continue;
    program_.stripes().each(r, comm.size(), n, [&](int64_t begin, int64_t end) {
      const int64_t at = begin * element;
      own -= end - begin;
      std::memcpy(replica_.parameters.data() + at, replica_.shared.parameters[size_t(r)] + at,
                  size_t((end - begin) * element));
    });
  }
  comm.barrier();
  comm.count_sent(own * element * (comm.size() - 1));
  seconds_shared_ += since(start);
}

}  // namespace thalweg
