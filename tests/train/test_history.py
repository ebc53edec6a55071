"""What a history keeps of every step: arrays that become lists when they are looked at."""

import copy
import json

import numpy as np
from thalweg.history import History


def columns(first, count):
    steps = np.arange(first, first + count)
    return {"loss": steps * 0.5, "grad_norm": steps + 0.25, "lr": np.full(count, 0.1), "waited_for": steps % 3}


def expected(count):
    return {name: values.tolist() for name, values in columns(0, count).items()}


def test_lists_hold_what_came_whenever_they_are_looked_at():
    history = History()
    assert history.steps == {"loss": [], "grad_norm": [], "lr": []}
    done = 0
    for count in (1, 7, 0, 100):
        history.add_steps(columns(done, count))
        done += count
        if count != 7:
            assert history.steps == expected(done)
    assert type(history.steps["waited_for"][0]) is int and json.loads(json.dumps(history.steps)) == expected(108)


def test_the_lists_are_the_users():
    history = History()
    loss = history.steps["loss"]
    history.steps["mine"] = [1]
    history.add_steps(columns(0, 3))
    assert history.steps["loss"] is loss and loss == [0.0, 0.5, 1.0] and history.steps["mine"] == [1]


def test_a_copy_in_the_middle_goes_its_own_way():
    history = History()
    history.add_steps(columns(0, 3))
    other = copy.deepcopy(history)
    history.add_steps(columns(3, 2))
    assert other.steps == expected(3) and history.steps == expected(5)


def test_a_slice_of_another_array_is_copied():
    history = History()
    table = np.arange(12.0).reshape(6, 2)
    history.add_steps({"lr": table[1:4, 0]})
    table[:] = 0
    assert history.steps["lr"] == [2.0, 4.0, 6.0]
