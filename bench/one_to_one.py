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
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")

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


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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


def measure(command: list[str], port: int, mode: str, burst: int, options: argparse.Namespace) -> dict[str, float]:
    """CPU in microseconds a message, and messages a second, of one run."""
    server = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {options.server_core}))
    try:
        wait_for(port, server)
        client = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "chat_client.py"),
                str(port),
                mode,
                str(options.pairs),
                str(burst),
                str(options.seconds),
                "a.example",
                "b.example",
            ],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {options.client_core}),
        )
        assert client.stdout is not None
        client.stdout.readline()
        before = cpu_seconds(server.pid)
        result = json.loads(client.stdout.readline())
        used = cpu_seconds(server.pid) - before
        client.wait()
    finally:
        server.terminate()
        server.wait()
    return {"us": used / result["messages"] * 1e6, "rate": result["messages"] / result["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--server-core", type=int, default=cores[0])
    parser.add_argument("--client-core", type=int, default=cores[-1])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
        os.chmod(folder, 0o755)
        for burst in (1, 5):
            figures: dict[str, list[dict[str, float]]] = {"relay": [], "dynxmpp": []}
            for _ in range(options.rounds):
                port = free_port()
                relay = [sys.executable, str(HERE / "relay.py"), str(port)]
                figures["relay"].append(measure(relay, port, "relay", burst, options))
                port = free_port()
                config = Path(folder) / "bench.toml"
                config.write_text(CONFIG.format(port=port))
                twistd = str(Path(sys.executable).parent / "twistd")
                command = [twistd, "-n", "--pidfile=", "dynxmpp", "-c", str(config)]
                figures["dynxmpp"].append(measure(command, port, "xmpp", burst, options))
            ratios = [d["us"] / r["us"] for d, r in zip(figures["dynxmpp"], figures["relay"], strict=True)]
            print(f"messages a read: {burst}")
            for name, runs in figures.items():
                us = sorted(run["us"] for run in runs)
                rate = statistics.median(run["rate"] for run in runs)
                print(
                    f"  {name:8} {us[0]:6.1f} {statistics.median(us):6.1f} {us[-1]:6.1f} us CPU/message (min median max), "
                    f"{rate:8.0f} messages/s"
                )
            print(f"  ratio    {min(ratios):6.2f} {statistics.median(ratios):6.2f} {max(ratios):6.2f}", flush=True)
            report[burst] = {**figures, "ratios": ratios}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
