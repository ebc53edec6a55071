"""Whatever happens to one rank, all end soon, with a message that names it and an exit code; no process is left, and
the checkpoints go on with the bits of a run to which nothing happened."""

import pytest
import thalweg as tw
from thalweg import checkpoint

from . import jobs

pytestmark = pytest.mark.timeout(120)

# A rank's memory changes by one bit.
FLIP = """
def flip(t=None):
    t = t or trainer
    values = t.parameters()
    values["4.weight"].view("u4")[2, 7] ^= 1 << 31
    t.set_parameters(values)
"""
CASES = {  # body, exit code, what rank 0 and the launcher say, what the failing rank says
    "kill": (
        "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])",
        6,
        ["rank 0 ends: rank 1 was", "rank 1 was ended by SIGKILL"],
    ),
    "kill in a sum": (
        "fit(make(), callbacks=[At(rank, 4, sums_without_end)])",
        6,
        ["rank 0 ends: rank 1 was", "rank 1 was ended by SIGKILL"],
    ),
    "kill in started calls": (
        "started_without_end()",
        6,
        ["rank 0 ends: rank 1 was", "rank 1 was ended by SIGKILL"],
    ),
    "kill of much memory": (  # which can't be read any more for a while before its process is found to be gone
        "killed_with_much_memory()",
        6,
        ["rank 0 ends: rank 1 was", "rank 1 was ended by SIGKILL"],
    ),
    "exit": (
        "fit(make(), callbacks=[At(1, 4, lambda: sys.exit(0))])",
        6,
        ["rank 0 ends: rank 1 has left: it ended while rank 0 waits in all_", "must make the same calls"],
    ),
    "hard exit": (
        "fit(make(), callbacks=[At(1, 4, lambda: os._exit(9))])",
        9,
        ["rank 0 ends: rank 1", "rank 1 ended with exit code 9"],
    ),
    "exception": (
        "fit(make(), callbacks=[At(1, 4, lambda: {}['missing'])])",
        1,
        ["rank 0 ends: rank 1 failed: KeyError: 'missing'", "[1] Traceback", "[1] KeyError: 'missing'"],
    ),
    "before": (
        "if rank == 1: raise ImportError('no such thing')\nfit(make())",
        1,
        ["rank 1", "[1] ImportError: no such"],
    ),
    "batch": (
        "make().step(x[:16 + rank], y[:16 + rank])",
        1,
        ["rank 0 calls all_reduce of", "(update 0, batch of 16 rows), rank 1 calls all_reduce of", "batch of 17 rows)"],
    ),
    "order": (
        "t = make(check_every=0); t.build(x, y); t.step(x, y) if rank == 0 else t.evaluate(x, y)",
        1,
        ["rank 0 calls all_reduce of", ", rank 1 calls all_reduce of"],
    ),
    "seed": ("make(seed=rank).build(x, y)", 1, ["[Trainer] the ranks differ: seed is 0 on rank 0 and 1 on rank 1"]),
    "dtype": (
        "make(dtype=['float32', 'float64'][rank]).build(x, y)",
        1,
        ['dtype is "float32" on rank 0 and "float64"'],
    ),
    "precision": (
        "make(precision=['float32', 'bf16'][rank]).build(x, y)",
        1,
        ['precision is "float32" on rank 0 and "bf16"'],
    ),
    "rate": ("make(optimizer=tw.optim.SGD(lr=0.1 + rank)).build(x, y)", 1, ["optimizer is ", '"lr": 0.1', '"lr": 1.1']),
    "rows": ("make().build(x[:, :20 - rank], y)", 1, ["inputs is ", "network is "]),
    "weights": (
        "t = make(); t.build(x, y); t.set_parameters({k: v + rank for k, v in t.parameters().items()}); t.save('a')",
        6,
        ["the ranks differ after update 0: parameter '0.weight' of rank 1 is not that of rank 0; ", "; 2 more differ"],
    ),
    "data": ("x = x + rank\nfit(make())", 1, ["[fit] the ranks differ: input 0 is float32 (45, 20), rows with the "]),
    "size": ("fit(make(), batch_size=16 - rank)", 1, ["[fit] the ranks differ: batch_size is 16 on rank 0 and 15 on"]),
    "diverged": (
        "t = make(); t.build(x, y)\nx[7] = np.nan\nt.step(x[:16], y[:16])",
        1,
        ["[step] x[7, 0] = nan", "is not finite at element 231 (rank 0)"],  # its row is rank 0's
    ),
    "explodes": (
        "fit(make(optimizer=tw.optim.SGD(lr=1e30), max_norm=None))",
        5,
        ["DivergedError", "the training diverged"],
    ),
    "overflow": (  # of rank 1's gradient alone
        "t = make(max_norm=None); t.build(x, y)\nx[12] = 3e38\nt.step(x[:16], y[:16])",
        5,
        ["DivergedError: the training diverged at update 1: the output of linear in '0'", "element 132 (rank 1); para"],
    ),
    "folder": ("t = make(); t.build(x, y); t.save('/proc/nowhere')", 7, ["/proc/nowhere", "rank 1"]),
    "world": ("make(world=3)", 1, ["[world] the number of ranks is 3", "expected 2"]),
    "late": (
        "fit(make(), callbacks=[At(1, 4, lambda: time.sleep(60))])",
        6,
        [
            "rank 0 has waited 1 s in all_reduce of",
            "for rank 1, the limit is 1 s; rank 1 made its last call, all_gather of",
        ],
    ),
    "stopped": (
        "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGSTOP))])",
        6,
        ["rank 0 has waited 1 s in all_reduce of", "for rank 1, the limit is 1 s", "rank 1 did not end by itself"],
    ),
    "shards": ("make(shards=[8, 4][rank]).build(x, y)", 1, ["the ranks differ: shards is 8 on rank 0 and 4 on rank 1"]),
    "model": (
        "net = nn.Sequential(nn.Linear(3 + rank), nn.ReLU(), nn.Linear(5))\n"
        "tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1)).build(x, y)",
        1,
        ["[Trainer] the ranks differ: network is", '"0.bias": [3]', "on rank 0 and", '"0.bias": [4]'],
    ),
    "deep model": (  # the difference lies far into the description
        "net = nn.Sequential(*[nn.Linear(2) for _ in range(40)], nn.Linear(5 + rank))\n"
        "tw.Trainer(net, loss=tw.losses.CrossEntropy(), optimizer=tw.optim.SGD(lr=0.1)).build(x, y)",
        1,
        ["[Trainer] the ranks differ: network is", '"40.bias": [5]', "on rank 0 and", '"40.bias": [6]'],
    ),
    "missing file": (
        "tw.parallel.communicator()\nif rank == 1: open('missing.csv')\nfit(make())",
        1,
        ["FileNotFoundError", "rank 1"],
    ),
    "save on one rank": (
        "t = make(); t.step(x, y)\nif rank == 0: t.save('other')\nfit(t)",
        1,
        ["rank 0 calls all_gather of 1 x 8 bytes as part of save, rank 1 calls all_gather of ", " as part of fit: all"],
    ),
    "save on one rank at the end": (
        "t = make(); t.step(x, y)\nif rank == 0: t.save('other')",
        6,
        ["rank 1 has left: it ended while rank 0 waits in all_gather of 1 x 8 bytes as part of save (all"],
    ),
    "evaluation on one rank": (
        "fit(make(), callbacks=[At(0, 1, lambda: trainer.evaluate(x, y))])",
        1,
        [" as part of evaluate", " as part of fit"],
    ),
    "checkpoints on one rank": (
        "fit_(make(), callbacks=[tw.callbacks.ModelCheckpoint('other')][rank:])",
        1,
        ["[fit] the ranks differ: callbacks is ['ModelCheckpoint'] on rank 0 and [] on rank 1; all ranks"],
    ),
    "checkpoints at other steps": (
        "fit_(make(), callbacks=[tw.callbacks.ModelCheckpoint('other', save_freq=2 + rank)])",
        1,
        ["[fit] the ranks differ: stop_every is 2 on rank 0 and 3 on rank 1; all ranks"],
    ),
    "validation on one rank": (
        "fit(make(), validation_data=[(x, y), None][rank])",
        1,
        ["[fit] the ranks differ: validation_data is float32 (45, 20), rows with", "on rank 0 and None on rank 1"],
    ),
    "validation values": (
        "fit(make(), validation_data=(x + rank, y))",
        1,
        ["[fit] the ranks differ: validation_data is ", " on rank 0 and "],
    ),
    "flipped": (
        FLIP + "fit(make(check_every=1), callbacks=[At(1, 3, flip)])",
        6,
        [
            "ReplicaError: the ranks differ after update 3: parameter '4.weight' of rank 1 is not that of rank 0: ",
            "go on from the last checkpoint",
        ],
    ),
    "flipped before a save": (
        FLIP + "t = make(check_every=0); t.step(x, y)\nif rank == 0: flip(t)\nt.save('run')",
        6,
        ["ReplicaError: the ranks differ after update 1: parameter '4.weight' of rank 1 is not that of rank 0: "],
    ),
    "full disk": (
        "fit(make(), callbacks=[At(0, 5, lambda: os.environ.update(THALWEG_FAULT='write:3:ENOSPC'))])",
        7,
        ["No space left on device", "saving run/step-00000006 failed at", "OSError: [Errno 28] rank 0 failed: OSError"],
    ),
}
# What fit and make do here beside: they save every second step, and keep the trainer where flip finds it.
SAVING = """
import threading
fit_, make_ = fit, make
def fit(trainer, epochs=3, callbacks=(), **options):
    return fit_(trainer, epochs, callbacks=[*callbacks, tw.callbacks.ModelCheckpoint("run", save_freq=2)], **options)
def make(**options):
    global trainer
    trainer = make_(**options)
    return trainer
def sums_without_end():
    values = np.ones(1_000_000)
    kill = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL))
    if rank == 1: kill.start()
    while True: tw.parallel.communicator().all_reduce(values)
def has_memory(pid):
    try: return open(f"/proc/{pid}/statm").read().split()[0] != "0"
    except OSError: return False  # gone as a whole

def killed_with_much_memory():
    comm = tw.parallel.communicator()
    values, memory = np.ones(1_000_000), np.ones(200_000_000 if rank == 1 else 1)
    pid = int(comm.all_gather(np.array([float(os.getpid())])).ravel()[1])
    while rank == 0 and has_memory(pid): pass
    ticket = comm.start_all_gather(values)
    if rank == 1: os.kill(pid, signal.SIGKILL)
    ticket.finish()

def started_without_end():
    comm = tw.parallel.communicator()
    values, letter = np.ones(1_000_000), np.ones(1_000_000)
    kill = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL))
    if rank == 1: kill.start()
    while True:
        tickets = [comm.start_all_gather(values), comm.start_recv(letter, 1 - rank), comm.start_broadcast(values),
                   comm.start_send(values, 1 - rank), comm.start_reduce_scatter(values), comm.start_barrier()]
        for ticket in tickets[::-1]: ticket.finish()
"""
# Those that strike a training which has saved already: it can go on.
STRUCK = ("kill", "kill in a sum", "exit", "hard exit", "exception", "late", "stopped", "flipped", "full disk")


