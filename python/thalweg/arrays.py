"""The one door for arrays: whatever comes in leaves C-contiguous, aligned, in native byte order and in the wanted
dtype.

Taken: NumPy arrays of any layout (strided, reversed, broadcast, read-only, big-endian), numbers, nested lists, and
objects with ``__dlpack__``, ``__array_interface__`` or ``__array__``. float16, integers and bools are converted to the
wanted real dtype. Refused with a TypeError that names the dtype: complex, object, text, dates, long double, masked
arrays, and arrays in a GPU's memory. Nothing else in the library touches a user's memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core

DTYPES = ("float32", "float64")
_INT32 = np.iinfo(np.int32)


def as_numpy(x: Any, where: str, name: str = "x") -> np.ndarray:
    """Turn x into a NumPy array of a real, integer or bool dtype, without a copy where that is possible.

    Raises: TypeError for a dtype or an object that is no array of real numbers.
    """
    if type(x) is not np.ndarray:
        x = _import(x, where, name)
    if x.dtype.kind not in "fiub" or x.dtype.itemsize > 8:
        raise TypeError(f"[{where}] {name} has dtype {x.dtype}, expected float32, float64, float16, integer or bool")
    return x


def real(x: Any, dtype: str, where: str, name: str = "x") -> np.ndarray:
    """Return x as a contiguous array of dtype ("float32" or "float64"); x itself where it is one already.

    Raises: TypeError as as_numpy; ValueError naming the first finite number that dtype does not hold.
    """
    x = as_numpy(x, where, name)
    if _ready(x, dtype):
        return x
    with np.errstate(over="ignore"):
        converted = np.require(x, dtype=dtype, requirements=("C", "A"))
    if x.dtype.kind == "f" and x.dtype.itemsize > converted.dtype.itemsize and not np.isfinite(converted).all():
        _held(x, converted, where, name)
    return converted


def index(x: Any, where: str, name: str = "y") -> np.ndarray:
    """Return x as a contiguous int32 array.

    Raises: TypeError for anything but integers; ValueError for a value that int32 does not hold.
    """
    x = as_numpy(x, where, name)
    if x.dtype.kind not in "iu":
        raise TypeError(f"[{where}] {name} has dtype {x.dtype}, expected integers (class numbers)")
    if _ready(x, np.int32):
        return x
    if x.size and x.dtype.itemsize >= 4 and (x.min() < _INT32.min or x.max() > _INT32.max):
        at = first_index((x < _INT32.min) | (x > _INT32.max))
        raise ValueError(f"[{where}] {name}{list(at)} = {x[at]} is outside int32")
    return np.require(x, dtype=np.int32, requirements=("C", "A"))


def labels(y: Any, classes: int, where: str, layer: str = "", name: str = "y") -> np.ndarray:
    """Return class numbers as a contiguous int32 array, each checked to lie in [0, classes).

    Raises: TypeError for anything but integers; ValueError naming the first label outside the range.
    """
    quick = _core.class_numbers(y, classes) if type(y) is np.ndarray else None
    if quick is not None:
        return quick
    y = index(y, where, name)
    if y.size and int(y.view(np.uint32).max()) >= classes:
        at = first_index((y < 0) | (y >= classes))
        place = f"layer {layer!r} has {classes} outputs" if layer else f"there are {classes} outputs"
        raise ValueError(f"[{where}] label {name}[{_join(at)}] = {y[at]} is outside [0, {classes}): {place}")
    return y


def finite(x: np.ndarray, where: str, name: str = "x") -> None:
    """Raise a ValueError naming the first element of x that is NaN or infinite."""
    quick = _ready(x, np.float32) or _ready(x, np.float64)  # the engine's look makes no array of flags
    if quick and _core.first_non_finite(x) < 0:
        return
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        at = first_index(~np.isfinite(x))
        count = int(x.size - np.isfinite(x).sum())
        raise ValueError(f"[{where}] {name}[{_join(at)}] = {x[at]}: {count} of {x.size} values are not finite")


def is_number(x: Any) -> bool:
    """Tell whether x is a Python number (which takes the dtype of the arrays around it)."""
    return isinstance(x, (bool, int, float)) and not isinstance(x, np.generic)


def common_dtype(xs: Any) -> str:
    """Return "float64" if any of the arrays is float64, else "float32"."""
    return "float64" if any(_is_float64(x) for x in xs) else "float32"


def check_dtype(dtype: Any, where: str) -> str:
    """Return the name of a supported precision; ValueError for any other, TypeError for what is no NumPy dtype."""
    try:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        name = None
    if dtype is None or name is None:  # to NumPy None means float64, which nobody asked for
        raise TypeError(f"[{where}] dtype is {dtype!r}, expected 'float32' or 'float64'")
    if name not in DTYPES:
        raise ValueError(f"[{where}] dtype is {name!r}, expected 'float32' or 'float64'")
    return name


def first_index(mask: np.ndarray) -> tuple[int, ...]:
    """Return the position of the first true element, in row order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _held(x: np.ndarray, converted: np.ndarray, where: str, name: str) -> None:
    lost = np.isfinite(x) & ~np.isfinite(converted)
    if lost.any():
        at = first_index(lost)
        raise ValueError(
            f"[{where}] {name}[{_join(at)}] = {x[at]} is beyond {converted.dtype}: scale it, or use dtype='float64'"
        )


def _ready(x: np.ndarray, dtype: Any) -> bool:
    return x.dtype == dtype and x.dtype.isnative and x.flags.c_contiguous and x.flags.aligned


def _is_float64(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f" and x.dtype.itemsize == 8


def _join(at: tuple[int, ...]) -> str:
    return ", ".join(map(str, at))


def _import(x: Any, where: str, name: str) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"[{where}] {name} is a masked array: fill it first, x.filled(value)")
    if isinstance(x, np.ndarray):
        return x.view(np.ndarray)
    try:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array_interface__") and not isinstance(x, np.generic):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, BufferError, AttributeError) as error:
        raise TypeError(
            f"[{where}] {name} is a {type(x).__name__} that gives no array in main memory: {error}"
        ) from None
