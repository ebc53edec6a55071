// post.h: messages of one rank under MPI, whatever group it acts in: it waits for them with a limit, learns what others
// say of their end beside all data, and keeps what it sends until it has gone. One thread at a time uses it: whoever
// holds its mutex, which a wait lets go between two looks.
#pragma once
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "awake.h"
#include "communicator.h"
#include "mpi_calls.h"

namespace thalweg {

// A batch of messages under way, to or from memory that stays in place.
struct Messages {
  struct One {
    MpiRequest request;
    int peer;
    bool comes;  // to this rank
    bool cancelled = false;
  };
  std::vector<One> all;
  int last = -1;          // whose came last so far
  int taken_back = 0;     // of those that were cancelled
  bool promised = false;  // a rank that has left still goes on with them
};

class Post {
 public:
  struct Wait {
    std::string what;
    double limit;  // seconds
    const std::function<void()>* poll;
    std::function<void()> meanwhile = [] {};  // what else can go on
  };
  static constexpr int kLastGroup = 8000;  // tags are guaranteed up to 32767; a group takes three

  explicit Post(std::unique_ptr<MpiCalls> calls);
  int rank() const { return calls_->rank(); }
  int size() const { return calls_->size(); }
  void send(Messages& m, const std::byte* data, int64_t bytes, int to, int tag);
  void receive(Messages& m, std::byte* data, int64_t bytes, int from, int tag);
  bool progress(Messages& m);             // whether all are done
  void wait(Messages& m, const Wait& w);  // until all are done
  // Throws Lost where they won't be, or have been waited for too long.
  void look(const Messages& m, const Wait& w, double waited);
  // Of a call that won't be finished; `keep`: what they write to.
  void give_up(Messages& m, std::shared_ptr<void> keep, const Wait& w);
  std::mutex& mutex() { return mutex_; }
  void send_later(std::vector<std::byte> data, int to, int tag);  // returns at once
  void check() const;                                             // throws Lost where the ranks were ended
  bool has_ended() const { return ended_; }
  bool deliver() {  // goes on with what is sent later; whether none of it is left
    push();
    return outbox_.empty();
  }
  void hear() {  // the same, after a look at what others say
    listen();
    check();
  }
  // Says so and waits for the others to, as MPI_Finalize would, but hears of their failures.
  void leave(const Wait& w);
  void end(const std::string& why);

  int next_group = 1;  // that no group of this rank has had

 private:
  struct Word {  // what a rank says last, beside its data
    int32_t ends, rank;
    char why[1016];
  };
  struct Outgoing {
    std::vector<std::byte> data;
    Messages messages;
    std::shared_ptr<void> keep;
  };
  void say(const Word& word);
  void listen();
  bool all_left() const;
  void push();

  std::unique_ptr<MpiCalls> calls_;
  AwakeClock clock_;
  std::vector<double> left_;  // by rank: when it was heard to have left, negative while it is there
  std::vector<Word> words_;
  std::vector<Messages> hears_;  // the words under way, by rank
  bool ended_ = false;
  std::string why_;
  std::deque<Outgoing> outbox_, given_up_;
  std::mutex mutex_;
};

}  // namespace thalweg
