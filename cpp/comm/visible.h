// visible.h: the collectives of ranks that see one another's memory: threads of a process, processes with common
// memory. A rank shows its data piece by piece, meets the others, sees that all make the same call, and reads theirs.
#pragma once
#include "call.h"
#include "fold.h"

namespace thalweg {

class Visible : public Communicator {
 public:
  void barrier() final;
  void all_reduce(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) final;
  void reduce_scatter(std::byte* data, int64_t elements, int64_t element_bytes, const Merge& merge) final;
  void all_gather(const std::byte* mine, int64_t elements, int64_t element_bytes, std::byte* all) final;
  void broadcast(std::byte* data, int64_t elements, int64_t element_bytes, int root) final;
  std::shared_ptr<Communicator> split(int color, int key) final;
  std::vector<std::string> flight() const final { return flight_.lines(); }

 protected:
  // Waits until all ranks of the group have come. `opens`: throws Lost when one never will; else all but those that
  // died are bound to come.
  virtual void meet(bool opens) = 0;
  virtual Call& call(int r) = 0;
  virtual int member(int r) const = 0;  // rank r's name: its rank in the world
  // Lets the others see this piece of data from the next meeting on; of pieces k and k + 1 both stay.
  virtual void show(const std::byte* data, int64_t bytes, int64_t piece) = 0;
  virtual const std::byte* shown(int r, int64_t piece) const = 0;
  virtual std::byte* own(int64_t piece) = 0;                          // what this rank shows, to put results in
  virtual bool sees(const std::byte* data, int64_t bytes) const = 0;  // whether the others see it where it is
  virtual int64_t window() const = 0;                                 // bytes that a piece of other data can have
  // The group of `members` (ranks of this group), me among them; made by all of them at a time.
  virtual std::shared_ptr<Communicator> join(int color, const std::vector<int>& members, int me) = 0;

 private:
  struct Piece {
    int64_t k, begin, count;
  };
  void open(const Call& call);
  void enter(const Call& call, int64_t piece);
  template <class Body>
  void each_piece(const Call& call, int64_t elements, int64_t element_bytes, const Body& body);
  Call call_of(Operation operation, const std::byte* data, int64_t elements, int64_t element_bytes, int root = 0) const;
  void gather(const Call& call, const std::byte* mine, std::byte* all);
  void reduce_gathered(const Call& call, std::byte* data, const Merge& merge);
  void fold_shown(const Piece& p, int64_t begin, int64_t end, int64_t element_bytes, const Merge& merge,
                  std::byte* out);
  void take_shares(std::byte* data, const Piece& p, int64_t element_bytes);
  std::byte* whole(int64_t bytes);

  Folder folder_;
  Flight flight_;
  std::vector<std::byte> whole_;
};

}  // namespace thalweg
