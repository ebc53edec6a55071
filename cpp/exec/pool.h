// pool.h: the only compute threads. Work is cut into tasks by shape alone; a pool only decides who runs which task,
// so results never depend on the number of threads. Workers wait by a brief spin, then sleep.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace thalweg {

// Scratch memory that a kernel may use while it runs. One block for each (worker, slot), grown when needed, kept for
// life. Callers that nest use different slots. Shared ones are one block for all workers (see Exec::scratch).
enum class Slot : uint8_t { a_pack, b_pack, tile, local, shared, shared_pack, kCount };

class Pool {
 public:
  using Task = void (*)(void* self, int64_t task, int worker);
  virtual ~Pool() = default;
  virtual int threads() const = 0;
  // Runs task(self, 0..tasks-1), each once; worker w gets one contiguous run of them. Rethrows the first exception.
  // `threads` caps how many workers share the tasks; the caller is worker 0.
  virtual void run(int64_t tasks, Task task, void* self, int threads) = 0;
  static constexpr int kAll = -1;                                       // the owner of what all workers share
  virtual std::byte* scratch(int owner, Slot slot, int64_t bytes) = 0;  // 64-byte aligned, contents undefined
};

std::unique_ptr<Pool> make_pool(int threads);  // threads >= 1, counting the caller

}  // namespace thalweg
