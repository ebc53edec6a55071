"""Arrays that ranks of one machine read where they lie in another's process, which the kernel may refuse."""

import platform

import pytest

from . import jobs

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the call is that of another processor"),
]

REFUSED = """
import ctypes, struct
def refuse():
    \"\"\"From now on process_vm_readv is not permitted to this thread, as in some containers.\"\"\"
    rules = ((0x20, 0, 0, 0), (0x15, 0, 1, 310), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    prctl = ctypes.CDLL(None).prctl
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, struct.pack("HxxxxxxP", 4, ctypes.addressof(code))) == 0
def gather():
    return (comm.all_gather(np.full(200_000, rank + 1.0)) == [[1], [2]]).all()
def exchange():
    sent = comm.start_send(np.full(200_000, rank + 1.0), 1 - rank)
    comm.barrier()  # a part of both is on its way
    letter = comm.recv(np.zeros(200_000), 1 - rank)
    sent.finish()
    return (letter == 2 - rank).all()
"""


def test_ranks_that_one_of_them_cannot_read_copy(tmp_path):
    body = "rank and refuse(); comm = tw.parallel.communicator(); assert gather() and exchange()"
    done = jobs.launch(tmp_path, 2, REFUSED + body)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("call", "what"), [("gather", "the array"), ("exchange", "a letter")])
def test_one_that_can_be_read_no_more_ends_all(call, what, tmp_path):
    body = f"""
comm = tw.parallel.communicator()
assert gather() and exchange()
if rank: refuse()
comm.barrier()
for _ in range(200): {call}()  # a letter that finds room is not read where it lies
"""
    done = jobs.launch(tmp_path, 2, REFUSED + body)
    text = done.stdout + done.stderr
    assert done.returncode == 6 and "rank 1 ended with exit code 6" in text and done.seconds < 20, text
    assert f"rank 0 ends: rank 1 can't read {what} of rank 0" in text and "Operation not permitted" in text, text
