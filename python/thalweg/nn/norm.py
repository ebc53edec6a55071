"""Normalization layers."""

from __future__ import annotations

from typing import Any

from .. import init as initial
from .. import ops
from ..ops.axes import integer, number, one_of
from ..ops.batch_norm import batch_norm_running, batch_norm_with_statistics
from ..symbolic import SymbolicTensor
from .layers import last_extent
from .module import Buffer, Module, Parameter, is_training


class BatchNorm(Module):
    """Batch normalization of each channel (the last axis): of features (n, c) and of images (n, h, w, c) alike.

      training:   y = gamma (x - mean) / sqrt(var + eps) + beta, mean and biased var of the batch over all ranks
      evaluation: the same with running statistics, new = (1 - momentum) old + momentum batch
    running_var: "unbiased" (as torch) or "biased" variance enters the running one. affine=False leaves out gamma and
    beta. sync="rank": each rank normalises by its own rows, and exchanges nothing that its step waits for in backward;
    the result depends on the number of ranks then. The running statistics are those of all rows, on every rank.
    Raises: TypeError for what is no number; ValueError for eps < 0, momentum outside [0, 1], another running_var or
    sync, or one value per channel in training.
    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    def __init__(
        self,
        *more: Any,
        momentum: float = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        running_var: str = "unbiased",
        sync: str = "all",
    ) -> None:
        super().__init__()
        if more:
            raise TypeError(f"BatchNorm({', '.join(map(repr, more))}): the number of channels is inferred: BatchNorm()")
        one_of(running_var, "BatchNorm", "running_var", ("unbiased", "biased"))
        self.sync = one_of(sync, "BatchNorm", "sync", ("all", "rank"))
        self.momentum = number(momentum, "BatchNorm", "momentum", 0, 1)
        self.eps = number(eps, "BatchNorm", "eps", 0)
        self.running_variance = running_var
        self.gamma = Parameter(None, initial.ones()) if affine else None
        self.beta = Parameter(None, initial.zeros()) if affine else None
        self.running_mean = Buffer(None, 0.0)
        self.running_var = Buffer(None, 1.0)

    def forward(self, x: SymbolicTensor) -> Any:
        channels = last_extent(x, "BatchNorm", 2, "(n, ..., channels)")
        gamma, beta = (p.infer(channels) if p is not None else None for p in (self.gamma, self.beta))
        mean, var = self.running_mean.infer(channels), self.running_var.infer(channels)
        if not is_training():
            return ops.batch_norm_inference(x, mean, var, gamma, beta, eps=self.eps)
        y, statistics = batch_norm_with_statistics(x, gamma, beta, eps=self.eps, sync=self.sync)
        new_mean, new_var = batch_norm_running(
            mean, var, statistics, x, momentum=self.momentum, unbiased=self.running_variance == "unbiased"
        )
        self.running_mean.update(new_mean)
        self.running_var.update(new_var)
        return y

    def options(self) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "eps": self.eps,
            "affine": self.gamma is not None,
            "running_var": self.running_variance,
            **({"sync": self.sync} if self.sync != "all" else {}),
        }


class LayerNorm(Module):
    """Layer normalization over the last `dims` axes (see ops.layer_norm), with scale gamma and shift beta if affine.

    Raises: TypeError for what is no number; ValueError for dims < 1 or eps < 0.
    """

    def __init__(self, *more: Any, dims: int = 1, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        if more:
            raise TypeError(f"LayerNorm({', '.join(map(repr, more))}): the shape is inferred: LayerNorm(dims=1)")
        self.dims = integer(dims, "LayerNorm", "dims", 1)
        self.eps = number(eps, "LayerNorm", "eps", 0)
        self.gamma = Parameter(None, initial.ones()) if affine else None
        self.beta = Parameter(None, initial.zeros()) if affine else None

    def forward(self, x: SymbolicTensor) -> Any:
        last_extent(x, "LayerNorm", self.dims + 1, f"at least {self.dims + 1} axes")
        shape = x.shape[-self.dims :]
        gamma, beta = (p.infer(*shape) if p is not None else None for p in (self.gamma, self.beta))
        return ops.layer_norm(x, gamma, beta, dims=self.dims, eps=self.eps)

    def options(self) -> dict[str, Any]:
        return {"dims": self.dims, "eps": self.eps, "affine": self.gamma is not None}
