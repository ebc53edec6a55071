"""A training run at its limits: no more memory, no more threads, many batch sizes, several Python threads, signals."""

import contextlib
import resource
import signal
import threading
import time

import numpy as np
import pytest

from .test_session import FEATURES, OUTPUTS, data, rates, session


def test_a_batch_beyond_memory_leaves_the_run_whole(tw):
    """The activations of the large batch can't be had; those of the small one were given up for them."""
    net = tw.nn.Sequential(tw.nn.Linear(1 << 16), tw.nn.ReLU(), tw.nn.Linear(2))
    trainers = [tw.Trainer(net, tw.losses.MSE(), tw.optim.SGD(1e-6), world=w, threads=1) for w in (1, 2)]
    small, large = np.ones((4, 1), np.float32), np.ones((1 << 24, 1), np.float32)
    for trainer in trainers:
        losses = [trainer.step(small, small.repeat(2, 1)).loss]
        with pytest.raises(
            MemoryError, match=r"of 16777216 rows, the largest the output of linear in '0', .* \d+ bytes"
        ):
            trainer.predict(large, batch_size=len(large))
        losses.append(trainer.step(small, small.repeat(2, 1)).loss)
        assert losses[1] < losses[0]
        assert np.isfinite(trainer.predict(small)).all()
    assert trainers[0].digest() == trainers[1].digest()


def test_threads_that_the_system_refuses(core):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), hard))
    try:
        with pytest.raises(RuntimeError, match=r"of 1023 threads the system let only .* start"):
            session(core, threads=1024)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    session(core, threads=2).step(list(data(16)), rates(core))


@pytest.mark.parametrize("world", [1, 2])
def test_only_the_newest_plans_are_kept_and_bits_stay(world, core):
    sizes = [*range(1, 60), 16, 3, 59]
    one, fresh = session(core, world=world), session(core, world=world)
    for rows in sizes:
        one.step(list(data(rows)), rates(core))
        one.evaluate(list(data(rows)), rows)
        again = session(core, world=world)  # has no plan yet
        again.set_parameters(fresh.parameters())
        again.set_buffers(fresh.buffers())
        again.step(list(data(rows)), rates(core))
        fresh = again
    assert one.digest() == fresh.digest()
    assert one.memory()["plans"] == world * 2 * 32


def test_another_thread_reads_at_a_steps_edge_only(core):
    s = session(core)
    x, y = data(64)
    seen, readers = [], []

    def read():
        seen.append((s.parameters(), s.buffers(), s.optimizer_state(), s.digest(), s.memory()))

    def progress(done, report):
        if not readers:
            readers.append(threading.Thread(target=read))
            readers[0].start()
            readers[0].join(0.05)
            assert not seen  # it waits for the end of the call
            assert s.digest() and s.parameters()  # this thread, inside the call, need not

    s.run_epoch([x, y], np.tile(np.arange(64), 10), 16, rates(core, 40), progress, 0)
    readers[0].join(10)
    assert seen[0][3] == s.digest()


@pytest.mark.parametrize("call, rows", [("evaluate", 500_000), ("predict", 4_000_000)])
def test_signals_are_obeyed_between_batches(call, rows, core):
    s = session(core)
    x, y = np.zeros((rows, FEATURES)), np.zeros((rows, OUTPUTS))

    def run():
        start = time.perf_counter()
        with contextlib.suppress(InterruptedError):
            s.evaluate([x, y], 1) if call == "evaluate" else s.predict([x], 1)
        return time.perf_counter() - start

    def handler(*_):
        raise InterruptedError

    whole = run()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, whole / 10)
        assert run() < whole / 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_was_done_is_handed_over_before_an_exception(core):
    s = session(core)
    x, y = data(160)
    x[100] = np.inf
    handed = []
    with pytest.raises(core.DivergedError):
        s.run_epoch([x, y], np.arange(160), 16, rates(core, 10), unfinished=handed.append)
    again = session(core)
    whole = again.run_epoch([x, y], np.arange(96), 16, rates(core, 6), unfinished=handed.append)
    assert len(handed) == 1 and s.t == 6
    for name in ("loss", "count", "grad_norm", "metrics"):
        np.testing.assert_array_equal(handed[0][name], whole[name])


TOO_LARGE = {
    "parameter": (lambda tw: built(tw, tw.nn.Linear(1 << 40)), r"'weight' of shape \(1099511627776, 4\): \d+ bytes"),
    "overflow of bytes": (lambda tw: built(tw, tw.nn.Linear(1 << 58)), "'weight': shape .* more than any memory"),
    "sum of parameters": (
        lambda tw: built(tw, tw.nn.Sequential(*(tw.nn.Linear(1 << 20) for _ in range(64)))),
        "with '.*weight', shape .*, the network has .* elements, more than any memory",
    ),
    "output": (lambda tw: tw.ops.broadcast_to(np.ones(1), 2**42), "output of broadcast_to, shape .*: .* bytes"),
    "output, bytes": (lambda tw: tw.ops.broadcast_to(np.ones(1), 2**61), r"\[broadcast_to\] shape .* more than any"),
    "between": (
        lambda tw: tw.grad(lambda a: tw.ops.sum(tw.ops.exp(tw.ops.broadcast_to(a, 2**42))))(np.ones(1)),
        "the activations, the largest the output of .*: .* bytes",
    ),
    "initial values": (
        lambda tw: tw.init.normal()((1 << 42,), "float32", 0, "fc.weight"),
        "'fc.weight', shape .* bytes",
    ),
}


def built(tw, net):
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(0.1))
    return trainer.build(np.ones((8, 4), np.float32), np.zeros(8, int))


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_no_memory_holds_is_named(case, tw):
    make, message = TOO_LARGE[case]
    with pytest.raises(MemoryError, match=message):
        make(tw)
