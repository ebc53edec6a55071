// plan_shared.cpp: the update that ranks share. Each has the sums of its own stripes of the gradients; it updates these
// parameters and writes them to the other ranks as well. The norm's blocks are shared in the same way. Elements are
// updated one by one and blocks are whole, so the bits are those of the update of all by one.
#include <chrono>
#include <cstring>

#include "../optim/norm.h"
#include "plan.h"

namespace thalweg {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPart = 16384;  // elements of parameters, gradients and state together: in the second cache

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

bool Plan::shares_update(const StepSettings& settings) const {
  return replica_.shared.stripes.length > 0 && settings.first && settings.last && settings.max_layer_norm == 0;
}

// Several threads sum squares faster together, afterwards. Of a step that failed, sums may be there when the plan is
// not.
void Plan::exchange_stripes(bool shares) {
  if (!shares) return program_.exchange_stripes({});
  squares_.assign(size_t((layout_.parameter_elements + kSquaresBlock - 1) / kSquaresBlock), -1.0);
  Summed noted;
  if (replica_.pool->threads() == 1)
    noted = [self = self_](int64_t begin, int64_t end) {
      if (*self) (*self)->note_summed(begin, end);
    };
  program_.exchange_stripes(replica_.shared.stripes, std::move(noted));
}

void Plan::note_summed(int64_t begin, int64_t end) {
  const auto start = Clock::now();
  note_squares(begin, end);
  seconds_noted_ += since(start);
}

// Of the blocks that lie in [begin, end) as a whole.
void Plan::note_squares(int64_t begin, int64_t end) {
  const int64_t n = layout_.parameter_elements;
  const int64_t first = (begin + kSquaresBlock - 1) / kSquaresBlock * kSquaresBlock;
  const int64_t last = end < n ? end / kSquaresBlock * kSquaresBlock : n;
  if (first >= last) return;
  kernels().squares_of_blocks(replica_.exec(), dtype_, replica_.gradients.data() + first * bytes_of(dtype_),
                              last - first, squares_.data() + first / kSquaresBlock);
}

// Every block is one rank's; to the zeros of the others its sum is added without rounding. Most were noted when the
// gradients were summed, while these were in the cache.
double Plan::squares_of_stripes() {
  const int64_t n = layout_.parameter_elements;
  Communicator& comm = *replica_.comm;
  program_.stripes().each(comm.rank(), comm.size(), n, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin, next; at < end; at = std::max(next, at + kSquaresBlock)) {  // a run of them on all threads
      for (next = at; next < end && squares_[size_t(next / kSquaresBlock)] < 0;) next += kSquaresBlock;
      note_squares(at, std::min(next, end));
    }
  });
  for (double& s : squares_) s = std::max(s, 0.0);
  const auto start = Clock::now();
  comm.all_reduce(reinterpret_cast<std::byte*>(squares_.data()), int64_t(squares_.size()), sizeof(double),
                  [](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t count) {
                    kernels().merge_sums(DType::f64, into, from, 0, count);
                  });
  seconds_shared_ += since(start);
  return kernels().fold_blocks(squares_.data(), int64_t(squares_.size()));
}

// A part at a time, which the others are given while it is in the cache. They are past the norm, so none of them reads
// its parameters now.
void Plan::update_stripes(const Update& u, std::span<const Rates> rates) {
  const int64_t part = kPart * replica_.pool->threads();
  for (const Segment& s : replica_.shared.segments)
    for (int64_t begin = s.begin; begin < s.end; begin += part) {
      const Segment some{begin, std::min(s.end, begin + part), s.group, s.scale};
      kernels().update(replica_.exec(), dtype_, u, rates, {&some, 1}, replica_.parameters.data(),
                       replica_.gradients.data(), replica_.state.own(), layout_.parameter_elements);
      const auto start = Clock::now();
      give_parameters(some.begin, some.end);
      seconds_shared_ += since(start);
    }
  const auto start = Clock::now();
  Communicator& comm = *replica_.comm;
  comm.barrier();
  seconds_shared_ += since(start);
  const int64_t n = layout_.parameter_elements;
  program_.stripes().each(comm.rank(), comm.size(), n, [&](int64_t first, int64_t last) {
    comm.count_sent((last - first) * bytes_of(dtype_) * (comm.size() - 1));
  });
}

void Plan::give_parameters(int64_t begin, int64_t end) {
  const int64_t element = bytes_of(dtype_), tasks = (end - begin + kPart - 1) / kPart;
  const int me = replica_.comm->rank(), size = replica_.comm->size();
  replica_.exec().parallel(tasks, double(end - begin) * size, [&](int64_t task, int) {
    const int64_t first = begin + task * kPart, at = first * element;
    const size_t bytes = size_t((std::min(end, first + kPart) - first) * element);
    for (int r = 0; r < size; r++)
      if (r != me) std::memcpy(replica_.shared.parameters[size_t(r)] + at, replica_.parameters.data() + at, bytes);
  });
}

}  // namespace thalweg
