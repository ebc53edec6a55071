// self.cpp: the communicator of one rank: every collective is an identity.
#include <cstring>

#include "communicator.h"

namespace thalweg {
namespace {

class Self final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void perform(const Ask& a, const Merge&) override {
    if (a.operation == Operation::send || a.operation == Operation::recv) throw Lost("there is no other rank");
    if (a.operation == Operation::all_gather) std::memcpy(a.all, a.data, size_t(a.elements * a.element_bytes));
  }
  uint64_t start(const Ask& a, Merge merge, std::shared_ptr<void>) override { return perform(a, merge), 0; }
  bool poll() override { return true; }
  void finish(uint64_t) override {}
  bool is_finished(uint64_t) const override { return true; }
  std::shared_ptr<Communicator> split(int, int) override { return make_self(); }
  void leave() override {}
  void abort(const std::string&) override {}
  double seconds_waiting() const override { return 0; }
};

}  // namespace

std::shared_ptr<Communicator> make_self() { return std::make_shared<Self>(); }

}  // namespace thalweg
