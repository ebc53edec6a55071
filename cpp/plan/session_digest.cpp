// session_digest.cpp: whether the ranks hold the same values: the digest that proves two runs equal, and the comparison
// that finds a rank whose memory has gone its own way.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "../tensor/error.h"
#include "session.h"

namespace thalweg {
namespace {

// FNV-1a over 8-byte words, in chains beside one another. A step of a chain maps states one to one and differs for any
// two words, so a change of one word always shows.
class Digest {
 public:
  Digest() {
    for (uint64_t k = 0; k < kChains; k++) chain_[k] = 1469598103934665603ull + k * 0x9E3779B97F4A7C15ull;
  }
  void add(const std::byte* p, int64_t bytes) {
    constexpr int64_t kBlock = 8 * kChains;
    int64_t i = 0;
    for (; i + kBlock <= bytes; i += kBlock)
      for (int k = 0; k < kChains; k++) mix(chain_[k], word(p + i + 8 * k, 8));
    for (int k = 0; i < bytes; i += 8, k++) mix(chain_[k], word(p + i, std::min<int64_t>(8, bytes - i)));
  }
  // Two numbers, from different beginnings.
  uint64_t folded(uint64_t begin) const {
    for (uint64_t c : chain_) mix(begin, c);
    return begin;
  }

 private:
  static constexpr int kChains = 8;  // so that a chain's latency is hidden
  static uint64_t word(const std::byte* p, int64_t bytes) {
    uint64_t w = 0;
    std::memcpy(&w, p, size_t(bytes));
    return w;
  }
  static void mix(uint64_t& state, uint64_t word) {
    state = (state ^ word) * 1099511628211ull;
    state ^= state >> 32;  // else the highest bits would never reach the others
  }
  uint64_t chain_[kChains];
};

std::string list(const std::vector<int>& ranks) {
  constexpr size_t kNamed = 8;
  std::string all = ranks.size() > 1 ? "ranks " : "rank ";
  for (size_t i = 0; i < std::min(kNamed, ranks.size()); i++)
    all += text(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  return ranks.size() > kNamed ? text(all, " and ", ranks.size() - kNamed, " more") : all;
}

// Who has another value than most: "rank 1 is not that of ranks 0, 2 and 3"; empty where all have the same.
std::string odd_ones(const std::vector<uint64_t>& values) {
  std::map<uint64_t, int> count;
  for (uint64_t v : values) count[v]++;
  if (count.size() == 1) return {};
  uint64_t usual = values[0];
  for (uint64_t v : values)
    if (count[v] > count[usual]) usual = v;
  std::vector<int> odd, same;
  for (size_t r = 0; r < values.size(); r++) (values[r] == usual ? same : odd).push_back(int(r));
  return text(list(odd), " is not that of ", list(same));
}

std::vector<uint64_t> gathered(Communicator& comm, const std::vector<uint64_t>& mine) {
  std::vector<uint64_t> all(mine.size() * size_t(comm.size()));
  comm.all_gather(reinterpret_cast<const std::byte*>(mine.data()), int64_t(mine.size()), sizeof(uint64_t),
                  reinterpret_cast<std::byte*>(all.data()));
  return all;
}

}  // namespace

struct Session::Digested {
  const char* part;
  int which;
  const std::string* name;
  Digest digest;
  std::string what() const {
    return which < 0 ? text(part, " '", *name, "'") : text(part, " ", which, " of '", *name, "'");
  }
};

// Of the parameters of one rank here, or of all its tensors.
std::vector<Session::Digested> Session::digests(int here, bool all) const {
  const Replica& r = *replicas_[size_t(here)];
  const int64_t element = bytes_of(config_.dtype), parameters = layout().parameter_elements;
  std::vector<Digested> found;
  auto add = [&](const char* part, int which, const Layout::Entry& e, const std::byte* arena) {
    found.push_back({part, which, &e.name, {}});
    found.back().digest.add(arena + e.offset * element, e.shape.size() * element);
  };
  for (auto& e : layout().parameters) add("parameter", -1, e, r.parameters.data());
  if (!all) return found;
  for (auto& e : layout().buffers) add("buffer", -1, e, r.buffers.data());
  for (int k = 0; k < states(); k++)
    for (auto& e : layout().parameters) add("optimizer state", k, e, r.state.data() + k * parameters * element);
  return found;
}

// What the ranks don't have in common. theirs: what every rank has for each tensor.
std::string Session::differences(const std::vector<Digested>& tensors, const std::vector<uint64_t>& theirs) const {
  constexpr int kNamed = 4;
  const size_t n = tensors.size();
  std::vector<uint64_t> one(theirs.size() / n);
  std::string named;
  int found = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t r = 0; r < one.size(); r++) one[r] = theirs[r * n + i];
    const std::string odd = odd_ones(one);
    if (!odd.empty() && found++ < kNamed) named += text(found > 1 ? "; " : "", tensors[i].what(), " of ", odd);
  }
  return found > kNamed ? text(named, "; ", found - kNamed, " more differ") : named;
}

// Throws the same ReplicasDiffer on every rank where the ranks hold different values.
void Session::check_replicas(bool all) {
  if (config_.world == 1) return;
  run_ranks([&](int here) {
    Communicator& comm = *replicas_[size_t(here)]->comm;
    const std::vector<Digested> tensors = digests(here, all);
    std::vector<uint64_t> mine;
    for (const Digested& d : tensors) mine.push_back(d.digest.folded(0));
    Digest whole;
    whole.add(reinterpret_cast<const std::byte*>(mine.data()), int64_t(mine.size() * sizeof(uint64_t)));
    if (odd_ones(gathered(comm, {whole.folded(0)})).empty()) return;
    throw ReplicasDiffer(text("the ranks differ after update ", t.load(), ": ",
                              differences(tensors, gathered(comm, mine)),
                              ": unless a script changed it on some ranks only, memory or a processor is faulty; go on "
                              "from the last checkpoint"));
  });
}

std::string Session::digest() {
  check_replicas(true);
  Digest all;
  for (const Digested& d : digests(0, true)) {
    const uint64_t both[] = {d.digest.folded(0), d.digest.folded(1)};
    all.add(reinterpret_cast<const std::byte*>(both), sizeof both);
  }
  char s[33];
  std::snprintf(s, sizeof s, "%016llx%016llx", static_cast<unsigned long long>(all.folded(0)),
                static_cast<unsigned long long>(all.folded(1)));
  return s;
}

}  // namespace thalweg
