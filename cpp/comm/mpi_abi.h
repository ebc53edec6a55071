// mpi_abi.h: the constants of the three binary interfaces that MPI libraries have. No MPI is needed to compile this:
// the functions are found at run time, in the library of this name or, where a distribution has named it otherwise, in
// any that is loaded. tests/comm/test_mpi_abi.py holds the constants against the headers.
#pragma once
#include <cstdint>

namespace thalweg {

inline constexpr int kStatusBytes = 128;  // the status of a message is smaller in all of them

struct OpenMpiAbi {  // Open MPI 1.7 to 5; handles are addresses of objects of the library
  using Handle = void*;
  static constexpr const char* kName = "Open MPI";
  static constexpr const char* kLibrary = "libmpi.so.40";
  static constexpr const char* kByteSymbol = "ompi_mpi_byte";
  static constexpr intptr_t kByte = 0;
  static constexpr intptr_t kStatusIgnore = 0;
};

struct MpichAbi {  // MPICH from 3.1 on, Intel MPI, MVAPICH, Cray; handles are numbers
  using Handle = int;
  static constexpr const char* kName = "MPICH";
  static constexpr const char* kLibrary = "libmpi.so.12";
  static constexpr const char* kByteSymbol = nullptr;
  static constexpr intptr_t kByte = 0x4c00010d;
  static constexpr intptr_t kStatusIgnore = 1;
};

struct StandardAbi {  // MPI 5.0
  using Handle = void*;
  static constexpr const char* kName = "MPI 5 standard ABI";
  static constexpr const char* kLibrary = "libmpi_abi.so.1";
  static constexpr const char* kByteSymbol = nullptr;
  static constexpr intptr_t kByte = 0x247;
  static constexpr intptr_t kStatusIgnore = 0;
};

}  // namespace thalweg
