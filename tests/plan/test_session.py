"""A training run of the engine, driven without the Python layers: steps against NumPy, plans for other batch sizes,
epochs, state in and out, refusals that leave it whole."""

import numpy as np
import pytest

FEATURES, OUTPUTS = 5, 3


def graphs(core, rows=16):
    """Least squares on x w' + b, loss and a metric a row: (train, evaluate, their io)."""
    built = []
    for train in (True, False):
        g = core.Graph(rows)
        x, y = g.input("x", (rows, FEATURES), batch=True), g.input("y", (rows, OUTPUTS), batch=True)
        w, b = g.parameter("w", (OUTPUTS, FEATURES)), g.parameter("b", (OUTPUTS,))
        seen = g.buffer("seen", (FEATURES,))
        [p] = g.apply("linear", [x, w, b], {}, "fc")
        [loss] = g.apply("mse", [p, y], {}, "loss")
        [metric] = g.apply(
            "reduce_max", g.apply("abs", g.apply("sub", [p, y], {}), {}), {"axes": [1], "keepdims": False}
        )
        if train:
            [total] = g.apply("reduce_sum", [x], {"axes": [0], "keepdims": False})
            g.update_buffer(seen, g.apply("add", [seen, total], {})[0])
        built.append((g, {"inputs": [x, y], "loss": loss, "metrics": [metric], **({} if train else {"outputs": [p]})}))
    return built


def session(core, **config):
    (train, train_io), (evaluate, evaluate_io) = graphs(core)
    config = {"dtype": "float64", "world": 1, "shards": 8, "threads": 1, "seed": 0, **config}
    config.setdefault("rule", {"name": "sgd"})
    s = core.Session(core.Model(train, evaluate, train_io, evaluate_io), config)
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((OUTPUTS, FEATURES)), rng.standard_normal(OUTPUTS)
    dtype = config["dtype"]
    s.set_parameters({"w": w.astype(dtype), "b": b.astype(dtype)})
    s.set_buffers({"seen": np.zeros(FEATURES, dtype)})
    return s


def rates(core, steps=None, **values):
    fields = {name: i for i, name in enumerate(core.RATE_FIELDS)}
    table = np.zeros((1, len(fields)))
    for name, value in {"lr": 0.1, **values}.items():
        table[0, fields[name]] = value
    return table if steps is None else np.broadcast_to(table, (steps, *table.shape)).copy()


def data(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, FEATURES)), rng.standard_normal((rows, OUTPUTS))


def reference(w, b, x, y):
    """(loss, gradient of w, gradient of b, mean of the metric)."""
    error = x @ w.T + b - y
    return (error**2).mean(), 2 * error.T @ x / error.size, 2 * error.sum(0) / error.size, np.abs(error).max(1).mean()


