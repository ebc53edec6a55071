"""Elementwise arithmetic with NumPy's broadcasting.

Shapes: any that broadcast. dtypes: float32 or float64 (float64 if any array is); Python numbers take the arrays' dtype;
integer and bool arrays become float32. Beside a symbolic batch, other operands are batched too, or have extent 1 (or no
axis at all) where the batch is.
Returns: an array for arrays, a symbolic tensor for symbolic tensors.
Raises: TypeError for complex, object or text arrays; ValueError for shapes that don't broadcast.
"""

from __future__ import annotations

from .dispatch import Array, materialise, one


def add(a: Array, b: Array) -> Array:
    """Add: a + b."""
    return one("add", a, b)


def sub(a: Array, b: Array) -> Array:
    """Subtract: a - b."""
    return one("sub", a, b)


def mul(a: Array, b: Array) -> Array:
    """Multiply element by element: a b."""
    return one("mul", a, b)


def div(a: Array, b: Array) -> Array:
    """Divide: a / b, with IEEE's infinities and NaN for b = 0."""
    return one("div", a, b)


def maximum(a: Array, b: Array) -> Array:
    """Take the greater of a and b; at ties each gets half of the gradient."""
    return one("maximum", a, b)


def minimum(a: Array, b: Array) -> Array:
    """Take the smaller of a and b; at ties each gets half of the gradient."""
    return one("minimum", a, b)


def pow(a: Array, b: Array) -> Array:
    """Raise to a power: a^b."""
    return one("pow", a, b)


def greater(a: Array, b: Array) -> Array:
    """Compare: 1 where a > b, else 0. No gradient."""
    return one("greater", a, b)


def greater_equal(a: Array, b: Array) -> Array:
    """Compare: 1 where a >= b, else 0. No gradient."""
    return one("greater_equal", a, b)


def less(a: Array, b: Array) -> Array:
    """Compare: 1 where a < b, else 0. No gradient."""
    return one("less", a, b)


def less_equal(a: Array, b: Array) -> Array:
    """Compare: 1 where a <= b, else 0. No gradient."""
    return one("less_equal", a, b)


def equal(a: Array, b: Array) -> Array:
    """Compare: 1 where a = b, else 0. No gradient."""
    return one("equal", a, b)


def not_equal(a: Array, b: Array) -> Array:
    """Compare: 1 where a != b, else 0. No gradient."""
    return one("not_equal", a, b)


def where(condition: Array, a: Array, b: Array) -> Array:
    """Choose: a where condition is not zero, b elsewhere. The condition gets no gradient."""
    return one("where", condition, a, b)


def clip(x: Array, min: Array | None = None, max: Array | None = None) -> Array:
    """Keep x within bounds: max where x > max, else min where x < min; one bound may be left out. NaN stays.

    At a bound the gradient goes to x. Raises: ValueError without any bound.
    """
    if min is None and max is None:
        raise ValueError("[clip] min and max are None, expected at least one bound")
    [x] = materialise([x], "clip")
    x = x if min is None else where(less(x, min), min, x)
    return x if max is None else where(greater(x, max), max, x)


def neg(x: Array) -> Array:
    """Negate: -x."""
    return one("neg", x)


def exp(x: Array) -> Array:
    """Take the exponential: e^x."""
    return one("exp", x)


def expm1(x: Array) -> Array:
    """Take e^x - 1, exact near 0."""
    return one("expm1", x)


def log(x: Array) -> Array:
    """Take the natural logarithm; -inf at 0, NaN below."""
    return one("log", x)


def log1p(x: Array) -> Array:
    """Take log(1 + x), exact near 0."""
    return one("log1p", x)


def sqrt(x: Array) -> Array:
    """Take the square root; NaN below 0."""
    return one("sqrt", x)


def square(x: Array) -> Array:
    """Square: x^2."""
    return one("square", x)


def abs(x: Array) -> Array:
    """Take the magnitude; the derivative at 0 is 0."""
    return one("abs", x)


def sin(x: Array) -> Array:
    """Take the sine of x in radians."""
    return one("sin", x)


def cos(x: Array) -> Array:
    """Take the cosine of x in radians."""
    return one("cos", x)


def erf(x: Array) -> Array:
    """Take the error function: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return one("erf", x)
