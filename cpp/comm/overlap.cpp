#include <cstdlib>

#include "../tensor/error.h"
#include "communicator.h"

namespace thalweg {
namespace {

constexpr const char* kOverlaps[] = {"off", "nodes", "thread"};
constexpr const char* kVariable = "THALWEG_OVERLAP";

}  // namespace

const char* name(Communicator::Overlap overlap) { return kOverlaps[int(overlap)]; }

Communicator::Overlap parse_overlap(const std::string& name) {
  for (int k = 0; k < int(std::size(kOverlaps)); k++)
    if (name == kOverlaps[k]) return Communicator::Overlap(k);
  fail("[overlap] ", name, " is none, expected off, nodes or thread");
}

Communicator::Communicator() {
  const char* wanted = std::getenv(kVariable);
  overlap_is_given_ = wanted && *wanted;
  if (overlap_is_given_) overlap_ = parse_overlap(wanted);
}

}  // namespace thalweg