@pytest.mark.parametrize("world", [1, 2, 4, 8, 3])
def test_steps_equal_numpy_for_every_batch_size(world, core):
    """Batch sizes other than the recorded one, smaller than the number of ranks included."""
    s = session(core, world=world)
    w, b = s.parameters()["w"], s.parameters()["b"]
    seen = np.zeros(FEATURES)
    for t, rows in enumerate([16, 7, 16, 33, 1, 2, 7]):
        x, y = data(rows, t)
        loss, d_w, d_b, metric = reference(w, b, x, y)
        report = s.step([x, y], rates(core))
        w, b, seen = w - 0.1 * d_w, b - 0.1 * d_b, seen + x.sum(0)
        assert report["count"] == rows and report["t"] == t + 1 == s.t and not report["skipped"]
        np.testing.assert_allclose([report["loss"], report["metrics"][0]], [loss, metric], rtol=1e-13)
        np.testing.assert_allclose(report["grad_norm"], np.sqrt((d_w**2).sum() + (d_b**2).sum()), rtol=1e-13)
        np.testing.assert_allclose(s.parameters()["w"], w, rtol=1e-13)
        np.testing.assert_allclose(s.parameters()["b"], b, rtol=1e-13)
        np.testing.assert_allclose(s.buffers()["seen"], seen, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("world", [1, 4])
def test_an_epoch_is_its_steps(world, core):
    x, y = data(45)
    order = np.random.default_rng(3).permutation(45)
    one, other = session(core, world=world), session(core, world=world)
    found = one.run_epoch([x, y], order, 16, rates(core, 3))
    reports = [other.step([x[i], y[i]], rates(core)) for i in (order[:16], order[16:32], order[32:])]
    assert one.digest() == other.digest()
    for name in ("loss", "count", "grad_norm"):
        np.testing.assert_array_equal(found[name], [r[name] for r in reports])
    np.testing.assert_array_equal(found["metrics"], [r["metrics"] for r in reports])


def test_an_exception_in_the_progress_ends_the_epoch_at_a_steps_edge(core):
    x, y = data(4000)
    s = session(core)
    seen = []

    def progress(done, report):
        seen.append((done, report["t"]))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        s.run_epoch([x, y], np.tile(np.arange(4000), 50), 4, rates(core, 50_000), progress, 0.001)
    assert s.t == seen[-1][0] == seen[-1][1] < 50_000
    again = session(core)
    for i in range(s.t):
        rows = np.arange(4 * i, 4 * i + 4) % 4000
        again.step([x[rows], y[rows]], rates(core))
    assert s.digest() == again.digest()


@pytest.mark.parametrize("world", [1, 4])
def test_state_taken_out_and_put_back(world, core):
    rule = {"name": "adam", "bias_correction": True}
    values = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    s, other = session(core, world=world, rule=rule), session(core, rule=rule)
    batches = [data(n, n) for n in (16, 9, 30)]
    for x, y in batches:
        s.step([x, y], rates(core, **values))
    other.set_parameters(s.parameters())
    other.set_buffers(s.buffers())
    other.set_optimizer_state(s.optimizer_state())
    other.t = s.t
    for x, y in batches:
        s.step([x, y], rates(core, **values))
        other.step([x, y], rates(core, **values))
    assert s.t == other.t == 6
    for a, b in ((s.parameters(), other.parameters()), (s.buffers(), other.buffers())):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])


@pytest.mark.parametrize("bucket_bytes", [8, 100, 1 << 20])
def test_buckets_do_not_change_bits(bucket_bytes, core):
    one, other = session(core), session(core, world=4, bucket_bytes=bucket_bytes)
    for rows in (16, 7):
        one.step(list(data(rows)), rates(core))
        other.step(list(data(rows)), rates(core))
    assert one.digest() == other.digest()


def test_copies_are_copies(core):
    s = session(core)
    p = s.parameters()
    before = p["w"].copy()
    p["w"][...] = 0
    np.testing.assert_array_equal(s.parameters()["w"], before)
    given = {"w": before * 2, "b": p["b"]}
    s.set_parameters(given)
    given["w"][...] = 7
    np.testing.assert_array_equal(s.parameters()["w"], before * 2)


@pytest.mark.parametrize("world", [1, 2, 8])
def test_evaluation_and_prediction(world, core):
    s = session(core, world=world)
    w, b = s.parameters()["w"], s.parameters()["b"]
    x, y = data(37)
    loss, _, _, metric = reference(w, b, x, y)
    for batch in (1, 5, 16, 37, 1000):
        found = s.evaluate([x, y], batch)
        assert found["count"] == 37
        np.testing.assert_allclose([found["loss"], found["metrics"][0]], [loss, metric], rtol=1e-13)
        np.testing.assert_allclose(s.predict([x], batch)[0], x @ w.T + b, rtol=1e-13)
    assert s.t == 0 and not s.buffers()["seen"].any()


@pytest.mark.parametrize("world", [1, 4])
def test_gradients_of_one_batch_change_nothing(world, core):
    s = session(core, world=world)
    x, y = data(13)
    before = s.digest()
    _, d_w, d_b, _ = reference(s.parameters()["w"], s.parameters()["b"], x, y)
    found = s.gradients([x, y])
    np.testing.assert_allclose(found["w"], d_w, rtol=1e-13)
    np.testing.assert_allclose(found["b"], d_b, rtol=1e-13)
    assert s.digest() == before


def test_the_digest_sees_every_part(core):
    s = session(core, rule={"name": "sgd", "momentum": True})
    seen = {s.digest()}
    p = s.parameters()
    p["b"][1] = np.nextafter(p["b"][1], np.inf)
    s.set_parameters(p)
    seen.add(s.digest())
    s.set_buffers({"seen": np.full(FEATURES, 1e-300)})
    seen.add(s.digest())
    state = s.optimizer_state()
    state[0]["w"][0, 0] = 1e-300
    s.set_optimizer_state(state)
    seen.add(s.digest())
    assert len(seen) == 4


