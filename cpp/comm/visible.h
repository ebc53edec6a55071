// visible.h: the collectives of ranks that see one another's memory: threads of a process, processes with common
// memory. A rank shows its data piece by piece, meets the others, sees that all make the same call, and reads theirs.
// There are two lanes, for calls that wait and for those that were started. What is shown in a call stays until all
// ranks of the group have come to the next but one of the same lane: a small call is one meeting. Where a rank's data
// themselves are shown, others write their shares of a sum into them.
#pragma once
#include "call.h"
#include "fold.h"
#include "going.h"

namespace thalweg {

// What ranks of other nodes add to a share of a sum, in the midst of it (nodes.h).
using Across = std::function<Going(std::byte* share, int64_t elements)>;

class Visible : public Communicator {
  friend class Nodes;

 public:
  explicit Visible(std::shared_ptr<Beside> beside) : started_(std::move(beside)) { set_overlap(overlap()); }
  void perform(const Ask& ask, const Merge& merge) final;
  uint64_t start(const Ask& ask, Merge merge, std::shared_ptr<void> keep) final;
  bool poll() final { return started_.poll(); }
  void finish(uint64_t ticket) final { started_.finish(ticket); }
  bool is_finished(uint64_t ticket) const final { return started_.is_finished(ticket); }
  std::shared_ptr<Communicator> split(int color, int key) final;
  void leave() final;
  std::vector<std::byte*> see(std::byte* mine, int64_t bytes) final;
  std::vector<std::string> flight() const final { return flight_.lines(); }
  void set_overlap(Overlap overlap) final {
    Communicator::set_overlap(overlap == Overlap::thread ? Overlap::nodes : overlap);
  }

 protected:
  struct Lane {
    int number;
    uint64_t calls = 0;  // so far
    Folder folder;
    std::vector<std::byte> all;
    int parity() const { return int(calls & 1); }
  };

  // Comes to the next meeting of the lane; returns which it is. `opens`: throws Lost where the ranks were ended.
  virtual uint64_t come(int lane, bool opens) = 0;
  virtual bool came(int lane, uint64_t meeting) const = 0;  // whether all have
  // Throws Lost when one never will; of a call that waits and is open, all but those that died are bound to come.
  virtual void wait_until_came(int lane, uint64_t meeting, bool opens) = 0;
  virtual void look_for(int lane, uint64_t meeting) = 0;  // throws Lost where not all will come, as far as is known
  virtual void withdraw(int lane, uint64_t meeting) = 0;  // this rank won't be there after all
  virtual Call& call(int lane, int parity, int r) = 0;
  virtual std::byte* small(int lane, int parity, int r) = 0;  // kSmallBytes that rank r shows
  virtual int member(int r) const = 0;                        // rank r's name: its rank in the world
  // Lets the others see this piece of data from the next meeting on, but for the bytes from `begin` to `end`, which
  // they don't need; of pieces k and k + 1 both stay.
  virtual void show(int lane, const std::byte* data, int64_t bytes, int64_t piece, const std::shared_ptr<void>& keep,
                    int64_t begin = 0, int64_t end = 0) = 0;
  virtual std::byte* shown(int lane, int r, int64_t piece) const = 0;
  virtual std::byte* own(int lane, int64_t piece) = 0;                // what this rank shows, to put results in
  virtual bool sees(const std::byte* data, int64_t bytes) const = 0;  // whether the others see it where it is
  virtual int64_t place_of(const std::byte* mine) const = 0;          // as other ranks can be told, and find it by at()
  virtual std::byte* at_place(int64_t place) const = 0;
  virtual int64_t window() const = 0;  // bytes that a piece of other data can have
  // Whether ranks read one another's data where they are, though they don't see them.
  virtual bool lends() const { return false; }
  virtual void read_lent(int /*lane*/, int /*r*/, std::byte* /*to*/, int64_t /*bytes*/) {}
  bool is_lent(const Call& c) const;
  virtual Going send_letter(Call c, const std::byte* data, int to) = 0;
  // Where the next letter from this rank is to lie; null: nowhere any more. Letters may ignore it.
  virtual void expect_letter(const Call&, std::byte*, int) {}
  virtual bool has_letter(int from) = 0;
  virtual void wait_for_letter(const Call& c, int from) = 0;  // as wait_until_came()
  virtual void look_for_letter(const Call& c, int from) = 0;
  virtual Letter take_letter(int from) = 0;
  virtual void return_letter(int from, Letter letter) = 0;
  // The group of `members` (ranks of this group), me among them; made by all of them at a time.
  virtual std::shared_ptr<Communicator> join(int color, const std::vector<int>& members, int me) = 0;
  virtual void left() = 0;
  virtual int last(int lane) const = 0;  // who came last to the newest meeting: it stays until all come to the next
  virtual void look() {}                 // throws Lost where a rank's process is gone
  void meet();                           // of calls that wait, all of which are in the same one
  const Call& called(int lane) { return call(lane, lanes_[lane].parity(), rank()); }  // by this rank, last

