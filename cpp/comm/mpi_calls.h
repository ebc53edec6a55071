// mpi_calls.h: the few functions of MPI that collectives need, of whichever MPI library this process has loaded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace thalweg {

struct MpiRequest {
  uint64_t bits = 0;  // a handle of any interface fits
};

class MpiCalls {
 public:
  virtual ~MpiCalls() = default;
  virtual const char* abi() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual MpiRequest send(const std::byte* data, int bytes, int to, int tag) = 0;
  virtual MpiRequest receive(std::byte* data, int bytes, int from, int tag) = 0;
  virtual bool test(MpiRequest& request) = 0;    // whether it is done; it is given back then
  virtual void cancel(MpiRequest& request) = 0;  // of a receive
  // The same as test() once it is cancelled; taken_back: no message has come to it, and none will.
  virtual bool test_cancelled(MpiRequest& request, bool& taken_back) = 0;
};

// The calls on a communicator that mpi4py owns, by its handle. Throws ValueError where no MPI library is loaded, or
// none that has such handles.
std::unique_ptr<MpiCalls> load_mpi(uint64_t handle, int handle_bytes);

}  // namespace thalweg