BAD_STEPS = [
    lambda x, y: [x],
    lambda x, y: [x, y, y],
    lambda x, y: [x[:, :3], y],
    lambda x, y: [x, y[:5]],
    lambda x, y: [x.astype(np.float32), y],
    lambda x, y: [x[0], y],
    lambda x, y: [x[:0], y[:0]],
    lambda x, y: [np.float64(1), y],
]


@pytest.mark.parametrize("bad", range(len(BAD_STEPS)))
def test_bad_batches_are_refused_and_nothing_is_lost(bad, core):
    s = session(core)
    x, y = data(16)
    s.step([x, y], rates(core))
    before = s.digest()
    with pytest.raises((ValueError, TypeError)):
        s.step(BAD_STEPS[bad](x, y), rates(core))
    assert s.digest() == before and s.t == 1
    s.step([x, y], rates(core))


@pytest.mark.parametrize("lead, more", [((), 0), ((2,), 0), ((1,), 1), ((1,), -1), ((2, 1), 0)])
def test_rates_of_another_shape_are_refused(lead, more, core):
    s = session(core)
    with pytest.raises(ValueError, match="rates"):
        s.step(list(data(4)), np.zeros((*lead, len(core.RATE_FIELDS) + more)))


@pytest.mark.parametrize(
    "config",
    [
        {"world": 0},
        {"world": -1},
        {"shards": 0},
        {"shards": 1025},
        {"threads": -1},
        {"threads": 1025},
        {"dtype": "float16"},
        {"rule": {"name": "lion"}},
        {"on_nonfinite": "ignore"},
        {"accumulate": 0},
    ],
)
def test_bad_configurations_are_refused(config, core):
    with pytest.raises((ValueError, TypeError)):
        session(core, **config)


@pytest.mark.parametrize(
    "values", [{"w": np.zeros((2, 2))}, {"v": np.zeros(3)}, {"b": np.zeros(3, np.float32)}, {"b": np.zeros(4)}]
)
def test_wrong_parameters_are_refused(values, core):
    s = session(core)
    before = s.digest()
    with pytest.raises((ValueError, TypeError, KeyError)):
        s.set_parameters({**s.parameters(), **values})
    assert s.digest() == before


@pytest.mark.parametrize("world", [1, 4])
def test_nan_names_where_it_came_from_and_the_state_stays(world, core):
    s = session(core, world=world)
    x, y = data(16)
    s.step([x, y], rates(core))
    before = s.digest()
    x[11, 2] = np.inf
    with pytest.raises(core.DivergedError, match="fc"):
        s.step([x, y], rates(core))
    assert s.digest() == before and s.t == 1
    skipping = session(core, world=world, on_nonfinite="skip")
    before = skipping.digest()
    assert skipping.step([x, y], rates(core))["skipped"] and skipping.digest() == before


def test_memory_is_reported_and_reused(core):
    s = session(core)
    s.step(list(data(64)), rates(core))
    first = s.memory()
    assert first["bytes_parameters"] >= (OUTPUTS * FEATURES + OUTPUTS) * 8 and first["bytes_activations"] > 0
    for rows in (1, 5, 64, 33):
        s.step(list(data(rows)), rates(core))
    assert s.memory()["bytes_activations"] == first["bytes_activations"]  # smaller batches run in the same arena


def test_batches_that_lie_elsewhere_are_read_there(tw):
    """In place, gathered, of another size in between (whose plan moves the memory), and in place again."""
    s, twin = session(tw._core), session(tw._core)
    x, y = data(96)
    far = [np.concatenate([a[::-1], a]).copy() for a in (x, y)]  # the same rows at other addresses
    order = np.arange(32, 64)
    for inputs, wanted in (
        ([x[:32], y[:32]], None),
        ([a[96:128] for a in far], None),
        ([x, y], order),
        ([x, y], None),  # 96 rows
        ([a[128:160] for a in far], None),
        ([x[:32], y[:32]], None),
    ):
        size = 32 if wanted is not None or len(inputs[0]) == 32 else 96
        got = s.run_epoch(inputs, wanted, size, rates(tw._core, 1))
        same = [np.array(a[wanted] if wanted is not None else a) for a in inputs]
        want = twin.step(same, rates(tw._core))
        assert got["loss"][0] == want["loss"]
    assert all(np.array_equal(s.parameters()[n], twin.parameters()[n]) for n in ("w", "b"))
    assert np.array_equal(s.buffers()["seen"], twin.buffers()["seen"])
