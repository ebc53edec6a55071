"""Element operators that run inside a product: the bits of one operator after the other, in values and derivatives."""

import numpy as np
import pytest
from thalweg import _core

RNG = np.random.default_rng(11)


def compile_and_run(record, arrays, dtype="float32", threads=2):
    """The outputs of record(graph, values) on the arrays."""
    graph = _core.Graph()
    values = [graph.input(f"in{i}", a.shape) for i, a in enumerate(arrays)]
    return _core.Function(graph, values, record(graph, values), dtype, False, threads)(arrays)


def conv(shape, weight, **attrs):
    pads = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
    return "conv2d", [shape, weight, (weight[0],)], {**pads, **attrs}


PRODUCTS = {
    "batch norm in evaluation": ("batch_norm_inference", [(9, 7, 3, 10), (10,), (10,), (10,), (10,)], {"eps": 1e-5}),
    "batch norm past the caches": ("batch_norm_inference", [(70, 40, 40, 40), (40,), (40,)], {"eps": 1e-5}),
    "small linear": ("linear", [(5, 7), (9, 7), (9,)], {}),
    "linear of several panels and chunks": ("linear", [(130, 700), (300, 700), (300,)], {}),
    "linear past the caches": ("linear", [(700, 20), (6100, 20), (6100,)], {}),
    "rows of a batch of matrices": ("linear", [(6, 40, 30), (50, 30), (50,)], {}),
    "batched matmul": ("matmul", [(4, 33, 20), (4, 20, 47)], {}),
    "conv": conv((6, 9, 10, 5), (40, 3, 3, 5), padding=[1, 1, 1, 1]),
    "conv in bands of rows": conv((2, 60, 70, 20), (33, 3, 3, 20)),
    "conv of few channels": conv((16, 12, 12, 1), (6, 5, 5, 1)),
    "strided conv": conv((4, 11, 12, 6), (20, 3, 3, 6), stride=[2, 2]),
    "grouped conv": conv((4, 9, 9, 8), (12, 3, 3, 4), groups=2),
    "depthwise conv": conv((4, 9, 9, 8), (8, 3, 3, 1), groups=8),
}


def arrays_of(name, dtype):
    _, shapes, _ = PRODUCTS[name]
    arrays = [RNG.standard_normal(shape).astype(dtype) for shape in shapes]
    if name.startswith("batch norm"):
        arrays[2] = abs(arrays[2])  # a variance
    return arrays


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_chain_has_the_bits_of_its_operators(name, dtype, threads):
    op, _, attrs = PRODUCTS[name]
    arrays = arrays_of(name, dtype)
    [product] = compile_and_run(lambda g, v: g.apply(op, v, attrs), arrays, dtype, 1)
    other = RNG.standard_normal(product.shape).astype(dtype)

    def chain(g, z, v):  # z is read again after it was followed
        after = g.apply("add", [g.apply("tanh", [z], {})[0], v], {})[0]
        return [z, g.apply("relu", [g.apply("mul", [after, z], {})[0]], {})[0]]

    joined = compile_and_run(
        lambda g, v: chain(g, g.apply(op, v[:-1], attrs)[0], v[-1]), [*arrays, other], dtype, threads
    )
    apart = compile_and_run(lambda g, v: chain(g, *v), [product, other], dtype, 1)
    for a, b in zip(joined, apart, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "name", ["small linear", "batch norm in evaluation", "linear of several panels and chunks", "conv", "strided conv"]
)
def test_what_follows_a_backward_product(name):
    """d_x of a product, then relu's derivative inside it."""
    op, shapes, attrs = PRODUCTS[name]
    arrays = arrays_of(name, "float32")
    below = RNG.standard_normal(shapes[0]).astype("float32")
    [y] = compile_and_run(lambda g, v: g.apply(op, v, attrs), arrays)
    d_y = RNG.standard_normal(y.shape).astype("float32")

    def joined(g, v):
        x = g.apply("relu", [v[0]], {})[0]
        return g.gradient(g.apply(op, [x, *v[1:-1]], attrs)[0], [v[0]], v[-1])

    [d_below] = compile_and_run(joined, [below, *arrays[1:], d_y])
    relu = np.maximum(below, 0)
    [d_x] = compile_and_run(
        lambda g, v: g.gradient(g.apply(op, v[:-1], attrs)[0], [v[0]], v[-1]), [relu, *arrays[1:], d_y]
    )
    assert d_below.tobytes() == np.where(below > 0, d_x, 0).astype("float32").tobytes()


def test_a_step_names_what_runs_inside_and_needs_no_memory_between(tw):
    def trained(*layers):
        trainer = tw.Trainer(tw.nn.Sequential(*layers), tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1))
        trainer.step(np.ones((64, 30), np.float32), np.zeros(64, np.int32))
        return trainer, trainer.summary().memory["bytes_activations"]

    x, y = np.ones((64, 30), np.float32), np.zeros(64, np.int32)
    trainer, with_relu = trained(tw.nn.Linear(500), tw.nn.ReLU(), tw.nn.Linear(3))
    _, without = trained(tw.nn.Linear(500), tw.nn.Linear(3))
    assert with_relu - without < 64 * 500 * 4 / 2
    names = [row.op for row in tw.profile(trainer, x, y, repeats=1).rows]
    assert "linear + relu" in names and "linear_backward_input + relu_backward" in names


def test_a_divergence_names_the_operator_that_made_it_though_another_hides_it(tw):
    """relu(-inf) is 0: the product is looked at before what follows it."""
    net = tw.nn.Sequential(tw.nn.Linear(4, bias=False), tw.nn.ReLU(), tw.nn.Linear(3))
    trainer = tw.Trainer(net, tw.losses.CrossEntropy(), tw.optim.SGD(lr=0.1))
    x, y = np.full((8, 2), 1e38, np.float32), np.zeros(8, np.int32)
    trainer.build(x, y)
    values = trainer.parameters()
    values["0.weight"][:] = [[-30, -30], [1e-38, 0], [1e-38, 0], [30, 30]]
    trainer.set_parameters(values)
    with pytest.raises(tw.DivergedError, match="output of linear in '0'"):
        trainer.step(x, y)


def test_many_readers_of_a_product_are_not_all_in_memory_at_once(tw):
    ops = tw.ops

    class Many(tw.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = tw.nn.Linear(256)

        def forward(self, x):
            z, total = self.fc(x), 0.0
            for f in (ops.tanh, ops.sigmoid, ops.gelu, ops.softplus, ops.exp, ops.sin, ops.cos, ops.erf):
                total = total + ops.mean(f(z), axis=-1, keepdims=True)
            return total

    trainer = tw.Trainer(Many(), tw.losses.MSE(), tw.optim.SGD(lr=0.1))
    trainer.build(np.ones((4, 8), np.float32), np.ones((4, 1), np.float32))
    trainer.predict(np.ones((4096, 8), np.float32), batch_size=4096)
    assert trainer.summary().memory["bytes_activations"] < 4 * 4096 * 256 * 4  # of 9
