"""The operators: functions that run at once on arrays and record on symbolic tensors.

Arrays are what thalweg.arrays takes; results are NumPy arrays of float32, or float64 where an argument is float64.
Images are channels-last (n, h, w, c). Inside nn.Module.forward and under tw.grad and its kin the same functions record.
"""

from .activation import gelu, leaky_relu, relu, sigmoid, softplus, tanh
from .batch_norm import batch_norm, batch_norm_inference
from .conv2d import conv2d
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    cos,
    div,
    equal,
    erf,
    exp,
    expm1,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    mul,
    neg,
    not_equal,
    pow,
    sin,
    sqrt,
    square,
    sub,
    where,
)
from .layer_norm import layer_norm
from .loss import correct, cross_entropy, mse
from .matmul import linear, matmul
from .pooling import avg_pool2d, global_avg_pool2d, global_max_pool2d, max_pool2d
from .reduce import max, mean, min, sum
from .shape import broadcast_to, concat, flatten, index, reshape, slice, split, transpose
from .softmax import log_softmax, softmax

__all__ = [
    "abs",
    "add",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_inference",
    "broadcast_to",
    "concat",
    "conv2d",
    "correct",
    "cos",
    "cross_entropy",
    "div",
    "dropout",
    "equal",
    "erf",
    "exp",
    "expm1",
    "flatten",
    "gelu",
    "global_avg_pool2d",
    "global_max_pool2d",
    "greater",
    "greater_equal",
    "index",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "linear",
    "log",
    "log1p",
    "log_softmax",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse",
    "mul",
    "neg",
    "not_equal",
    "pow",
    "relu",
    "reshape",
    "sigmoid",
    "sin",
    "slice",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "where",
]
