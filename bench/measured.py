"""Runs a load against a server with an embedded database, and measures both."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.one_to_one import HERE
from bench.processes import children, cpu_seconds, family_cpu_seconds, postmaster

Figures = dict[str, float]


def data_folder(folder: Path) -> Path:
    """Where the database of a server is whose configuration is in `folder`."""
    return folder / "postgres" / "cluster"


def load(
    server: int, folder: Path, program: str, arguments: list[object], options: argparse.Namespace
) -> tuple[dict[str, Any], float, float]:
    """What the load's program reports, and the CPU seconds of the server and of PostgreSQL meanwhile.

    PostgreSQL is moved to the core of the clients. The program says `started`, and at its end one JSON object. What it
    does after that is not measured; it says by its exit status whether all went well.
    """
    database = postmaster(data_folder(folder))
    for pid in (database, *children(database)):
        with suppress(ProcessLookupError):  # workers come and go
            os.sched_setaffinity(pid, {options.client_core})
    client = subprocess.Popen(
        [sys.executable, str(HERE / program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {options.client_core}),
    )
    assert client.stdout is not None
    client.stdout.readline()
    before, before_database = cpu_seconds(server), family_cpu_seconds(database)
    report = client.stdout.readline()
    if not report:
        raise SystemExit(f"{program} ended early, with status {client.wait()}")
    used, used_database = cpu_seconds(server) - before, family_cpu_seconds(database) - before_database
    if client.wait():
        raise SystemExit(f"{program} ended with status {client.returncode}")
    return json.loads(report), used, used_database


def in_new_folder(measure: Callable[[Path], Figures]) -> Figures:
    """Runs `measure` in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
        os.chmod(folder, 0o755)
        return measure(Path(folder))


def rounds(measure: Callable[[Path], Figures], number: int) -> list[Figures]:
    """Runs `measure` so often, each time in a folder of its own; prints least, median and highest of each figure."""
    runs = [in_new_folder(measure) for _ in range(number)]
    print_spread(runs)
    return runs


def print_spread(runs: list[Figures]) -> None:
    """Least, median and highest of each figure."""
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        print(f"  {name:12} {values[0]:10.1f} {statistics.median(values):10.1f} {values[-1]:10.1f}", flush=True)
