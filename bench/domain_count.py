"""Does the number of dynamic domains matter? One of them, and 100,000: message time, start, memory.

Starts the server on a database that has that many rows (written by SQL before), lets pairs of clients, each in a domain
of its own, send messages to each other, and asks the server's log how long it took to load the domains. What a
domain costs in memory is told twice: by the resident size of the server, and by tracemalloc for the table alone.
Server on one core, database and clients on the other; everything is removed afterwards.

Usage: domain_count.py [--number 100000] [--seconds 6] [--rounds 3] [--pairs 20] [--burst 1] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.domains import traced_memory
from bench.one_to_one import free_port, load, parse_options, print_ratios, print_runs, running, server_command
from dynxmpp.db.pool import Database, PoolSettings
from tests.domains.node import Node
from tests.fixtures.postgres import OwnServer

CONFIG = """
[general]
host_types = ["basic"]
default_server_domain = "bench.example"
loglevel = "info"
[auth]
methods = ["dummy"]
[auth.dummy]
base_time = 0
variance = 0
[outgoing_pools.rdbms.default]
workers = 4
[outgoing_pools.rdbms.default.connection]
driver = "pgsql"
host = "{settings.host}"
database = "{settings.database}"
username = "{settings.username}"
password = "unused"
[services.service_domain_db]
[[listen.c2s]]
port = {port}
ip_address = "127.0.0.1"
max_unauthenticated = 10000
"""

#: Names as long as those of customers are; the first ones, from 0, are those of the clients.
DOMAIN = "test-domain-*.example.org"
FILL = """
INSERT INTO domain_settings (domain, host_type)
SELECT replace(%s, '*', n::text), 'basic' FROM generate_series(0, %s) AS n
"""


class Case:
    """A number of domains in a database of their own."""

    def __init__(self, number: int, postgres: OwnServer, folder: Path) -> None:
        self.number = number
        self.settings: PoolSettings = postgres.create_database(f"domains_{number}")
        self.config = folder / f"{number}.toml"
        self.log = folder / f"{number}.log"

    def prepare(self, postgres: OwnServer, core: int) -> None:
        """The tables are made by the server itself, the rows by one statement."""
        with self.server(core):
            pass
        postgres.admin(FILL, (DOMAIN, self.number - 1), database=self.settings.database)
        # As autovacuum would have done; and what was written is not to be flushed while something is measured.
        postgres.admin("VACUUM ANALYZE domain_settings", database=self.settings.database)
        postgres.admin("CHECKPOINT")

    @contextmanager
    def server(self, core: int) -> Iterator[tuple[int, int]]:
        """The running server: its process id and port."""
        port = free_port()
        self.config.write_text(CONFIG.format(settings=self.settings, port=port))
        command = server_command(self.config, "--json-log")
        with self.log.open("wb") as output, running(command, port, core, output) as process:
            yield process.pid, port

    def measure(self, options: argparse.Namespace) -> dict[str, float]:
        """One run."""
        one_domain = DOMAIN.replace("*", "0")
        domain = one_domain if self.number < options.pairs else DOMAIN
        with self.server(options.server_core) as (pid, port):
            resident = resident_bytes(pid)
            figures = load(pid, port, "xmpp", options.burst, (domain, domain), options)
        events = {event["event"]: event for event in map(json.loads, self.log.read_text().splitlines())}
        loaded = events["domains_loaded"]
        assert loaded["count"] == self.number, loaded
        return {
            **figures,
            "rss": resident,
            "load_s": loaded["seconds"],
            "start_s": seconds_of(events["server_started"]) - seconds_of(events["server_starting"]),
        }


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seconds_of(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def median(runs: list[dict[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def compare(options: argparse.Namespace, postgres: OwnServer, folder: Path) -> tuple[dict[str, Any], PoolSettings]:
    """All runs, few and many domains in turn; also the database with the many."""
    few, many = Case(1, postgres, folder), Case(options.number, postgres, folder)
    runs: dict[Case, list[dict[str, float]]] = {few: [], many: []}
    for case in runs:
        case.prepare(postgres, options.server_core)
    for _ in range(options.rounds):
        for case in runs:
            runs[case].append(case.measure(options))
    ratios = [b["us"] / a["us"] for a, b in zip(runs[few], runs[many], strict=True)]
    resident = (median(runs[many], "rss") - median(runs[few], "rss")) / (options.number - 1)
    for case in runs:
        print_runs(f"{case.number:,} domains", runs[case])
    print_ratios(ratios)
    for case in runs:
        print(
            f"  {f'{case.number:,} domains':16} loaded in {median(runs[case], 'load_s'):.3f} s, start to listening "
            f"{median(runs[case], 'start_s'):.3f} s, resident {median(runs[case], 'rss') / 2**20:.1f} MiB"
        )
    print(f"  resident memory  {resident:.0f} bytes a domain", flush=True)
    report = {str(case.number): figures for case, figures in runs.items()}
    return {"runs": report, "ratios": ratios, "resident_bytes_a_domain": resident}, many.settings


async def traced(settings: PoolSettings, number: int) -> float:
    """Bytes a domain of the table alone, as Python counts them."""
    database = Database(settings, clock=reactor, reactor=reactor)
    await database.start()
    try:
        node = Node(database)
        held, _ = await traced_memory(node)
        await node.service.stop()
        return held / number
    finally:
        await database.stop()


async def run(options: argparse.Namespace) -> None:
    postgres = OwnServer()
    try:
        postgres.start()
        with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
            report, settings = compare(options, postgres, Path(folder))
        report["traced_bytes_a_domain"] = await traced(settings, options.number)
        print(f"  tracemalloc      {report['traced_bytes_a_domain']:.0f} bytes a domain, its name included")
    finally:
        postgres.stop()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100_000, help="the many domains")
    parser.add_argument("--burst", type=int, default=1, help="messages a read")
    options = parse_options(parser)
    if options.number <= options.pairs:
        parser.error("--number must be more than --pairs")
    os.sched_setaffinity(0, {options.client_core})  # and with it the database, which is our child
    react(lambda _: Deferred.fromCoroutine(run(options)))


if __name__ == "__main__":
    main()
