"""The constants of mpi_abi.h are those of the headers of the MPI libraries that are there; others are skipped."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).resolve().parents[2]
NO_CXX = ("-DOMPI_SKIP_MPICXX", "-DMPICH_SKIP_MPICXX")  # old classes, which would need the library
HEADERS = {"OpenMpiAbi": ("mpi.h", "OPEN_MPI"), "MpichAbi": ("mpi.h", "MPICH_NAME"), "StandardAbi": ("mpi_abi.h", "")}
CHECK = """
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <{header}>
#include "{root}/cpp/comm/mpi_abi.h"
using Abi = thalweg::{abi};
static_assert(sizeof(MPI_Comm) == sizeof(Abi::Handle) && sizeof(MPI_Request) == sizeof(Abi::Handle));
static_assert(sizeof(MPI_Datatype) == sizeof(Abi::Handle));
static_assert(std::is_pointer_v<MPI_Comm> == std::is_pointer_v<Abi::Handle>);
static_assert(MPI_SUCCESS == 0);
static_assert(sizeof(MPI_Status) <= thalweg::kStatusBytes);
#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
int main() {{
  if ((intptr_t)MPI_STATUS_IGNORE != Abi::kStatusIgnore) return 1;
  if (Abi::kByteSymbol != nullptr) return std::strstr(TEXT_OF(MPI_BYTE), Abi::kByteSymbol) == nullptr;
  return (intptr_t)({byte}) != Abi::kByte;
}}
"""


def folder_of(header, word):
    """An include folder whose header is of this interface."""
    places = [Path(sys.executable).parent.parent / "include", Path(sys.prefix) / "include"]
    places += [Path(p) for p in os.environ.get("CPATH", "").split(":") if p]
    places += [
        Path("/usr/include/mpi"),
        *Path("/usr/lib").glob("*/openmpi/include"),
        *Path("/usr/include").glob("*/mpi*"),
    ]
    for place in places:
        if (place / header).exists() and word in (place / header).read_text(errors="replace"):
            return place
    pytest.skip(f"no {header} of this interface is installed")


@pytest.mark.parametrize("abi", HEADERS)
def test_constants_are_those_of_the_header(abi, tmp_path):
    header, word = HEADERS[abi]
    place = folder_of(header, word)
    compiler = shutil.which("g++") or pytest.skip("no g++")
    source = tmp_path / "check.cpp"
    byte = "0" if abi == "OpenMpiAbi" else "MPI_BYTE"  # an address of the library, which is not linked here
    source.write_text(CHECK.format(header=header, root=ROOT, abi=abi, byte=byte))
    built = subprocess.run(
        [compiler, "-std=c++20", *NO_CXX, f"-I{place}", "-o", tmp_path / "check", source],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert subprocess.run([tmp_path / "check"], timeout=20, check=False).returncode == 0


STAND_IN = """
int MPI_Isend() { return 0; }
int MPI_Irecv() { return 0; }
int MPI_Test() { return 0; }
int MPI_Cancel() { return 0; }
int MPI_Test_cancelled() { return 0; }
int MPI_Comm_rank(int comm, int* rank) { *rank = 0; return comm != 7; }
int MPI_Comm_size(int comm, int* size) { *size = 1; return comm != 7; }
"""
SEARCH = """
import ctypes, sys
from thalweg import _core
def make(handle_bytes):
    try:
        return _core.make_mpi(7, handle_bytes).size
    except ValueError as error:
        return str(error)
before = make(4)
library = ctypes.CDLL(sys.argv[1])
print(before, make(4), make(8), sep="|")
"""


def test_a_library_is_found_under_the_name_of_a_distribution(tmp_path):
    """Debian's MPICH is libmpich.so.12, Cray's has the name of a compiler in it."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "mpi.c").write_text(STAND_IN)
    library = tmp_path / "libmpi_of_a_distribution.so.12"
    command = [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "mpi.c"]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, library], capture_output=True, text=True, timeout=60, check=True
    )
    before, four, eight = done.stdout.strip().split("|")
    assert "no MPI library with handles of 4 bytes is loaded" in before
    assert four == "1"
    assert "no MPI library with handles of 8 bytes is loaded" in eight
