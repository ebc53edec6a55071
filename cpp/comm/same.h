// same.h: what ranks tell one another beside their data: texts, and what must be the same on all of them.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "communicator.h"

namespace thalweg {

using Named = std::map<std::string, std::string>;

// The texts of all ranks, by rank; of each what fits into kMostText bytes.
inline constexpr int64_t kMostText = 1 << 20;
std::vector<std::string> gather_texts(Communicator& comm, const std::string& mine);

// Throws the same ValueError on every rank where their values differ: names what, where and the values. The ranks must
// name the same things.
void check_same(Communicator& comm, const std::string& where, const Named& values);

}  // namespace thalweg
