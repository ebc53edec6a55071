#include <cstdlib>

#include "../tensor/error.h"
#include "communicator.h"

namespace thalweg {
namespace {

constexpr const char* kOverlaps[] = {"off", "nodes", "thread"};

Communicator::Overlap named(const std::string& name, const char* where) {
  for (int k = 0; k < int(std::size(kOverlaps)); k++)
    if (name == kOverlaps[k]) return Communicator::Overlap(k);
  fail(where, name, " is none, expected off, nodes or thread");
}

}  // namespace

const char* name(Communicator::Overlap overlap) { return kOverlaps[int(overlap)]; }

Communicator::Overlap parse_overlap(const std::string& name) { return named(name, "[overlap] "); }

Communicator::Communicator() {
  const char* wanted = std::getenv("THALWEG_OVERLAP");
  overlap_is_given_ = wanted && *wanted;
  if (overlap_is_given_) overlap_ = named(wanted, "[overlap] THALWEG_OVERLAP: ");
}

}  // namespace thalweg
