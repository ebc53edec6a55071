"""Matrix products and convolutions: against NumPy in float64, and their bits. The order of every addition is checked
by products_check.cpp and squares_check.cpp, compiled here for each instruction set that the processor has."""

import numpy as np
import pytest

from .conftest import ROOT

SOURCES = [*sorted((ROOT / "cpp/exec").glob("*.cpp")), ROOT / "cpp/tensor/arena.cpp"]
EPS = {np.float32: 2e-7, np.float64: 4e-16}


@pytest.mark.timeout(600)  # compiles for a minute where nothing else runs
@pytest.mark.parametrize("program", ["products_check", "squares_check"])
def test_order_of_every_addition(program, tw, programs):
    hashes = programs.found(program, tw._core.isas(), SOURCES)
    assert len(set(hashes.values())) == 1, hashes


def arrays(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (13, 31, 5), (14, 32, 256), (15, 33, 257), (200, 10, 700), (3, 129, 0)])
def test_matmul(tw, dtype, m, n, k):
    a, b = arrays(dtype, (m, k), (k, n))
    y = tw.ops.matmul(a, b)
    bound = EPS[dtype] * (4 + np.sqrt(k)) * (np.abs(a).astype(np.float64) @ np.abs(b) + 1)
    assert y.dtype == dtype and y.shape == (m, n)
    assert np.all(np.abs(y - a.astype(np.float64) @ b.astype(np.float64)) <= bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_element_depends_on_its_row_and_column_only(tw, dtype):
    a, b = arrays(dtype, (71, 600), (600, 83))
    y = tw.ops.matmul(a, b)
    assert np.array_equal(tw.ops.matmul(a[3:12], b), y[3:12])
    assert np.array_equal(tw.ops.matmul(a, np.ascontiguousarray(b[:, 40:51])), y[:, 40:51])
    assert np.array_equal(tw.ops.linear(a, np.ascontiguousarray(b.T)), y)
    assert np.array_equal(tw.ops.matmul(np.stack([a, a]), np.stack([b, b]))[1], y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convolution_that_is_a_matrix_product_has_its_bits(tw, dtype):
    x, weight = arrays(dtype, (3, 5, 7, 300), (20, 1, 1, 300))
    y = tw.ops.conv2d(x, weight)
    assert np.array_equal(y.reshape(-1, 20), tw.ops.linear(x.reshape(-1, 300), weight.reshape(20, 300)))
    x, weight = arrays(dtype, (4, 3, 3, 40), (9, 3, 3, 40))  # the kernel covers the image
    y = tw.ops.conv2d(x, weight)
    assert np.array_equal(y.reshape(4, 9), tw.ops.linear(x.reshape(4, -1), weight.reshape(9, -1)))


@pytest.mark.parametrize("channels, groups, stride", [(12, 1, 2), (12, 4, 2), (16, 1, 1), (64, 2, 1)])
def test_an_image_depends_on_itself_only(tw, channels, groups, stride):
    x, weight = arrays(np.float32, (7, 9, 10, channels), (2 * channels, 3, 3, channels // groups))
    options = {"stride": stride, "padding": 1, "groups": groups}
    y = tw.ops.conv2d(x, weight, **options)
    assert np.array_equal(tw.ops.conv2d(x[2:5], weight, **options), y[2:5])


@pytest.mark.parametrize("channels", [16, 256])
@pytest.mark.parametrize("positive", [False, True])
def test_squares_of_outputs_are_nearly_as_exact_as_plain_sums(channels, positive, tw):
    """By F(2x2, 3x3) or not: y, d_x and d_w beside float64, whose sums are always plain ones."""
    x, weight, d_y = arrays(np.float32, (8, 12, 12, channels), (32, 3, 3, channels), (8, 12, 12, 32))
    x = np.maximum(x, 0) if positive else x

    def results(kind, algorithm):
        def f(x, weight):
            return tw.ops.sum(tw.ops.conv2d(x, weight, padding=1, algorithm=algorithm) * d_y.astype(kind))

        y = tw.ops.conv2d(x.astype(kind), weight.astype(kind), padding=1, algorithm=algorithm)
        return [y, *tw.grad(f, argnums=(0, 1))(x.astype(kind), weight.astype(kind))]

    def error(of, exact):
        return float(np.sqrt(np.mean((of - exact) ** 2)))

    exact, auto, direct = results(np.float64, "auto"), results(np.float32, "auto"), results(np.float32, "direct")
    for a, d, e in zip(auto, direct, exact, strict=True):
        assert not np.array_equal(a, d) and error(a, e) < 2.5 * error(d, e)


def test_squares_of_whole_numbers_are_exact(tw):
    whole = [np.rint(4 * v) for v in arrays(np.float32, (2, 9, 10, 16), (17, 3, 3, 16))]
    assert np.array_equal(*(tw.ops.conv2d(*whole, padding=1, algorithm=how) for how in ("auto", "direct")))


def test_one_large_pixel_disturbs_its_square_alone(tw):
    x, weight = arrays(np.float32, (1, 12, 12, 16), (16, 3, 3, 16))
    y = tw.ops.conv2d(x, weight, padding=1)
    x[0, 5, 5, 3] = np.inf
    other = tw.ops.conv2d(x, weight, padding=1)
    changed = np.any(other != y, axis=(0, 3))
    assert np.all(np.isfinite(other[0, ~changed])) and not np.any(np.isfinite(other[0, 4:7, 4:7]))
    assert np.argwhere(changed).min() >= 4 and np.argwhere(changed).max() <= 7
    direct = tw.ops.conv2d(x, weight, padding=1, algorithm="direct")
    assert np.array_equal(np.isfinite(direct[0]).all(axis=-1), np.abs(np.mgrid[:12, :12] - 5).max(axis=0) > 1)


def test_no_rows(tw):
    x, weight = arrays(np.float32, (0, 8, 8, 3), (4, 3, 3, 3))
    assert tw.ops.conv2d(x, weight).shape == (0, 6, 6, 4)
    assert tw.ops.matmul(np.zeros((0, 5), np.float32), np.zeros((5, 2), np.float32)).shape == (0, 2)
