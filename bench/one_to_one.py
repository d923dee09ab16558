"""One-to-one chat through the whole server, against the bare relay, in the same run.

Prints the CPU of the server process a message (from /proc, both user and system time) and the ratio to the relay, at
one and at five messages a read. Server and relay run on one core in turn, the client on the other.

Usage: one_to_one.py [--seconds 6] [--rounds 3] [--pairs 20] [--json FILE]
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.processes import cpu_seconds

HERE = Path(__file__).parent

CONFIG = """
[general]
hosts = ["a.example", "b.example"]
default_server_domain = "a.example"
loglevel = "warning"
[auth]
methods = ["dummy"]
[auth.dummy]
base_time = 0
variance = 0
[outgoing_pools.rdbms.default]
workers = 4
[outgoing_pools.rdbms.default.connection]
driver = "embedded"
data_dir = "postgres"
[[listen.c2s]]
port = {port}
ip_address = "127.0.0.1"
max_unauthenticated = 10000
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server did not come up")


def server_command(config: Path, *options: str) -> list[str]:
    """The server as an operator starts it."""
    twistd = str(Path(sys.executable).parent / "twistd")
    return [twistd, "-n", "--pidfile=", "dynxmpp", "-c", str(config), *options]


@contextmanager
def running(
    command: list[str], port: int, core: int, output: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server on one core, from when it listens until the block ends."""
    server = subprocess.Popen(command, stdout=output, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    try:
        wait_for(port, server)
        yield server
    finally:
        server.terminate()
        server.wait()


def load(
    pid: int, port: int, mode: str, burst: int, domains: tuple[str, str], options: argparse.Namespace
) -> dict[str, float]:
    """Lets the pairs play; CPU of the process `pid` in microseconds a message, and messages a second."""
    arguments = [port, mode, options.pairs, burst, options.seconds, *domains]
    client = subprocess.Popen(
        [sys.executable, str(HERE / "chat_client.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.client_core}),
    )
    assert client.stdout is not None
    client.stdout.readline()
    before = cpu_seconds(pid)
    result = json.loads(client.stdout.readline())
    used = cpu_seconds(pid) - before
    client.wait()
    return {"us": used / result["messages"] * 1e6, "rate": result["messages"] / result["seconds"]}


def parse_options(parser: argparse.ArgumentParser, *, pairs: int = 20) -> argparse.Namespace:
    """The command line, with what all measurements of messages are told."""
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--seconds", type=float, default=6, help="how long each run is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=pairs, help="pairs of clients")
    parser.add_argument("--server-core", type=int, default=cores[0])
    parser.add_argument("--client-core", type=int, default=cores[-1])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def print_runs(name: str, runs: list[dict[str, float]]) -> None:
    """One line: the spread of the CPU a message, and the median rate."""
    us = sorted(run["us"] for run in runs)
    rate = statistics.median(run["rate"] for run in runs)
    print(
        f"  {name:16} {us[0]:6.1f} {statistics.median(us):6.1f} {us[-1]:6.1f} us CPU/message (min median max), "
        f"{rate:8.0f} messages/s"
    )


def print_ratios(ratios: list[float]) -> None:
    print(f"  {'ratio':16} {min(ratios):6.2f} {statistics.median(ratios):6.2f} {max(ratios):6.2f}", flush=True)


def main() -> None:
    options = parse_options(argparse.ArgumentParser(description=__doc__))
    domains = ("a.example", "b.example")
    report = {}
    with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
        os.chmod(folder, 0o755)
        config = Path(folder) / "bench.toml"
        for burst in (1, 5):
            figures: dict[str, list[dict[str, float]]] = {"relay": [], "dynxmpp": []}
            for _ in range(options.rounds):
                port = free_port()
                relay = [sys.executable, str(HERE / "relay.py"), str(port)]
                with running(relay, port, options.server_core) as process:
                    figures["relay"].append(load(process.pid, port, "relay", burst, domains, options))
                port = free_port()
                config.write_text(CONFIG.format(port=port))
                with running(server_command(config), port, options.server_core) as process:
                    figures["dynxmpp"].append(load(process.pid, port, "xmpp", burst, domains, options))
            ratios = [d["us"] / r["us"] for d, r in zip(figures["dynxmpp"], figures["relay"], strict=True)]
            print(f"messages a read: {burst}")
            for name, runs in figures.items():
                print_runs(name, runs)
            print_ratios(ratios)
            report[burst] = {**figures, "ratios": ratios}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
