"""Prints a digest of every formula, value and tangent, on fixed arguments: run once for each instruction set."""

import hashlib
import json

import numpy as np
from thalweg import _core

ARGUMENTS = {
    1: "exp expm1 tanh log log1p erf sin cos sqrt abs relu sigmoid gelu gelu_tanh softplus normal_cdf normal_pdf",
    2: "pow maximum minimum leaky_relu relu_backward tanh_backward sigmoid_backward gelu_backward gelu_tanh_backward "
    "softplus_backward inv_std log_sum_exp softmax squared_error variance clip_scale",
    3: "clamp fma leaky_relu_backward normalize affine running softmax_backward log_softmax_backward "
    "cross_entropy_term "
    "sgd",
    4: "cross_entropy cross_entropy_backward mse_backward",
    5: "normalize_backward layer_norm gradient one_cycle_factor",
    6: "layer_norm_backward merge_n merge_mean merge_m2 sgd_momentum_w sgd_momentum_v sgd_nesterov_w heavy_ball_w",
    8: "rmsprop_w rmsprop_s",
    10: "rmsprop_momentum_w rmsprop_momentum_v",
    12: "adam_w adam_m adam_s",
}
ENDS = [0.0, -0.0, 1.0, -1.0, 1e-42, -1e-42, 1e-30, 88.5, -103.5, 709.5, -709.5, -745.0, 1e30, np.inf, -np.inf, np.nan]


def digest(x):
    return hashlib.sha256(np.where(np.isnan(x), x.dtype.type(0.5), x).tobytes()).hexdigest()[:16]


def arguments(rng, count, dtype):
    scale = 10.0 ** rng.uniform(-3, 2, (count, 3001))
    x = (rng.normal(size=(count, 3001)) * scale).astype(dtype)
    for row in x:
        row[: 2 * len(ENDS)] = rng.permutation(ENDS * 2)
    return list(x)


def digests():
    found = {}
    for dtype in (np.float32, np.float64):
        rng = np.random.default_rng(0)
        for count, names in ARGUMENTS.items():
            for name in names.split():
                args, tangents = arguments(rng, count, dtype), arguments(rng, count, dtype)
                value, tangent = _core.formula_jvp(name, args, tangents)
                found[f"{name} {dtype.__name__}"] = [digest(x) for x in (_core.formula(name, *args), value, tangent)]
        for name in ("normal", "uniform", "truncated_normal"):
            x = _core.fill_random(name, 0.5, 2.0, 9, "digest", (4097,), np.dtype(dtype).name)
            found[f"{name} {dtype.__name__}"] = [digest(x)]
    found["permutation"] = [digest(_core.permutation(1000, 9, "digest").astype(float))]
    return found


if __name__ == "__main__":
    print(json.dumps({"isa": _core.isa(), "digests": digests()}))
