// letters.h: what ranks of one node send one another, through a stream of bytes from each to each other, in which the
// letters of all groups follow one another. A letter that is waited for goes right to its place. Where two ranks send
// to one another at a time, and read what is lent, the rest of a letter that finds no room is read where it lies: each
// copies once, what it gets. Else one copies into the stream while the other copies out of it.
#pragma once
#include <deque>
#include <map>
#include <span>

#include "node_memory.h"

namespace thalweg {

class Letters {
 private:
  struct Head {
    int64_t group, bytes, element_bytes;
  };

 public:
  Letters(std::shared_ptr<NodeMemory> memory, int rank)
      : memory_(std::move(memory)), rank_(rank), arriving_(size_t(memory_->size())), writing_(arriving_.size()) {}

  void lend() { lends_ = true; }  // from now on: all ranks read it

  // A letter on its way out. Who gives it up halfway ends all ranks: the stream is of no use then.
  class Writing {
   public:
    Writing(Letters& letters, int64_t group, const Call& c, const std::byte* data, int to)
        : letters_(letters), to_(to), head_{group, c.bytes(), c.element_bytes}, data_(data) {}
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;
    ~Writing();
    bool can_go_on() const;
    bool go_on();  // as far as there is room; whether all of it has gone

   private:
    int64_t left() const { return lent_ ? 0 : int64_t(sizeof head_) + head_.bytes - gone_; }
    bool is_over() const { return left() == 0 && !(lent_ && letters_.lent(to_)); }
    bool lends();
    std::span<const std::byte> next() const;

    Letters& letters_;
    const int to_;
    const Head head_;
    const std::byte* const data_;
    int64_t gone_ = 0;   // bytes of head and data
    bool lent_ = false;  // the rest
  };

  // Where the next letter from this rank is put if it is the one of this call; null: nowhere any more.
  void expect(int64_t group, int from, const Call& c, std::byte* data);
  // What has come and nobody has taken.
  std::deque<Letter>& box(int64_t group, int from) { return mail_[{group, from}]; }
  void forget(int64_t group) {
    std::erase_if(mail_, [group](const auto& box) { return box.first.first == group; });
  }
  bool has_new(int from) const;
  void take_in(int from);  // what it has written so far
  void take_in() {
    for (int from = 0; from < memory_->size(); from++) take_in(from);
  }

 private:
  // A letter of which a part has come.
  struct Arriving {
    Head head;
    int64_t came = 0;  // bytes of head and data
    Letter letter{};
    std::byte* place = nullptr;  // of its data
    bool is_lost = false;        // its rest could not be read: all ranks end
    bool is(int64_t group) const { return came >= int64_t(sizeof head) && head.group == group; }
    int64_t came_of_data() const { return came - int64_t(sizeof head); }
  };
  struct Expected {
    const Call* call;
    std::byte* data;
  };
  uint64_t room(int to) const;
  const std::byte* lent(int to) const { return memory_->stream(rank_, to).lent.load(std::memory_order_acquire); }
  bool comes(int from) const { return has_new(from) || arriving_[size_t(from)].came > 0; }  // a letter
  void take_lent(int from, const std::byte* rest);
  std::span<std::byte> place_of_next(Arriving& a) const;
  void came(int from, int64_t bytes);
  void place(Arriving& a, std::byte* data);  // null: where nobody expects it

  const std::shared_ptr<NodeMemory> memory_;
  const int rank_;
  bool lends_ = false;
  std::vector<Arriving> arriving_;                              // by sender
  std::vector<const Writing*> writing_;                         // by receiver: of which letter a part has gone
  std::map<std::pair<int64_t, int>, Expected> expected_;        // by group and sender
  std::map<std::pair<int64_t, int>, std::deque<Letter>> mail_;  // by group and sender
};

}  // namespace thalweg
