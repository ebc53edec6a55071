"""Networks built twice, in thalweg and in torch, with equal weights, and the distance between them."""

import numpy as np

LAYERS = {  # thalweg's parameter names -> torch's
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "running_mean": "running_mean",
    "running_var": "running_var",
}


def dense(tw, torch):
    """Images of 6x6x2 as features; batch norm after bias-free layers."""
    nn, t = tw.nn, torch.nn
    ours = nn.Sequential(
        *(nn.Flatten(), nn.Linear(48, bias=False), nn.BatchNorm(), nn.ReLU()),
        *(nn.Linear(32, bias=False), nn.BatchNorm(), nn.Tanh(), nn.Linear(10)),
    )
    theirs = t.Sequential(
        *(channels_last_flatten(torch), t.Linear(72, 48, bias=False), t.BatchNorm1d(48), t.ReLU()),
        *(t.Linear(48, 32, bias=False), t.BatchNorm1d(32), t.Tanh(), t.Linear(32, 10)),
    )
    return ours, theirs


def convolutional(tw, torch):
    """Padding, stride, groups and pooling on images of 6x6x2."""
    nn, t = tw.nn, torch.nn
    ours = nn.Sequential(
        *(nn.Conv2d(8, 3, padding=1, bias=False), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 3, padding=1, groups=2, bias=False), nn.BatchNorm(), nn.Tanh()),
        *(nn.Conv2d(10, 2, bias=True), nn.Sigmoid(), nn.Flatten(), nn.Linear(10)),
    )
    theirs = t.Sequential(
        *(t.Conv2d(2, 8, 3, padding=1, bias=False), t.BatchNorm2d(8), t.ReLU(), t.MaxPool2d(2)),
        *(t.Conv2d(8, 12, 3, padding=1, groups=2, bias=False), t.BatchNorm2d(12), t.Tanh()),
        *(t.Conv2d(12, 10, 2), t.Sigmoid(), channels_last_flatten(torch), t.Linear(40, 10)),
    )
    return ours, theirs


def channels_last_flatten(torch):
    class ChannelsLastFlatten(torch.nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    return ChannelsLastFlatten()


def to_torch(torch, name, value):
    """(torch's name, tensor): convolution weights go from (out, kh, kw, in) to (out, in, kh, kw)."""
    layer, _, part = name.rpartition(".")
    array = np.moveaxis(value, -1, 1) if value.ndim == 4 else value
    return f"{layer}.{LAYERS[part]}", torch.from_numpy(np.ascontiguousarray(array, np.float64))


def copy_weights(torch, trainer, module):
    """Give the torch module the trainer's parameters, in the module's own precision."""
    state = dict(to_torch(torch, name, value) for name, value in trainer.parameters().items())
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert not unexpected and all("running" in name or "num_batches" in name for name in missing)


def distance(torch, parameters, module):
    """The largest relative difference of a tensor: norm of the difference over norm."""
    theirs = {name: value.detach().double() for name, value in module.state_dict().items()}
    ours = dict(to_torch(torch, name, value) for name, value in parameters.items())
    return max(float((value - theirs[name]).norm() / theirs[name].norm()) for name, value in ours.items())


def distance_between(a, b):
    """The same between two torch modules."""
    names = dict(b.named_parameters())
    return max(
        float((p.detach().double() - names[n].detach().double()).norm() / names[n].detach().double().norm())
        for n, p in a.named_parameters()
    )
