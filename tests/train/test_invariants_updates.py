"""What an update may and may not do: exact clipping, gradients untouched, frozen and shared parameters, memory."""

import gc
import os

import numpy as np
import pytest

from .test_invariants_batches import data, dense, make, reference_gradient

keeps_freed_memory = pytest.mark.skipif(
    "THALWEG_SANITIZED" in os.environ, reason="the address sanitizer keeps freed memory for a while"
)


def gradient_norm(gradient):
    return float(np.sqrt(sum((g**2).sum() for g in gradient.values())))


@pytest.mark.parametrize("world", [1, 4])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_clipping_scales_by_exactly_max_over_norm(share, world, tw):
    """Torch divides by norm + 1e-6; here the clipped norm is the limit itself."""
    x, y = data(24)
    net = dense(tw)
    probe = make(tw, net)
    probe.build(x, y)
    _, gradient = reference_gradient(tw, net, probe.parameters(), x, y)
    limit = share * gradient_norm(gradient)
    trainer = make(tw, net, max_norm=limit, world=world)
    trainer.build(x, y)
    before = trainer.parameters()
    report = trainer.step(x, y)
    assert abs(report.grad_norm - gradient_norm(gradient)) < 1e-12  # the norm before clipping is what is reported
    step = {k: (before[k] - v) / 0.1 for k, v in trainer.parameters().items()}
    assert abs(gradient_norm(step) - limit) < 1e-11 * limit
    for name, g in gradient.items():
        np.testing.assert_allclose(step[name], share * g, rtol=1e-9, atol=1e-13)


def test_a_norm_below_the_limit_changes_no_bit(tw):
    x, y = data(24)
    plain, limited = make(tw, dense(tw)), make(tw, dense(tw), max_norm=1e3)
    for _ in range(3):
        plain.step(x, y)
        limited.step(x, y)
    for name, value in plain.parameters().items():
        np.testing.assert_array_equal(limited.parameters()[name], value)


@pytest.mark.parametrize(
    "make_rule",
    [
        lambda o: o.SGD(lr=0.0, momentum=0.9, weight_decay=0.1),
        lambda o: o.SGD(lr=0.0, momentum=0.9, nesterov=True),
        lambda o: o.Adam(lr=0.0, weight_decay=0.1),
        lambda o: o.AdamW(lr=0.0, weight_decay=0.1),
        lambda o: o.RMSprop(lr=0.0, weight_decay=0.1),
        lambda o: o.Adagrad(lr=0.0, weight_decay=0.1),
    ],
)
def test_no_optimizer_writes_into_the_gradient(make_rule, tw):
    """With a learning rate of 0 every step sees the same parameters: gradients of later steps keep their bits."""
    x, y = data(24)
    trainer = make(tw, dense(tw), optimizer=make_rule(tw.optim), max_norm=0.01)
    first = trainer.gradients(x, y)
    norms = [trainer.step(x, y).grad_norm for _ in range(3)]
    assert norms[0] == norms[1] == norms[2]
    for name, g in trainer.gradients(x, y).items():
        np.testing.assert_array_equal(g, first[name])


