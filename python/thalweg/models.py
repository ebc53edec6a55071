"""Ready networks: a multi-layer perceptron, LeNet-5, ResNet-20."""

from __future__ import annotations

from collections.abc import Sequence

from . import nn

_ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


def mlp(
    hidden: Sequence[int] = (128,),
    classes: int = 10,
    *,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Dense layers of the given widths on flattened input, then `classes` outputs.

    activation: relu, leaky_relu, tanh, sigmoid, gelu or softplus. Raises: ValueError for another.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"[models.mlp] activation is {activation!r}, expected one of {', '.join(_ACTIVATIONS)}")
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(width, bias=not batch_norm)]
        layers += [nn.BatchNorm()] if batch_norm else []
        layers += [_ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(classes))


def lenet5(classes: int = 10, *, padding: Sequence[int] = (2, 2)) -> nn.Sequential:
    """LeNet-5 for grey images (n, h, w, 1): two 5x5 convolutions with tanh and average pools, three dense layers.

    padding: of the two convolutions. (2, 2) keeps sizes, for images from 4x4 on; (2, 0) is LeCun's network at 28x28,
    with every map connected. Source: LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition.
    """
    first, second = padding
    return nn.Sequential(
        *[nn.Conv2d(6, 5, padding=first), nn.Tanh(), nn.AvgPool2d(2)],
        *[nn.Conv2d(16, 5, padding=second), nn.Tanh(), nn.AvgPool2d(2)],
        *[nn.Flatten(), nn.Linear(120), nn.Tanh(), nn.Linear(84), nn.Tanh(), nn.Linear(classes)],
    )


def resnet20(classes: int = 10, width: int = 16) -> nn.Sequential:
    """ResNet-20 for small images (n, h, w, c): three stages of three blocks, widths 16, 32, 64; 0.27 million
    parameters.

    Shortcuts that change the size are 1x1 convolutions. Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """
    layers: list[nn.Module] = [*_conv_norm(width, 1), nn.ReLU()]
    for stage in range(3):
        for block in range(3):
            layers += _block(width << stage, 2 if stage and not block else 1)
    return nn.Sequential(*layers, nn.GlobalAvgPool2d(), nn.Linear(classes))


def _conv_norm(channels: int, stride: int, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(channels, kernel, stride=stride, padding=kernel // 2, bias=False), nn.BatchNorm()]


def _block(channels: int, stride: int) -> list[nn.Module]:
    body = nn.Sequential(*_conv_norm(channels, stride), nn.ReLU(), *_conv_norm(channels, 1))
    shortcut = nn.Sequential(*_conv_norm(channels, stride, 1)) if stride > 1 else None
    return [nn.Residual(body, shortcut), nn.ReLU()]