@pytest.mark.parametrize("case", CASES)
def test_one_rank_ends_all(case, tmp_path, whole):
    body, code, messages = CASES[case]
    slow = case in ("late", "stopped")
    done = jobs.launch(tmp_path, 2, SAVING + body, **({"THALWEG_TIMEOUT": "1"} if slow else {}))
    text = done.stdout + done.stderr
    assert not [m for m in messages if m not in text], text
    assert done.returncode == code, text
    assert done.seconds < 30
    if case in STRUCK:
        assert checkpoint.verify(tmp_path / "run")["step"] in (2, 4)
        assert end_of(tw.Trainer.load(tmp_path / "run")) == whole
    else:
        assert not list(tmp_path.glob("run/step-*"))


def end_of(trainer=None):
    """The digest of a training at its end, as the scripts run it."""
    names = {}
    exec(jobs.PRELUDE, names)
    trainer = trainer or names["make"]()
    names["fit"](trainer, verbose=0)
    return trainer.digest()


@pytest.fixture(scope="module")
def whole():
    """Of the training to which nothing happens."""
    return end_of()


def test_the_rank_with_other_values_is_the_one_that_most_differ_from(tmp_path):
    body = FLIP + "trainer = make(check_every=1)\nfit(trainer, callbacks=[At(0, 2, flip)])"
    done = jobs.launch(tmp_path, 3, body)
    assert done.returncode == 6
    assert "parameter '4.weight' of rank 0 is not that of ranks 1 and 2: unless" in done.stderr


