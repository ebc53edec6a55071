"""Layers and networks. Names follow torch.nn; input sizes are inferred, and images are channels-last (n, h, w, c)."""

from .containers import Concat, ModuleDict, ModuleList, Residual, Sequential
from .describe import build, describe
from .functional import functional_call
from .layers import Conv2d, Linear
from .module import Buffer, Module, Parameter, is_training
from .norm import BatchNorm, LayerNorm
from .simple import (
    GELU,
    AvgPool2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Identity,
    LeakyReLU,
    LogSoftmax,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm",
    "Buffer",
    "Concat",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "build",
    "describe",
    "functional_call",
    "is_training",
]
