#include "node_memory.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <system_error>
#include <thread>

#include "../tensor/error.h"
#include "cut.h"

namespace thalweg {
namespace {

int64_t round_up(int64_t n) { return (n + 4095) / 4096 * 4096; }

// Offsets of the parts, each on a page of its own.
struct Parts {
  int64_t ranks, groups, streams, desks, heaps, bytes;
  explicit Parts(int64_t size) {
    ranks = round_up(sizeof(Head));
    groups = ranks + round_up(size * int64_t(sizeof(RankRecord)));
    streams = groups + round_up(kGroups * int64_t(sizeof(GroupRecord)));
    desks = streams + round_up(size * size * int64_t(sizeof(Stream)));
    heaps = desks + size * int64_t(sizeof(Desk));
    bytes = heaps + size * kHeapBytes;
  }
};

[[noreturn]] void system_failure(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), text("[shm] ", what));
}

struct flock byte_lock(int r, short type) {
  struct flock l{};
  l.l_type = type;
  l.l_whence = SEEK_SET;
  l.l_start = r;
  l.l_len = 1;
  return l;
}

}  // namespace

std::shared_ptr<NodeMemory> NodeMemory::create(int size, int first) {
  if (size < 1 || size > kMostProcesses)
    fail("[shm] ", size, " ranks on one machine, expected 1 to ", kMostProcesses, ": more need MPI");
  const int fd = memfd_create("thalweg", MFD_CLOEXEC);
  if (fd < 0) system_failure(errno, "the shared memory can't be made");
  if (ftruncate(fd, Parts(size).bytes) != 0) {
    const int error = errno;
    close(fd);
    system_failure(error, "the shared memory can't be made");
  }
  return std::shared_ptr<NodeMemory>(new NodeMemory(fd, size, first));
}

std::shared_ptr<NodeMemory> NodeMemory::open(int fd, int size, int first) {
  struct stat found{};
  if (size < 1 || size > kMostProcesses || fstat(fd, &found) != 0 || found.st_size != Parts(size).bytes)
    fail("[shm] file descriptor ", fd, " is not the shared memory of ", size,
         " ranks: it must be passed on to the rank's process, with the variables THALWEG_*");
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return std::shared_ptr<NodeMemory>(new NodeMemory(fd, size, first));
}

NodeMemory::NodeMemory(int fd, int size, int first) : fd_(fd), size_(size), first_(first), bytes_(Parts(size).bytes) {
  void* at = mmap(nullptr, size_t(bytes_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    close(fd);
    system_failure(error, text("the shared memory of ", size, " ranks can't be mapped, which takes ", bytes_ >> 30,
                               " GiB of addresses (ulimit -v; memory only once it is used)"));
  }
  base_ = static_cast<std::byte*>(at);
}

NodeMemory::~NodeMemory() {
  if (base_) munmap(base_, size_t(bytes_));
  close(fd_);
}

RankRecord& NodeMemory::rank(int r) const { return reinterpret_cast<RankRecord*>(base_ + Parts(size_).ranks)[r]; }
GroupRecord& NodeMemory::group(int g) const { return reinterpret_cast<GroupRecord*>(base_ + Parts(size_).groups)[g]; }
Stream& NodeMemory::stream(int from, int to) const {
  return reinterpret_cast<Stream*>(base_ + Parts(size_).streams)[from * size_ + to];
}
int64_t NodeMemory::first_desk(int r) const { return Parts(size_).desks + r * int64_t(sizeof(Desk)); }

std::byte* NodeMemory::heap(int r) const { return base_ + Parts(size_).heaps + r * kHeapBytes; }

void NodeMemory::drop(int64_t place, int64_t bytes) {
  fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, place, bytes);
}

void NodeMemory::lock(int r) {
  struct flock l = byte_lock(r, F_WRLCK);
  if (fcntl(fd_, F_SETLK, &l) != 0) fail("[shm] rank ", name(r), " runs already, in another process");
}

bool NodeMemory::is_alive(int r) const {
  if (rank(r).pid.load(std::memory_order_relaxed) == getpid()) return true;  // a process doesn't see its own locks
  struct flock l = byte_lock(r, F_WRLCK);
  return fcntl(fd_, F_GETLK, &l) != 0 || l.l_type != F_UNLCK;
}

bool NodeMemory::read(int r, const std::byte* lent, std::byte* to, int64_t bytes) const {
  const auto place = reinterpret_cast<intptr_t>(lent) - reinterpret_cast<intptr_t>(rank(r).base);
  if (place >= 0 && place < bytes_) {
    std::memcpy(to, at(place), size_t(bytes));
    return true;
  }
  const pid_t pid = rank(r).pid.load(std::memory_order_relaxed);
  for (int64_t at = 0; at < bytes;) {  // a call copies 2 GiB at most
    const iovec here{to + at, size_t(bytes - at)}, there{const_cast<std::byte*>(lent) + at, size_t(bytes - at)};
    const ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (n <= 0) return false;
    at += n;
  }
  return true;
}

void NodeMemory::end(const std::string& why) {
  Head& h = head();
  uint32_t no = 0;
  if (!h.ended.compare_exchange_strong(no, 1)) return;
  const size_t n = cut(why, sizeof(h.why) - 1);
  std::memcpy(h.why, why.data(), n);
  h.why[n] = 0;
  h.ended.store(2, std::memory_order_release);
  ring_all();
}

std::string NodeMemory::why() const {
  for (int i = 0; i < 100 && head().ended.load(std::memory_order_acquire) == 1; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // its writer may have been killed: not for ever
  return head().ended.load(std::memory_order_acquire) == 2 ? head().why : "the ranks were ended";
}

// The change, then the look at `asleep`; the sleeper does it the other way round, so one of them sees the other.
void NodeMemory::ring(int r) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  RankRecord& to = rank(r);
  if (to.asleep.load(std::memory_order_relaxed) == kAwake) return;
  to.bell.fetch_add(1, std::memory_order_seq_cst);
  syscall(SYS_futex, &to.bell, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void NodeMemory::ring_all() {
  for (int r = 0; r < size_; r++) ring(r);
}

void NodeMemory::sleep(int r, uint32_t heard, double seconds) {
  const timespec t{time_t(seconds), long(std::fmod(seconds, 1) * 1e9)};
  syscall(SYS_futex, &rank(r).bell, FUTEX_WAIT, heard, &t, nullptr, 0);
}

}  // namespace thalweg
