#include "mpi_calls.h"

#include <dlfcn.h>
#include <link.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "../tensor/error.h"
#include "mpi_abi.h"

namespace thalweg {
namespace {

template <class Abi>
class Calls final : public MpiCalls {
  using Handle = typename Abi::Handle;
  static_assert(sizeof(Handle) <= sizeof(MpiRequest));

 public:
  Calls(void* library, uint64_t handle) : library_(library) {
    std::memcpy(&comm_, &handle, sizeof comm_);
    if constexpr (Abi::kByteSymbol != nullptr) byte_ = dlsym(library, Abi::kByteSymbol);
    else byte_ = Handle(Abi::kByte);
    find(isend_, "MPI_Isend");
    find(irecv_, "MPI_Irecv");
    find(test_, "MPI_Test");
    find(cancel_, "MPI_Cancel");
    find(test_cancelled_, "MPI_Test_cancelled");
    int (*rank)(Handle, int*) = nullptr;
    int (*size)(Handle, int*) = nullptr;
    find(rank, "MPI_Comm_rank");
    find(size, "MPI_Comm_size");
    check(rank(comm_, &rank_), "MPI_Comm_rank");
    check(size(comm_, &size_), "MPI_Comm_size");
  }

  const char* abi() const override { return Abi::kName; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  MpiRequest send(const std::byte* data, int bytes, int to, int tag) override {
    Handle request{};
    check(isend_(data, bytes, byte_, to, tag, comm_, &request), "MPI_Isend");
    return packed(request);
  }
  MpiRequest receive(std::byte* data, int bytes, int from, int tag) override {
    Handle request{};
    check(irecv_(data, bytes, byte_, from, tag, comm_, &request), "MPI_Irecv");
    return packed(request);
  }
  bool test(MpiRequest& request) override { return test(request, reinterpret_cast<void*>(Abi::kStatusIgnore)); }
  void cancel(MpiRequest& request) override {
    Handle handle = unpacked(request);
    check(cancel_(&handle), "MPI_Cancel");
  }
  bool test_cancelled(MpiRequest& request, bool& taken_back) override {
    alignas(8) std::byte status[kStatusBytes];
    int cancelled = 0;
    if (!test(request, status)) return false;
    check(test_cancelled_(status, &cancelled), "MPI_Test_cancelled");
    taken_back = cancelled != 0;
    return true;
  }

 private:
  bool test(MpiRequest& request, void* status) {
    Handle handle = unpacked(request);
    int done = 0;
    check(test_(&handle, &done, status), "MPI_Test");
    request = packed(handle);
    return done != 0;
  }
  template <class Function>
  void find(Function& f, const char* symbol) {
    f = reinterpret_cast<Function>(dlsym(library_, symbol));
    if (!f) throw std::runtime_error(text("[mpi] the library of ", Abi::kName, " has no function ", symbol));
  }
  static void check(int error, const char* call) {
    if (error) throw std::runtime_error(text("[mpi] ", call, " failed with error ", error));
  }
  static MpiRequest packed(Handle handle) {
    MpiRequest request;
    std::memcpy(&request.bits, &handle, sizeof handle);
    return request;
  }
  static Handle unpacked(const MpiRequest& request) {
    Handle handle;
    std::memcpy(&handle, &request.bits, sizeof handle);
    return handle;
  }

  void* library_;
  Handle comm_{}, byte_{};
  int rank_ = 0, size_ = 1;
  int (*isend_)(const void*, int, Handle, int, int, Handle, Handle*) = nullptr;
  int (*irecv_)(void*, int, Handle, int, int, Handle, Handle*) = nullptr;
  int (*test_)(Handle*, int*, void*) = nullptr;
  int (*cancel_)(Handle*) = nullptr;
  int (*test_cancelled_)(const void*, int*) = nullptr;
};

void* library_named(const char* name) { return dlopen(name, RTLD_NOW | RTLD_NOLOAD); }

// The first of the loaded ones that has this symbol, itself or in a library that it needs; null if none has.
void* library_with(const char* symbol) {
  std::vector<std::string> names;
  const auto note = [](dl_phdr_info* info, size_t, void* all) {
    if (info->dlpi_name && *info->dlpi_name) static_cast<std::vector<std::string>*>(all)->emplace_back(info->dlpi_name);
    return 0;
  };
  dl_iterate_phdr(note, &names);
  for (const std::string& name : names) {
    void* library = library_named(name.c_str());
    if (library && dlsym(library, symbol)) return library;
  }
  return nullptr;
}

// mark: a symbol that the libraries of this interface have, and others with handles of this size have not.
template <class Abi>
std::unique_ptr<MpiCalls> loaded(uint64_t handle, int handle_bytes, const char* mark) {
  if (handle_bytes != int(sizeof(typename Abi::Handle))) return nullptr;
  void* library = library_named(Abi::kLibrary);
  if (!library && mark) library = library_with(mark);
  return library ? std::make_unique<Calls<Abi>>(library, handle) : nullptr;
}

}  // namespace

std::unique_ptr<MpiCalls> load_mpi(uint64_t handle, int handle_bytes) {
  if (auto found = loaded<StandardAbi>(handle, handle_bytes, nullptr)) return found;
  if (auto found = loaded<OpenMpiAbi>(handle, handle_bytes, OpenMpiAbi::kByteSymbol)) return found;
  if (auto found = loaded<MpichAbi>(handle, handle_bytes, "MPI_Isend")) return found;
  if (auto found = loaded<StandardAbi>(handle, handle_bytes, "MPI_Abi_get_version")) return found;
  fail("[mpi] no MPI library with handles of ", handle_bytes, " bytes is loaded; known are ", StandardAbi::kLibrary,
       ", ", OpenMpiAbi::kLibrary, " and ", MpichAbi::kLibrary, ", also under other names");
}

}  // namespace thalweg