def test_gradients_are_the_mean_over_the_samples(tw):
    x, y = data(13)
    net = dense(tw)
    for world in (1, 4):
        trainer = make(tw, net, world=world)
        found = trainer.gradients(x, y)
        _, expected = reference_gradient(tw, net, trainer.parameters(), x, y)
        for name, g in expected.items():
            np.testing.assert_allclose(found[name], g, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("rule", ["SGD", "Adam", "AdamW"])
def test_frozen_parameters_keep_their_bits(rule, tw):
    x, y = data(24)
    net = dense(tw)
    net[0].freeze()
    options = {"weight_decay": 0.1, **({"momentum": 0.9} if rule == "SGD" else {})}
    trainer = make(tw, net, optimizer=getattr(tw.optim, rule)(lr=0.1, **options))
    trainer.build(x, y)
    before = trainer.parameters()
    frozen = [name for name in before if name.startswith("0.")]
    assert frozen and len(frozen) < len(before)
    reports = [trainer.step(x, y) for _ in range(3)]
    after = trainer.parameters()
    for name, value in before.items():
        assert (after[name].tobytes() == value.tobytes()) == (name in frozen), name
    _, gradient = reference_gradient(tw, net, before, x, y)
    rest = {k: g for k, g in gradient.items() if k not in frozen}
    assert abs(reports[0].grad_norm - gradient_norm(rest)) < 1e-12  # the norm counts trained parameters only


def test_shared_parameters_get_the_sum_of_their_gradients(tw, torch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 7)), rng.integers(0, 7, 10)
    layer = tw.nn.Linear(7)
    trainer = make(tw, tw.nn.Sequential(layer, tw.nn.Tanh(), layer, tw.nn.Tanh(), layer))
    trainer.build(x, y)
    before = trainer.parameters()
    assert len(before) == 2
    trainer.step(x, y)
    w, b = (torch.from_numpy(v).requires_grad_() for v in before.values())
    h = torch.from_numpy(x)
    for i in range(3):
        h = torch.nn.functional.linear(torch.tanh(h) if i else h, w, b)
    torch.nn.functional.cross_entropy(h, torch.from_numpy(y), label_smoothing=0.1).backward()
    for (name, after), p in zip(trainer.parameters().items(), (w, b), strict=True):
        np.testing.assert_allclose(after, before[name] - 0.1 * p.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_a_non_finite_gradient_stops_with_the_layer_named_and_nothing_lost(tw):
    x, y = data(24)
    trainer = make(tw, dense(tw), optimizer=tw.optim.SGD(lr=1e308))
    before = None
    with pytest.raises(tw.DivergedError) as caught:
        for _ in range(10):
            before = trainer.parameters() if trainer.t else None
            trainer.step(x, y)
    assert any(part in str(caught.value) for part in ("'0'", "'1'", "'3'", "0.weight", "3.weight", "1.gamma"))
    assert before is None or all(np.isfinite(v).all() for v in before.values())
    for name, value in trainer.parameters().items():
        assert before is None or value.tobytes() == before[name].tobytes(), name


def test_a_step_can_be_skipped_instead(tw):
    """A loss that overflows for one batch: the step is counted as skipped, the next one trains."""
    x, _ = data(24)
    trainer = make(
        tw, dense(tw, False), loss=lambda p, t: tw.ops.exp(tw.ops.mse(p, t, reduction="none")), on_nonfinite="skip"
    )
    good, bad = np.zeros((24, 4)), np.full((24, 4), 1e3)
    assert not trainer.step(x, good).skipped
    before = trainer.parameters()
    assert trainer.step(x, bad).skipped
    for name, value in trainer.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    assert not trainer.step(x, good).skipped


def resident_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@keeps_freed_memory
@pytest.mark.timeout(120)
@pytest.mark.parametrize("world", [1, 4])
def test_memory_and_descriptors_stay_the_same_over_many_steps(world, tw):
    x, y = data(40)
    x = x.astype(np.float32)
    trainer = make(tw, dense(tw), world=world, dtype="float32", optimizer=tw.optim.Adam(lr=1e-3))

    def work(n):
        for i in range(n):
            trainer.step(x[: 16 + i % 3], y[: 16 + i % 3])  # three plans in turn
        trainer.fit(x, y, epochs=20, batch_size=16, verbose=0)
        trainer.evaluate(x, y, batch_size=16)
        gc.collect()

    work(300)
    before, open_before = resident_bytes(), descriptors()
    work(3000 if world == 1 else 600)
    assert resident_bytes() - before < 2 << 20
    assert descriptors() == open_before


@keeps_freed_memory
def test_trainers_and_functions_give_their_memory_back(tw):
    x, y = data(40)

    def work(n):
        for i in range(n):
            trainer = make(tw, dense(tw), seed=i, world=2)
            trainer.step(x, y)
            tw.grad(lambda a: tw.ops.sum(tw.ops.square(a)))(x)
            for shape in ((i + 1, 7), (7, i + 1)):  # a new signature every time: caches are bounded
                tw.ops.relu(np.ones(shape))
        gc.collect()

    work(150)
    before, open_before = resident_bytes(), descriptors()
    work(300)
    assert resident_bytes() - before < 24 << 20
    assert descriptors() <= open_before
