"""Slow float64 references of the operators, in plain NumPy: one obvious formula each, no code shared with the engine.

Images are (N, H, W, C), convolution weights (out, kh, kw, in / groups).
"""

import math

import numpy as np

ref_erf = np.vectorize(math.erf, otypes=[np.float64])


def ref_leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


def ref_sigmoid(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def ref_gelu(x):
    return 0.5 * x * (1 + ref_erf(x / math.sqrt(2)))


def ref_gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def ref_softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def ref_linear(x, weight, bias=0.0):
    return x @ weight.T + bias


def _windows(x, kernel, stride, padding, dilation, fill):
    """Every tap of every window: yields (row tap, column tap, slice (N, rows, columns, C))."""
    top, bottom, left, right = padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    rows = (x.shape[1] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    columns = (x.shape[2] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    for r in range(kernel[0]):
        for c in range(kernel[1]):
            taps = x[:, r * dilation[0] :: stride[0], c * dilation[1] :: stride[1]]
            yield r, c, taps[:, :rows, :columns]


def ref_conv2d(x, weight, bias=0.0, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    outputs, inputs = weight.shape[0] // groups, weight.shape[3]
    y = 0.0
    for r, c, taps in _windows(x, weight.shape[1:3], stride, padding, dilation, 0.0):
        y = y + np.concatenate(
            [
                taps[..., g * inputs : (g + 1) * inputs] @ weight[g * outputs : (g + 1) * outputs, r, c].T
                for g in range(groups)
            ],
            axis=-1,
        )
    return y + bias


def ref_max_pool2d(x, kernel, stride, padding=(0, 0, 0, 0)):
    return np.max(np.stack([w for _, _, w in _windows(x, kernel, stride, padding, (1, 1), -np.inf)]), axis=0)


def ref_avg_pool2d(x, kernel, stride, padding=(0, 0, 0, 0), count_include_pad=True):
    total = np.sum(np.stack([w for _, _, w in _windows(x, kernel, stride, padding, (1, 1), 0.0)]), axis=0)
    if count_include_pad:
        return total / (kernel[0] * kernel[1])
    ones = np.ones((1, *x.shape[1:3], 1))
    return total / np.sum(np.stack([w for _, _, w in _windows(ones, kernel, stride, padding, (1, 1), 0.0)]), axis=0)


def ref_batch_norm(x, gamma=1.0, beta=0.0, eps=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = ((x - mean) ** 2).mean(axes)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def ref_batch_norm_inference(x, mean, var, gamma=1.0, beta=0.0, eps=1e-5):
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def ref_layer_norm(x, gamma=1.0, beta=0.0, dims=1, eps=1e-5):
    axes = tuple(range(x.ndim - dims, x.ndim))
    mean = x.mean(axes, keepdims=True)
    var = ((x - mean) ** 2).mean(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta


def ref_log_softmax(x, axis=-1):
    z = x - x.max(axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis, keepdims=True))


def ref_softmax(x, axis=-1):
    return np.exp(ref_log_softmax(x, axis))


def ref_cross_entropy(logits, labels, label_smoothing=0.0, reduction="mean"):
    """labels: class numbers, or probabilities of the logits' shape (then smoothed like one-hot rows)."""
    classes = logits.shape[-1]
    target = labels if labels.shape == logits.shape else np.eye(classes)[labels]
    target = (1 - label_smoothing) * target + label_smoothing / classes
    return ref_reduced(-(target * ref_log_softmax(logits)).sum(-1), reduction)


def ref_mse(prediction, target, reduction="mean"):
    """One loss a row: the mean over everything but axis 0."""
    rows = ((prediction - target) ** 2).reshape(len(prediction), -1).mean(1)
    return ref_reduced(rows, reduction)


def ref_reduced(losses, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction](losses)


def ref_batch_norm_backward(d_y, x, gamma, eps=1e-5):
    """(d_x, d_gamma, d_beta), the chain rule through mean and variance."""
    axes = tuple(range(x.ndim - 1))
    inv_std = 1 / np.sqrt(x.var(axes) + eps)
    x_hat = (x - x.mean(axes)) * inv_std
    d_hat = d_y * gamma
    d_x = inv_std * (d_hat - d_hat.mean(axes) - x_hat * (d_hat * x_hat).mean(axes))
    return d_x, (d_y * x_hat).sum(axes), d_y.sum(axes)


def ref_gelu_backward(d_y, x):
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return d_y * (0.5 * (1 + ref_erf(x / math.sqrt(2))) + x * density)


def ref_cross_entropy_backward(d_loss, logits, labels, label_smoothing=0.0):
    """Gradient of the mean over rows."""
    classes = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(classes)[labels] + label_smoothing / classes
    return d_loss * (ref_softmax(logits) - target) / labels.size
