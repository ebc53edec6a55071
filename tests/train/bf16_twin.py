"""Gradients of two networks by torch in float64, rounded to bf16 where a plan in bf16 rounds: the operands of products,
and what lies between layers, there and back."""

import numpy as np


def roundings(torch):
    """(stored, operand, gradient): rounded in both directions, only forward, only backward."""

    def bf16(t):
        return t.float().bfloat16().to(t.dtype)

    def rounding(forwards, backwards):
        class Rounding(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return bf16(x) if forwards else x.clone()

            @staticmethod
            def backward(ctx, d):
                return bf16(d) if backwards else d

        return Rounding.apply

    return rounding(True, True), rounding(True, False), rounding(False, True)


def gradients(torch, name, values, x, y, rounds):
    """Gradients of the mean cross-entropy by thalweg's names. name: "dense" or "convolutional" of test_bf16.py."""
    stored, operand, gradient = roundings(torch) if rounds else [lambda t: t] * 3
    p = {k: torch.from_numpy(np.asarray(v, np.float64)).requires_grad_() for k, v in values.items()}
    f, images = torch.nn.functional, torch.from_numpy(np.asarray(x, np.float64))

    def linear(h, at):
        return f.linear(h, operand(p[f"{at}.weight"]))

    def block(h, at):
        h = stored(f.conv2d(h, operand(p[f"{at}.weight"]).permute(0, 3, 1, 2), padding=1))
        h = f.batch_norm(h, None, None, p[f"{at + 1}.gamma"], p[f"{at + 1}.beta"], training=True)
        return f.max_pool2d(stored(f.relu(h)), 2)

    if name == "dense":
        h, last = stored(images.flatten(1)), 5
        for at in (1, 3):
            h = f.relu(stored(linear(h, at) + p[f"{at}.bias"]))
    else:
        h, last = block(block(stored(images.permute(0, 3, 1, 2)), 0), 4).permute(0, 2, 3, 1).flatten(1), 9
    # d_y of the last product is rounded as its operand alone: the bias gets it as it is
    logits = gradient(linear(stored(h), last)) + p[f"{last}.bias"]
    f.cross_entropy(logits, torch.from_numpy(np.asarray(y, np.int64))).backward()
    return {k: v.grad.numpy() for k, v in p.items()}
