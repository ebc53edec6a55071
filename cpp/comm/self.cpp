// self.cpp: the communicator of one rank: every collective is an identity.
#include <cstring>

#include "communicator.h"

namespace thalweg {
namespace {

class Self final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void barrier() override {}
  void all_reduce(std::byte*, int64_t, int64_t, const Merge&) override {}
  void reduce_scatter(std::byte*, int64_t, int64_t, const Merge&) override {}
  void all_gather(const std::byte* mine, int64_t bytes, std::byte* all) override { std::memcpy(all, mine, bytes); }
  void broadcast(std::byte*, int64_t, int) override {}
  void send(const std::byte*, int64_t, int to) override { throw Lost("rank 0 of 1 has no rank " + std::to_string(to)); }
  void recv(std::byte*, int64_t, int from) override { throw Lost("rank 0 of 1 has no rank " + std::to_string(from)); }
  std::unique_ptr<Communicator> split(int, int) override { return make_self(); }
  void abort(const std::string&) override {}
  double seconds_waiting() const override { return 0; }
};

}  // namespace

std::unique_ptr<Communicator> make_self() { return std::make_unique<Self>(); }

}  // namespace thalweg
