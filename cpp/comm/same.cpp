#include "same.h"

#include <algorithm>

#include "../tensor/error.h"
#include "cut.h"

namespace thalweg {
namespace {

uint64_t hash_of(const std::string& value) {  // FNV-1a
  uint64_t h = 1469598103934665603ull;
  for (unsigned char c : value) h = (h ^ c) * 1099511628211ull;
  return h;
}

// At most kShown characters of a long text, from shortly before `at` on.
std::string excerpt(const std::string& value, size_t at) {
  constexpr size_t kShown = 60, kBefore = 20;
  if (value.size() <= kShown) return value;
  const size_t begin = cut(value, std::min(at < kBefore ? 0 : at - kBefore, value.size() - kShown));
  const size_t end = cut(value, begin + kShown);
  return text(begin ? "..." : "", value.substr(begin, end - begin), end < value.size() ? "..." : "");
}

// What ranks 0 and `other` have under one name, where the difference begins.
std::string difference(Communicator& comm, const std::string& name, const std::string& value, int other) {
  const std::vector<std::string> texts = gather_texts(comm, value);
  const std::string &a = texts[0], &b = texts[size_t(other)];
  const size_t at =
      size_t(std::mismatch(a.begin(), a.begin() + int64_t(std::min(a.size(), b.size())), b.begin()).first - a.begin());
  return text(name, " is ", excerpt(a, at), " on rank 0 and ", excerpt(b, at), " on rank ", other);
}

}  // namespace

std::vector<std::string> gather_texts(Communicator& comm, const std::string& mine) {
  const auto own = int64_t(cut(mine, size_t(kMostText)));
  std::vector<int64_t> bytes(size_t(comm.size()));
  comm.all_gather(reinterpret_cast<const std::byte*>(&own), 1, sizeof own, reinterpret_cast<std::byte*>(bytes.data()));
  const int64_t most = *std::max_element(bytes.begin(), bytes.end());
  std::vector<char> padded(size_t(most), 0), all(size_t(most * comm.size()));
  std::copy_n(mine.data(), own, padded.data());
  comm.all_gather(reinterpret_cast<const std::byte*>(padded.data()), most, 1, reinterpret_cast<std::byte*>(all.data()));
  std::vector<std::string> texts;
  for (int r = 0; r < comm.size(); r++) texts.emplace_back(all.data() + r * most, size_t(bytes[size_t(r)]));
  return texts;
}

void check_same(Communicator& comm, const std::string& where, const Named& values) {
  constexpr int kNamed = 4;
  const size_t n = values.size();
  std::vector<uint64_t> mine, all(n * size_t(comm.size()));
  for (auto& [name, value] : values) mine.push_back(hash_of(value));
  comm.all_gather(reinterpret_cast<const std::byte*>(mine.data()), int64_t(n), sizeof(uint64_t),
                  reinterpret_cast<std::byte*>(all.data()));
  std::string differences;
  size_t i = 0;
  int found = 0;
  for (auto& [name, value] : values) {
    int other = 0;
    for (int r = 1; r < comm.size() && !other; r++)
      if (all[size_t(r) * n + i] != all[i]) other = r;
    if (other && found++ < kNamed) differences += text(found > 1 ? "; " : "", difference(comm, name, value, other));
    i++;
  }
  if (found > kNamed) differences += text("; ", found - kNamed, " more differ");
  if (!differences.empty())
    throw ValueError(text("[", where, "] the ranks differ: ", differences, "; all ranks must run the same training"));
}

}  // namespace thalweg
