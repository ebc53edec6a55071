"""A receive under MPI that is given up at any moment of its letter leaves the letter its sender's next.

By a stand-in for the library, rank 0 of 2, whose messages come when this file says so.
"""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(120)
STAND_IN = """
#include <string.h>
enum { NONE = 0x2c000000, IGNORE = 1 };
struct Place { char* to; int tag, done, cancelled; } place[64];
int begins;  // the next message begins when its receive is cancelled, and does not end
struct Message { char data[1024]; int bytes, tag; } waiting[8], late[8];
static int places, waits, lates;
static int match(const struct Message* m) {
  for (int i = 0; i < places; i++)
    if (!place[i].done && place[i].tag == m->tag) {
      memcpy(place[i].to, m->data, m->bytes);
      return place[i].done = 1;
    }
  return 0;
}
static struct Message message(const void* data, int bytes, int tag) {
  struct Message m = {.bytes = bytes, .tag = tag};
  memcpy(m.data, data, bytes);
  return m;
}
void comes(const void* data, int bytes, int tag) {
  struct Message m = message(data, bytes, tag);
  if (!match(&m)) waiting[waits++] = m;
}
void comes_late(const void* data, int bytes, int tag) { late[lates++] = message(data, bytes, tag); }
int MPI_Isend(const void* p, int n, int type, int to, int tag, int comm, int* request) { return *request = NONE, 0; }
int MPI_Irecv(void* to, int n, int type, int from, int tag, int comm, int* request) {
  place[places] = (struct Place){to, tag, 0, 0};
  *request = places++;
  for (int i = 0; i < waits; i++)
    if (waiting[i].tag == tag && match(&waiting[i])) {
      memmove(waiting + i, waiting + i + 1, (--waits - i) * sizeof *waiting);
      break;
    }
  return 0;
}
int MPI_Cancel(int* request) {  // what comes late has met it already
  struct Place* p = place + *request;
  if (!p->done && lates > 0 && late[0].tag == p->tag) {
    match(late);
    memmove(late, late + 1, --lates * sizeof *late);
  }
  if (!p->done && !begins) p->done = p->cancelled = 1;
  return 0;
}
int MPI_Test(int* request, int* done, int* status) {
  *done = *request == NONE || place[*request].done;
  if (*done && status != (int*)IGNORE) *status = place[*request].cancelled;
  if (*done) *request = NONE;
  return 0;
}
int MPI_Test_cancelled(const int* status, int* cancelled) { return *cancelled = *status, 0; }
int MPI_Comm_rank(int comm, int* rank) { return *rank = 0; }
int MPI_Comm_size(int comm, int* size) { return *size = 2, 0; }
"""
START = """
import ctypes, os, signal, sys, threading
import numpy as np
library = ctypes.CDLL(sys.argv[1])
from thalweg import _core
comm = _core.make_mpi(7, 4)
comm.limit = 10.0
sent, got, LETTERS = np.arange(8, dtype="f4"), np.zeros(8, "f4"), 3
def post(call, array): getattr(library, call)(array.ctypes.data_as(ctypes.c_void_p), array.nbytes, LETTERS)
def head(array): return np.array([array.nbytes, array.itemsize])
def interrupted(array):
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        comm.recv(array, 1)
    except KeyboardInterrupt:
        return
    raise SystemExit("nothing was interrupted")
def refused(error, call, *arguments):
    try:
        call(*arguments)
    except error as why:
        print(why, flush=True)
"""
NEXT = """
got[:] = -1
print("next", (comm.recv(got, 1) == sent).all(), flush=True)
post("comes", head(sent)); post("comes", sent + 1)
print("after it", (comm.recv(got, 1) == sent + 1).all(), flush=True)
os._exit(0)
"""
MOMENTS = {
    "nothing has come": 'interrupted(got); post("comes", head(sent)); post("comes", sent)',
    "its head comes meanwhile": 'post("comes_late", head(sent)); interrupted(got); post("comes", sent)',
    "its head has come": 'post("comes", head(sent)); interrupted(got); post("comes", sent)',
    "its data come meanwhile": 'post("comes", head(sent)); post("comes_late", sent); interrupted(got)',
}
HALFWAY = """
big = np.empty(2**28 + 1, "f4")  # two messages of MPI; no memory is taken
post("comes", head(big)); post("comes", sent)
interrupted(big)
refused(_core.LostError, comm.recv, got, 1)
os._exit(0)
"""
STARTED = """
tickets = [comm.start_recv(np.zeros(8, "f4"), 1) for _ in range(2)]
interrupted(got)  # in the wait for the first of them
for ticket in tickets: refused(_core.LostError, ticket.finish)
post("comes", head(sent)); post("comes", sent)
"""
# The word by which a rank leaves says, before its reason, whether it ends the others, and which it is.
LEFT = """
comm.limit = 1.0
library.comes(np.array([0, 1] + [0] * 254, "i4").ctypes.data_as(ctypes.c_void_p), 1024, 0)
post("comes", head(sent))
ctypes.c_int.in_dll(library, "begins").value = 1
interrupted(got)
refused(_core.LostError, comm.recv, got, 1)
os._exit(0)
"""
WRONG = """
post("comes", head(sent)); post("comes_late", sent)
interrupted(got)
refused(ValueError, comm.recv, np.zeros(9, "f4"), 1)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("mpi")
    (folder / "mpi.c").write_text(STAND_IN)
    command = [compiler, "-w", "-shared", "-fPIC", "-o", folder / "libmpi_stand_in.so", folder / "mpi.c"]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    return folder / "libmpi_stand_in.so"


def run(library, text):
    command = [sys.executable, "-c", START + text, library]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_letter_stays_the_next_of_its_sender(moment, library):
    done = run(library, MOMENTS[moment] + NEXT)
    assert done.stdout == "next True\nafter it True\n", done.stdout + done.stderr


def test_a_letter_of_which_a_part_was_taken_back_ends_all(library):
    done = run(library, HALFWAY)
    assert "rank 0 gave up recv of 268435457 x 4 bytes from rank 1 halfway" in done.stdout, done.stdout + done.stderr


def test_what_was_started_before_it_is_lost(library):
    done = run(library, STARTED + NEXT)
    lost = ["this call was interrupted", "a call that was started before this one was interrupted"]
    assert done.stdout.splitlines() == [*lost, "next True", "after it True"], done.stdout + done.stderr


def test_a_letter_that_was_kept_stays_for_the_call_that_fits(library):
    done = run(library, WRONG + NEXT)
    lines = ["[recv] rank 0 expects 9 x 4 bytes from rank 1, which sent 8 x 4 bytes", "next True", "after it True"]
    assert done.stdout.splitlines() == lines, done.stdout + done.stderr


def test_a_letter_that_does_not_end_is_not_taken_for_one_that_has(library):
    """Its sender says that it has left."""
    done = run(library, LEFT)
    assert "whose data rank 1 did not send to their end within the limit, 1 s" in done.stdout, done.stdout + done.stderr