  Started started_;           // to be dropped before what a Meeting needs
  bool among_nodes_ = false;  // inside a call others wait for messages: only its opening waits for ranks that are late

 private:
  struct Piece {
    int64_t k, begin, count;
  };
  // A rank's coming to a meeting.
  class Meeting : public Awaited {
   public:
    Meeting(Visible& all, int lane, bool opens = false)
        : all_(all), lane_(lane), opens_(opens), meeting_(all.come(lane, opens)) {}
    Meeting(const Meeting&) = delete;
    Meeting& operator=(const Meeting&) = delete;
    ~Meeting() {
      if (!over_ && !ready()) all_.withdraw(lane_, meeting_);
    }
    bool ready() final { return all_.came(lane_, meeting_); }
    void wait() final { all_.wait_until_came(lane_, meeting_, opens_); }
    void look() final { all_.look_for(lane_, meeting_); }
    void result() { over_ = true; }

   protected:
    Visible& all_;
    const int lane_;

   private:
    const bool opens_;
    bool over_ = false;
    const uint64_t meeting_;
  };
  // The first one of a call: all see what the others call.
  class Opening final : public Meeting {
   public:
    Opening(Visible& all, const Lane& lane, uint64_t event)
        : Meeting(all, lane.number, true), parity_(lane.parity()), event_(event) {}
    void result();

   private:
    const int parity_;
    const uint64_t event_;
  };
  class Delivery final : public Awaited {
   public:
    Delivery(Visible& all, const Call& c, std::byte* data, int from) : all_(all), call_(c), from_(from) {
      all_.expect_letter(call_, data, from_);
    }
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;
    ~Delivery() { all_.expect_letter(call_, nullptr, from_); }
    bool ready() final { return all_.has_letter(from_); }
    void wait() final { all_.wait_for_letter(call_, from_); }
    void look() final { all_.look_for_letter(call_, from_); }
    Letter result() { return all_.take_letter(from_); }

   private:
    Visible& all_;
    const Call& call_;
    const int from_;
  };
  uint64_t begin(Lane& lane, const Call& c, const std::byte* data);
  Call call_of(const Ask& ask, bool started) const;
  Piece piece_of(const Call& c, int64_t elements, int64_t element_bytes, int64_t k) const;
  std::byte* memory(Lane& lane, int64_t bytes);

  using Keep = std::shared_ptr<void>;
  Going going(Lane& lane, const Ask& ask, const Merge& merge, const Keep& keep);
  // across: null where these are all ranks.
  Going reduce(Lane& lane, Call c, Ask ask, const Merge& merge, Keep keep, Across across = nullptr);
  Going reduce_pieces(Lane& lane, Call c, Ask ask, const Merge& merge, Keep keep, Across across);
  Going reduce_small(Lane& lane, Call c, std::byte* data, const Merge& merge, Across across);
  Going reduce_gathered(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep, Across across);
  Going scatter(Lane& lane, Call c, std::byte* data, const Merge& merge, Keep keep);
  Going gather(Lane& lane, Call c, const std::byte* mine, std::byte* all, Keep keep);
  Going spread(Lane& lane, Call c, std::byte* data, Keep keep);
  Going receive(Call c, std::byte* data, int from);
  Going open(Lane& lane, Call c);
  void fold_shown(Lane& lane, const Piece& p, const std::byte* mine, int64_t begin, int64_t end, int64_t element_bytes,
                  const Merge& merge, std::byte* out);
  void fold_stripe(Lane& lane, const Piece& p, const Ask& ask, int64_t begin, int64_t end, int64_t element_bytes,
                   const Merge& merge);
  void fold_everywhere(Lane& lane, const Piece& p, std::byte* mine, int64_t element_bytes, const Merge& merge);
  void copy_shown(const Lane& lane, int r, const Piece& p, const Call& c, std::byte* to);
  void take_shares(const Lane& lane, std::byte* data, const Piece& p, int64_t element_bytes);

  Lane lanes_[kLanes] = {{0, 0, {}, {}}, {1, 0, {}, {}}};
  Flight flight_;
};

}  // namespace thalweg