def test_what_only_looks_may_be_on_one_rank(tmp_path):
    body = """
class Own(tw.callbacks.Callback):
    looks_only = True
    def on_epoch_end(self, epoch, logs=None): print("own", epoch)
fit(make(), callbacks=[tw.callbacks.CSVLogger("table.csv"), Own()] if rank == 0 else [], verbose=int(rank == 0))
"""
    done = jobs.launch(tmp_path, 2, body)
    assert done.returncode == 0, done.stderr
    assert "own 2" in done.stdout and len((tmp_path / "table.csv").read_text().splitlines()) == 4


def test_paths_of_any_length_are_told_whole(tmp_path):
    body = """
trainer, path = make(), "/".join(["ü" * 60] * 4)
trainer.build(x, y)
print("saved", path in str(trainer.save(path)))
open("file", "w").close()
try:
    trainer.save("file/" + path)
except OSError as error:
    print("failed", "file/" + path in str(error))
"""
    done = jobs.launch(tmp_path, 3, body, options=["--all"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{r}] {what} True" for r in range(3) for what in ("failed", "saved")]


def test_a_record_that_cannot_be_written_changes_no_end(tmp_path):
    body = "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])"
    done = jobs.launch(tmp_path, 2, body, THALWEG_FLIGHT="/proc/nowhere")
    assert done.returncode == 6 and "rank 0 ends: rank 1 was" in done.stderr
    assert done.seconds < 30


def test_lost_ranks_leave_a_record_of_what_they_did(tmp_path):
    body = "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])"
    done = jobs.launch(tmp_path, 3, body, THALWEG_FLIGHT=str(tmp_path / "flight"))
    assert done.returncode == 6
    assert sorted(p.name for p in (tmp_path / "flight").iterdir()) == ["flight-rank-0.txt", "flight-rank-2.txt"]
    lines = (tmp_path / "flight" / "flight-rank-2.txt").read_text().splitlines()
    assert lines[0].startswith("rank 2 of 3: rank 1 ") and 20 < len(lines) <= 65
    assert "(update 4, batch of 16 rows), not all ranks came" in lines[-1]
    assert all(" s ago: " in line and "all came after 0." in line for line in lines[1:-1])
