#include "call.h"

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <sstream>

#include "../tensor/error.h"

namespace thalweg {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

std::string Call::name() const {
  static constexpr const char* kNames[] = {"barrier",   "all_reduce", "reduce_scatter", "all_gather",
                                           "broadcast", "send",       "recv",           "split"};
  return text(started ? "start_" : "", kNames[int(operation)]);
}

void check_letter(const Letter& letter, const Call& call, int rank) {
  if (letter.fits(call)) return;
  fail("[", call.name(), "] rank ", rank, " expects ", call.elements, " x ", call.element_bytes, " bytes from rank ",
       call.root, ", which sent ", letter.bytes / letter.element_bytes, " x ", letter.element_bytes, " bytes");
}

int64_t bytes_reduced(const Call& call, int r, int size, bool scattered) {
  const int64_t mine = share(call.elements, r + 1, size) - share(call.elements, r, size);
  const int64_t gathered = scattered ? 0 : mine * (size - 1);
  return (call.elements - mine + gathered) * call.element_bytes;
}

std::string Call::describe(bool with_context) const {
  std::string all = name();
  if (element_bytes) all += text(" of ", whole ? whole : elements, " x ", element_bytes, " bytes");
  if (in_place) all += " in shared memory";
  if (operation == Operation::broadcast) all += text(" from root ", root);
  if (operation == Operation::send) all += text(" to rank ", root);
  if (operation == Operation::recv) all += text(" from rank ", root);
  if (context.inside[0]) all += text(" as part of ", context.inside.data());
  if (with_context && context.rows >= 0)
    all += text(" (update ", context.update, ", batch of ", context.rows, " rows)");
  return all;
}

namespace {

// What ranks must do who make the same call, with arrays of which others see only some where they are.
std::string advice_on_places(int size, const std::function<const Call&(int)>& call,
                             const std::function<int(int)>& member) {
  int shared = -1, plain = -1;
  for (int r = size - 1; r >= 0; r--) {
    Call c = call(r);
    (c.in_place ? shared : plain) = r;
    c.in_place = call(0).in_place;
    if (!c.agrees(call(0))) return "";
  }
  if (shared < 0 || plain < 0) return "";
  return text("rank ", member(shared), " passes an array of comm.zeros, rank ", member(plain),
              " a plain one; all ranks must pass arrays of comm.zeros, or none");
}

}  // namespace

std::string disagreement(int size, const std::function<const Call&(int)>& call, const std::function<int(int)>& member) {
  constexpr int kNamed = 4;
  std::string others;
  int found = 0;
  bool contexts = false, insides = false;
  for (int r = 1; r < size; r++) {
    contexts |= !(call(r).context == call(0).context);
    insides |= call(r).context.inside != call(0).context.inside;
  }
  for (int r = 1; r < size; r++)
    if (!call(r).agrees(call(0)) && found++ < kNamed)
      others += text(", rank ", member(r), " calls ", call(r).describe(contexts));
  if (!found) return others;
  if (found > kNamed) others += text(", and ", found - kNamed, " more ranks differ");
  std::string advice = advice_on_places(size, call, member);
  if (advice.empty())
    advice = insides    ? "all ranks must call the same methods of their trainers, in callbacks too"
             : contexts ? "all ranks must train on the same batches"
                        : "all ranks must make the same call, with arrays of one length and dtype";
  return text("[", call(0).name(), "] rank ", member(0), " calls ", call(0).describe(contexts), others, ": ", advice);
}

uint64_t Flight::begins(const Call& call) {
  events_[count_ % kKept] = {call, now(), -1};
  return count_++;
}

void Flight::all_came(uint64_t event) {
  if (count_ > event + kKept) return;
  Event& e = events_[event % kKept];
  e.waited = now() - e.at;
}

std::vector<std::string> Flight::lines(const std::vector<std::pair<const Flight*, const char*>>& flights) {
  std::vector<std::pair<double, std::string>> found;
  for (auto& [flight, name] : flights)
    for (uint64_t k = flight->count_ > kKept ? flight->count_ - kKept : 0; k < flight->count_; k++) {
      const Event& e = flight->events_[k % kKept];
      std::ostringstream line;
      line << std::fixed << std::setprecision(3) << now() - e.at << " s ago: " << e.call.describe() << name << ", ";
      if (e.waited < 0) line << "not all ranks came";
      else line << "all came after " << std::setprecision(6) << e.waited << " s";
      found.emplace_back(e.at, line.str());
    }
  std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::vector<std::string> all;
  for (auto& [at, line] : found) all.push_back(std::move(line));
  return all;
}

}  // namespace thalweg
