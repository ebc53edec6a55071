"""Signals to a launched job: all ranks stop at the same step, save where that was asked for, and leave nothing."""

import itertools
import os
import signal
import time
import types

import numpy as np
import pytest
import thalweg as tw
from thalweg.trainer import run
from thalweg.trainer.run import Interrupt, Preempted

from . import jobs

pytestmark = pytest.mark.timeout(120)

SLOW = """
class Slow(tw.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.02 * (1 + rank))
        if self.trainer.t == 2: open(f"pid{rank}", "w").write(str(os.getpid()))
trainer = tw.Trainer.load("run") if os.path.isdir("run") else make()
saver = [tw.callbacks.ModelCheckpoint("run")] if "save" in sys.argv else []
fit(trainer, 2 if "end" in sys.argv else 1000, callbacks=saver + ([] if "end" in sys.argv else [Slow()]))
digest = trainer.digest()
if rank == 0: print("digest", digest)
"""


def stopped(folder, number, *arguments, to=None):
    """A job that gets a signal during training, by its launcher or one rank: (exit code, what it said)."""
    process = jobs.started(folder, 2, SLOW, *arguments)
    try:
        pids = [int(jobs.wait_for(folder / f"pid{r}")) for r in range(2)]
        os.kill(process.pid if to is None else pids[to], number)
        text = process.communicate(timeout=30)[0]
    finally:
        jobs.end(process)
    assert not [pid for pid in pids if jobs.is_running(pid)]
    return process.returncode, text


def digest(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("digest"))


@pytest.mark.parametrize("to", [None, 1])
def test_sigterm_saves_and_exits_75(to, tmp_path):
    code, text = stopped(tmp_path, signal.SIGTERM, "save", to=to)
    assert code == 75, text
    assert len(list(tmp_path.glob("run/step-*"))) == 1  # written once
    resumed = digest(jobs.launch(tmp_path, 1, SLOW, "end"))
    other = tmp_path / "whole"
    other.mkdir()
    assert resumed == digest(jobs.launch(other, 4, SLOW, "end"))  # as if nothing had happened


def test_sigterm_without_a_checkpoint_is_no_success(tmp_path):
    assert stopped(tmp_path, signal.SIGTERM)[0] == 128 + signal.SIGTERM


def test_ctrl_c_ends_all_ranks_with_130(tmp_path):
    code, text = stopped(tmp_path, signal.SIGINT, "save")
    assert code == 130, text
    assert "KeyboardInterrupt" in text and "LostError" not in text


def test_ranks_end_with_their_launcher(tmp_path):
    before = set(os.listdir("/dev/shm"))
    process = jobs.started(tmp_path, 2, SLOW)
    pids = [int(jobs.wait_for(tmp_path / f"pid{r}")) for r in range(2)]
    jobs.end(process)  # by SIGKILL
    limit = time.monotonic() + 10
    while any(map(jobs.is_running, pids)):
        assert time.monotonic() < limit, "a rank outlives its launcher"
        time.sleep(0.02)
    assert set(os.listdir("/dev/shm")) <= before


def test_a_signal_while_ranks_agree_is_not_lost():
    class Peers:
        limit = 0.0

        def all_gather(self, mine):
            interrupt._note(signal.SIGTERM, None)  # after this rank said what had come to it
            return mine[np.newaxis]

    class Trainer:
        stop_training, _pace = False, 0.5

    interrupt = Interrupt(Peers())
    interrupt.agree(Trainer())
    interrupt.check()  # the others know nothing of it yet
    interrupt.agree(Trainer())
    with pytest.raises(Preempted):
        interrupt.check()
    assert interrupt._peers.limit == 60.0


def test_the_limit_follows_slow_steps():
    class Peers:
        limit = 0.0

        def all_gather(self, mine):
            return np.stack([mine, mine * 100])

    class Trainer:
        stop_training, _pace = False, 7.0

    interrupt = Interrupt(Peers())
    interrupt.agree(Trainer())
    assert interrupt._peers.limit == 140.0  # twenty of rank 0's steps, on every rank


def test_a_step_that_was_held_up_moves_no_limit(monkeypatch):
    """The job was suspended, say: the ones after it are as quick as those before."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: 0.001 * (n := next(ticks)) + (100.0 if n > 10 else 0.0))
    monkeypatch.setattr(run, "time", clock)
    trainer = tw.Trainer(tw.nn.Linear(3), loss=tw.losses.MSE(), optimizer=tw.optim.SGD(lr=0.1))
    paces = []
    each = tw.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: paces.append(trainer._pace))
    trainer.fit(np.ones((64, 2), "f4"), np.ones((64, 3), "f4"), epochs=1, batch_size=4, callbacks=[each], verbose=0)
    assert next(ticks) > 20 and len(paces) == 16 and max(paces) < 1


INTERRUPTED = """
import threading
comm = tw.parallel.communicator()
def start(): return [comm.start_all_reduce(np.full(100_000, rank + k + 1.0)) for k in range(3)]
def lost(tickets): return sum(isinstance(caught(t), tw.LostError) for t in tickets)
def caught(ticket):
    try: ticket.finish()
    except (KeyboardInterrupt, tw.LostError) as error: return error
if rank == 0:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    tickets = start()
    begun = time.monotonic()
    assert isinstance(caught(tickets[2]), KeyboardInterrupt) and time.monotonic() - begun < 2
    assert lost(tickets[1:]) == 2 and lost(tickets[:1]) == 1  # the first one was the one that was given up
    open("interrupted", "w").write("yes")
else:
    while not os.path.exists("interrupted"): time.sleep(0.02)
    assert lost(start()) == 3
open(f"right{rank}", "w").close()
"""


@pytest.mark.parametrize("way", jobs.WAYS)
def test_an_interrupt_of_a_started_call_gives_up_those_behind_it(way, tmp_path):
    """Else the next one would meet the call of the other rank that was given up here."""
    by, variables = jobs.WAYS[way]
    done = jobs.launch(tmp_path, 2, INTERRUPTED, by=by, **variables)
    assert all((tmp_path / f"right{r}").exists() for r in range(2)), done.stdout + done.stderr
