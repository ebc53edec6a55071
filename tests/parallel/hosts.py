"""Throw-away hosts on this machine, to run a real job of several:  python hosts.py HOSTS PLACES RATE COMMAND...

Each host is a network namespace with a name (node0, node1, ...), an address of its own and a sending side that is
throttled to RATE (as tc writes it: 1gbit). They hang on a bridge; the command runs on node0. Launchers start up to
PLACES ranks on each, one after the other, and reach the other hosts through this script in the place of ssh. All of it
lives in private namespaces: nothing is left behind.
"""

import os
import subprocess
import sys
from pathlib import Path

NET, STATE = "10.77.0", Path("/run/hosts")


def available():
    """Why this kernel can't do it; empty where it can."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    try:
        done = subprocess.run(
            ["unshare", *user, "--mount", "--net", "sh", "-c", "mount -t tmpfs t /run && ip link add b0 type bridge"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except OSError as error:
        return f"no {error.filename}"
    return "" if done.returncode == 0 else f"no network namespaces: {done.stderr.strip()[:100]}"


def command(hosts, rate, argv, places=1):
    """The command that runs argv on the first of so many hosts, each of which has so many places for ranks."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    isolated = ["unshare", *user, "--mount", "--net", "--propagation", "private"]
    return [*isolated, sys.executable, __file__, str(hosts), str(places), rate, *map(str, argv)]


def on(host, argv):
    """argv as it runs on a host."""
    named = ["unshare", "--uts", "sh", "-c", f'hostname node{host}; exec "$@"', "sh"]
    return ["nsenter", f"--net=/run/netns/node{host}", *named, *argv]


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def build(hosts, places, rate):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    Path("/run/netns").mkdir()
    STATE.mkdir()
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    for i in range(hosts):
        ip("netns", "add", f"node{i}")
        ip("-n", f"node{i}", "link", "set", "lo", "up")
        ip("link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", f"node{i}")
        ip("link", "set", f"v{i}", "master", "br0", "up")
        ip("-n", f"node{i}", "addr", "add", f"{NET}.{i + 1}/24", "dev", "eth0")
        ip("-n", f"node{i}", "link", "set", "eth0", "up")
        # bbr, where it is the kernel's first choice, all but stops for 0.2 s now and then.
        cubic = f"ip -n node{i} route replace {NET}.0/24 dev eth0 src {NET}.{i + 1} congctl cubic"
        subprocess.run(cubic.split(), check=False, capture_output=True)  # a kernel may lack it
        throttle = [
            "tc",
            "qdisc",
            "add",
            "dev",
            "eth0",
            "root",
            "tbf",
            "rate",
            rate,
            "burst",
            "256kb",
            "latency",
            "50ms",
        ]
        subprocess.run(["ip", "netns", "exec", f"node{i}", *throttle], check=True)
    addresses = [f"{NET}.{i + 1}" for i in range(hosts)]
    (STATE / "openmpi").write_text("".join(f"{a} slots={places}\n" for a in addresses))
    (STATE / "mpich").write_text("".join(f"{a}:{places}\n" for a in addresses))
    agent = STATE / "agent"
    agent.write_text(f'#!/bin/sh\nexec {sys.executable} {os.path.abspath(__file__)} --agent "$@"\n')
    agent.chmod(0o755)


def variables():
    """What makes Open MPI 5 and MPICH start their ranks on the hosts, over TCP, without further options."""
    return {
        "PRTE_MCA_plm_ssh_agent": f"{STATE}/agent",
        "PRTE_MCA_prte_default_hostfile": f"{STATE}/openmpi",
        "PRTE_MCA_hwloc_default_binding_policy": "none",  # else every host's rank is bound to the same core
        "OMPI_MCA_btl_tcp_if_include": "eth0",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": f"{STATE}/agent",
        "HYDRA_HOST_FILE": f"{STATE}/mpich",
        "HYDRA_IFACE": "eth0",
        "UCX_TLS": "tcp,self",  # else it sees through the namespaces
        "UCX_NET_DEVICES": "eth0",
    }


def agent(words):
    """In the place of ssh: [options] HOST COMMAND..."""
    while words[0].startswith("-"):
        words = words[2:] if words[0] in ("-o", "-p", "-l") else words[1:]
    host = int(words[0].rsplit(".", 1)[1]) - 1
    argv = on(host, ["sh", "-c", " ".join(words[1:])])
    os.execvp(argv[0], argv)


def main(words):
    if words[0] == "--agent":
        return agent(words[1:])
    build(int(words[0]), int(words[1]), words[2])
    return subprocess.run(on(0, words[3:]), env={**os.environ, **variables()}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
