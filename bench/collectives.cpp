// collectives.cpp: every collective between ranks that are threads, or processes of this machine, in both of its forms:
// called, and started and finished at once.
//   collectives [--ranks 2] [--processes] [names ...]      (default: all; "letter" goes from rank 0 to 1 and back)
// Every rank has just written its array, as a step writes its gradients; "shared" are arrays that processes take from
// the memory that all of them see. Columns: microseconds a call, GB/s of payload (of a letter both ways), and how many
// times as long a copy of the payload by one thread takes, in the same rounds.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "comm/node_memory.h"
#include "comm/shm.h"
#include "memory.h"
#include "ops/kernels.h"

using namespace thalweg;
using namespace thalweg::bench;

namespace {

constexpr int kRounds = 7;
constexpr int64_t kSizes[] = {1 << 10, 64 << 10, 1 << 20, 16 << 20, 100 << 20};

const Merge kSums = [](std::byte* into, Ranks, const std::byte* from, Ranks, int64_t n) {
  kernels().merge_sums(DType::f32, into, from, 0, n);
};

struct Array {
  const char* name;
  std::byte* data;
};

struct Options {
  int ranks = 2;
  bool processes = false;
  std::vector<std::string> names;
  bool wants(const std::string& name) const {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
  }
};

// What one rank calls, one after the other.
std::vector<Ask> asks(const std::string& name, int rank, std::byte* data, int64_t bytes, std::byte* all) {
  const auto ask = [&](Operation operation, int peer = 0) { return Ask{operation, data, bytes / 4, 4, peer, all}; };
  if (name == "all_reduce") return {ask(Operation::all_reduce)};
  if (name == "reduce_scatter") return {ask(Operation::reduce_scatter)};
  if (name == "all_gather") return {ask(Operation::all_gather)};
  if (name == "broadcast") return {ask(Operation::broadcast)};
  if (name == "barrier") return {{Operation::barrier}};
  if (rank == 0) return {ask(Operation::send, 1), ask(Operation::recv, 1)};
  if (rank == 1) return {ask(Operation::recv, 0), ask(Operation::send, 0)};
  return {};
}

// The array is written, all ranks meet; returns the seconds of this rank's part.
double timed(Communicator& comm, const Array& array, int64_t bytes, const Job& job) {
  std::fill_n(reinterpret_cast<float*>(array.data), bytes / 4, 1.0f);
  comm.barrier();
  const double start = now();
  job();
  return now() - start;
}

// Rounds of all contenders in turn; the last one is the copy.
void compare(Communicator& comm, const std::string& name, int64_t bytes, const std::vector<Array>& arrays,
             std::byte* all) {
  std::vector<Job> jobs;
  std::vector<std::string> labels;
  for (const Array& array : arrays)
    for (const bool started : {false, true}) {
      labels.push_back(std::string(array.name) + (started ? ", started" : ""));
      jobs.push_back([&comm, started, calls = asks(name, comm.rank(), array.data, bytes, all)] {
        for (const Ask& ask : calls)
          if (started) comm.finish(comm.start(ask, kSums));
          else comm.perform(ask, kSums);
      });
    }
  const int ways = name == "letter" ? 2 : 1;
  jobs.push_back([&] {
    for (int k = 0; k < ways && comm.rank() == 0; k++) std::memcpy(all, arrays[0].data, size_t(bytes));
  });
  const int calls = int(std::clamp<int64_t>((2 << 20) / bytes, 1, 200));
  Race race{std::vector<std::vector<double>>(jobs.size())};
  for (int round = -1; round < kRounds; round++)  // the first one is not counted
    for (size_t j = 0; j < jobs.size(); j++) {
      double seconds = 0;
      for (int k = 0; k < calls; k++)
        seconds += timed(comm, arrays[std::min(j / 2, arrays.size() - 1)], bytes, jobs[j]);
      if (round >= 0) race.seconds[j].push_back(seconds / calls);
    }
  if (comm.rank()) return;
  for (size_t j = 0; j < labels.size(); j++) {
    const double t = race.time(j);
    std::printf("%-14s %11ld bytes  %-15s %10.2f us", name.c_str(), long(bytes), labels[j].c_str(), t * 1e6);
    if (name != "barrier")
      std::printf("  %7.2f GB/s  %6.2f x a copy", double(ways * bytes) / t / 1e9, race.speedup(jobs.size() - 1, j));
    std::printf("\n");
  }
  std::fflush(stdout);
}

void work(Communicator& comm, const Options& options) {
  const int64_t most = kSizes[std::size(kSizes) - 1];
  Arena own(most), all(most * comm.size());
  const auto shared = comm.take(most);
  std::vector<Array> arrays{{"", own.data()}};
  if (shared) arrays.push_back({"shared", shared.get()});
  for (const char* name : {"all_reduce", "reduce_scatter", "all_gather", "broadcast", "barrier", "letter"})
    for (const int64_t bytes : kSizes)
      if (options.wants(name) && (name != std::string("barrier") || bytes == kSizes[0]))
        compare(comm, name, bytes, arrays, all.data());
  comm.barrier();
  comm.leave();
}

void run_threads(const Options& options) {
  const auto comms = make_threads(options.ranks);
  std::vector<std::thread> others;
  for (int r = 1; r < options.ranks; r++) others.emplace_back([&, r] { work(*comms[size_t(r)], options); });
  work(*comms[0], options);
  for (std::thread& t : others) t.join();
}

void run_processes(const Options& options) {
  const auto memory = NodeMemory::create(options.ranks);
  const std::function<void()> nothing = [] {};
  int rank = 0;
  for (int r = 1; r < options.ranks && rank == 0; r++)
    if (fork() == 0) rank = r;
  work(*make_shm(memory, rank, 60, nothing), options);
  if (rank) std::_Exit(0);
  while (wait(nullptr) > 0) {}
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string word = argv[i];
    if (word == "--ranks" && i + 1 < argc) options.ranks = std::max(2, std::atoi(argv[++i]));
    else if (word == "--processes") options.processes = true;
    else options.names.push_back(word);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  std::printf("%d ranks, %s\n", options.ranks, options.processes ? "processes" : "threads");
  std::fflush(stdout);
  if (options.processes) run_processes(options);
  else run_threads(options);
}
