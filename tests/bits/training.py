"""One training run that touches everything whose bits could depend on the machine: convolutions, batch norm, dropout,
clipping by the global norm, shuffling, an uneven last batch. Run as a script it prints digests as JSON, for
test_instruction_sets.py:  THALWEG_ISA=avx2 python -m tests.bits.training float64 1 2
"""

import hashlib
import json
import sys

import numpy as np

ROWS, BATCH = 45, 16  # the last batch has 13 rows: uneven over 8 shards, and over 2, 4, 8 ranks


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 9, 9, 3)), rng.integers(0, 5, rows)


def network(tw):
    nn = tw.nn
    return nn.Sequential(
        *(nn.Conv2d(17, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU()),
        *(nn.Conv2d(16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 3, stride=2, padding=1), nn.GELU(), nn.Dropout(0.3), nn.Flatten()),
        *(nn.Linear(33), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.5), nn.LayerNorm(), nn.Linear(5)),
    )


def of_dtype(dtype):
    """The arguments of a Trainer; "bf16" is float32 with that precision."""
    return {"dtype": "float32", "precision": "bf16"} if dtype == "bf16" else {"dtype": dtype}


def trainer(tw, *, world=1, threads=1, shards=8, dtype="float32", optimizer=None, net=None, **options):
    return tw.Trainer(
        net or network(tw),
        loss=tw.losses.CrossEntropy(label_smoothing=0.1),
        optimizer=optimizer or tw.optim.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3),
        **{"seed": 3, "max_norm": 0.7, **options},
        world=world,
        threads=threads,
        shards=shards,
        **of_dtype(dtype),
    )


def arrays_of(state, path=""):
    """(name, array) of every array in nested dicts and lists, in a fixed order."""
    if isinstance(state, dict):
        for k in sorted(state):
            yield from arrays_of(state[k], f"{path}/{k}")
    elif isinstance(state, (list, tuple)):
        for i, part in enumerate(state):
            yield from arrays_of(part, f"{path}/{i}")
    elif isinstance(state, np.ndarray):
        yield path, state


def digest(state):
    h = hashlib.sha256()
    for name, a in arrays_of(state):
        h.update(f"{name} {a.dtype} {a.shape}".encode() + np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:16]


def run(tw, *, epochs=2, rows=ROWS, batch=BATCH, **options):
    """(digest of parameters, buffers and optimizer state; losses of the epochs; parameters)."""
    x, y = data(rows)
    t = trainer(tw, **options)
    x = x.astype(of_dtype(options.get("dtype", "float32"))["dtype"])
    history = t.fit(x, y, epochs=epochs, batch_size=batch, shuffle=True)
    return digest(t.state_dict()), [float(loss) for loss in history["loss"]], t.parameters()


def main(dtype, *worlds):
    import thalweg as tw

    found = {"isa": tw._core.isa()}
    for world in worlds or ("1",):
        for name in ("SGD", "Adam"):
            rule = None if name == "SGD" else tw.optim.Adam(lr=0.01)
            bits, losses, _ = run(tw, world=int(world), dtype=dtype, optimizer=rule)
            found[f"{name}, world {world}"] = [bits, [loss.hex() for loss in losses]]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
