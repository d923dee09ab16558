"""A storm of logins: connect, SCRAM-SHA-1, bind, presence, close; without TLS, accounts in PostgreSQL.

Prints logins a second, and the CPU of the server and of PostgreSQL a login. The server has one core, PostgreSQL and the
clients the other.

Usage: logins.py [--clients 50] [--accounts 10000] [--seconds 6] [--rounds 3] [--json FILE]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from bench.archive import connect
from bench.one_to_one import CONFIG, HERE, free_port, parse_options, running, server_command
from bench.processes import children, cpu_seconds, family_cpu_seconds, postmaster
from dynxmpp.auth.scram import MECHANISM_HASHES, derive_all, serialise_records

DOMAIN = "a.example"
ITERATIONS = 10_000
_ACCOUNTS = """
INSERT INTO users (server, username, password, pass_details)
SELECT %s, 'user' || n, '', %s FROM generate_series(0, %s) AS n
"""


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One run."""
    port = free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port).replace('methods = ["dummy"]', 'methods = ["rdbms"]'))
    data = folder / "postgres" / "cluster"
    salt = random.randbytes(16)
    details = serialise_records(derive_all("secret", dict.fromkeys(MECHANISM_HASHES.values(), salt), ITERATIONS))
    with running(server_command(config), port, options.server_core) as server:
        with closing(connect(data)) as connection, connection.cursor() as cursor:
            cursor.execute(_ACCOUNTS, (DOMAIN, details, options.accounts - 1))
        database = postmaster(data)
        for pid in (database, *children(database)):
            os.sched_setaffinity(pid, {options.client_core})
        arguments = [port, options.clients, options.seconds, options.accounts, DOMAIN]
        client = subprocess.Popen(
            [sys.executable, str(HERE / "login_client.py"), *map(str, arguments)],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {options.client_core}),
        )
        assert client.stdout is not None
        client.stdout.readline()
        before, before_database = cpu_seconds(server.pid), family_cpu_seconds(database)
        result = json.loads(client.stdout.readline())
        used = cpu_seconds(server.pid) - before
        used_database = family_cpu_seconds(database) - before_database
        client.wait()
        return {
            "logins/s": result["logins"] / result["seconds"],
            "server_us": used / result["logins"] * 1e6,
            "postgres_us": used_database / result["logins"] * 1e6,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--accounts", type=int, default=10_000)
    options = parse_options(parser)
    runs = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
            os.chmod(folder, 0o755)
            runs.append(measure(Path(folder), options))
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        print(f"  {name:12} {values[0]:10.1f} {statistics.median(values):10.1f} {values[-1]:10.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
