"""Peak memory of training beside torch's, and whether memory stays steady over many steps.

Every contender runs in a process of its own. "training" is what the process grew by after its imports, at its peak:
parameters, optimizer state, batch, activations, gradients, and what the allocator keeps.

  python bench/memory.py                       # ResNet-20, batch 128; 100,000 steps of 64-128-10
  python bench/memory.py --networks conv --steps 0
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

NETWORKS = {"mlp": 128, "conv": 64, "lenet5": 128, "resnet20": 128}  # rows of a batch


def main() -> int:
    options = parse()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    if options.child:
        print(json.dumps(steady(options.steps) if options.child == "steady" else peak(*options.child.split())))
        return 0
    print(f"{'peak memory':<24}{'ours':>10}{'torch':>10}   ratio (training alone)")
    for name in options.networks:
        ours, theirs = child(f"thalweg {name}"), min((child(f"{f} {name}") for f in ("plain", "last")), key=peak_of)
        print(
            f"{name + ' b' + str(NETWORKS[name]):<24}{peak_of(ours):>7.0f} MB{peak_of(theirs):>7.0f} MB"
            f"   {peak_of(ours) / peak_of(theirs):.2f} ({grown(ours):.0f} / {grown(theirs):.0f} MB ="
            f" {grown(ours) / grown(theirs):.2f})"
        )
    if options.steps:
        s = child("steady", options.steps)
        after = f"{s['early']:.1f} MB after {s['first']}"
        print(f"{options.steps} steps of 64-128-10: {after}, {s['late']:.1f} MB at the end")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=["resnet20"])
    parser.add_argument("--steps", type=int, default=100_000, help="of the small network; 0: not at all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(what: str, steps: int = 0) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--steps", str(steps)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak_of(report: dict[str, float]) -> float:
    return report["peak"]


def grown(report: dict[str, float]) -> float:
    return report["peak"] - report["imports"]


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak(who: str, name: str) -> dict[str, float]:
    """Five steps of SGD with momentum on two threads. who: thalweg, or torch with plain or channels-last images."""
    from compare_lib import networks

    network = {
        "mlp": lambda: networks.dense(784, 512, 512, 10, norm=True),
        "conv": lambda: networks.conv_net(32, 64, 128),
        "lenet5": networks.lenet5,
        "resnet20": networks.resnet20,
    }[name]()
    x, y = networks.batch(network, NETWORKS[name])
    step, imports = (our_step if who == "thalweg" else torch_step)(network, x, y, who)
    for _ in range(5):
        step()
    return {"imports": imports, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}


def our_step(network: Any, x: Any, y: Any, who: str) -> Any:
    from compare_lib import ours

    imports = resident()
    return ours.training(network, "sgd", x, y, threads=2)[0], imports


def torch_step(network: Any, x: Any, y: Any, who: str) -> Any:
    import torch
    from compare_lib import peer

    torch.set_num_threads(2)
    imports = resident()
    net = peer.build(network)
    images = torch.from_numpy(x)
    if network.images:
        images = images.permute(0, 3, 1, 2).contiguous()
        if who == "last":
            net, images = net.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = peer.OPTIMIZERS["sgd"](net.parameters(), fused=True)
    labels, loss = torch.from_numpy(y).long(), torch.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net(images), labels).backward()
        optimizer.step()

    return step, imports


def steady(steps: int) -> dict[str, float]:
    from compare_lib import networks, ours

    network = networks.dense(64, 128, 10)
    step = ours.training(network, "sgd", *networks.batch(network, 32), threads=1)[0]
    first = max(1, steps // 10)
    for _ in range(first):
        step()
    early = resident()
    for _ in range(steps - first):
        step()
    return {"first": first, "early": early, "late": resident()}


if __name__ == "__main__":
    raise SystemExit(main())
