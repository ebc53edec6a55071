"""States to save, and how two of them are compared: bit by bit."""

from typing import Any

import numpy as np


def state(t: int = 0, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng([seed, t])
    parameters = {
        "0.weight": rng.normal(size=(4, 3, 3, 2)).astype(np.float32),
        "0.bias": rng.normal(size=4).astype(np.float32),
        "3.weight": rng.normal(size=(10, 5)),
        "scale": np.float32(rng.normal()).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
    }
    return {
        "parameters": parameters,
        "buffers": {"1.running_mean": rng.normal(size=4).astype(np.float32)},
        "optimizer": [{name: rng.normal(size=a.shape).astype(a.dtype) for name, a in parameters.items()}, {}],
        "meta": {
            "t": t,
            "epoch": t // 3,
            "best": float("inf"),
            "rates": [0.1, 1e-300, float(rng.normal())],
            "note": "ä",
        },
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["meta"] == expected["meta"]
    groups = [(found[key], expected[key]) for key in ("parameters", "buffers")]
    groups += list(zip(found["optimizer"], expected["optimizer"], strict=True))
    for a, b in groups:
        assert list(a) == list(b)
        for name in b:
            assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
            assert a[name].tobytes() == b[name].tobytes(), name
