"""Whatever happens to one rank, all end soon, with a message that names it and the exit code of FAULTS."""

import pytest

from . import jobs

pytestmark = pytest.mark.timeout(120)

CASES = {  # body, exit code, what rank 0 and the launcher say, what the failing rank says
    "kill": (
        "fit(make(), callbacks=[At(1, 4, lambda: os.kill(os.getpid(), signal.SIGKILL))])",
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
        "t = make(); t.build(x, y); t.step(x, y) if rank == 0 else t.evaluate(x, y)",
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
        1,
        ["the ranks differ: parameter '0.bias' is ", "; 2 more differ"],
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
}


@pytest.mark.parametrize("case", CASES)
def test_one_rank_ends_all(case, tmp_path):
    body, code, messages = CASES[case]
    slow = case in ("late", "stopped")
    done = jobs.launch(tmp_path, 2, body, **({"THALWEG_TIMEOUT": "1"} if slow else {}))
    text = done.stdout + done.stderr
    assert not [m for m in messages if m not in text], text
    assert done.returncode == code, text
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
