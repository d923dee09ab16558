"""A storm of logins: connect, SCRAM-SHA-1, bind, presence, close; without TLS, accounts in PostgreSQL.

Prints logins a second, and the CPU of the server and of PostgreSQL a login. The server has one core, PostgreSQL and the
clients the other.

Usage: logins.py [--clients 50] [--accounts 10000] [--seconds 6] [--rounds 3] [--json FILE]
"""

import argparse
import json
import random
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.archive import connect
from bench.measured import Figures, data_folder, load, rounds
from bench.one_to_one import CONFIG, free_port, parse_options, running, server_command
from dynxmpp.auth.scram import MECHANISM_HASHES, derive_all, serialise_records

DOMAIN = "a.example"
ITERATIONS = 10_000
_ACCOUNTS = """
INSERT INTO users (server, username, password, pass_details)
SELECT %s, 'user' || n, '', %s FROM generate_series(0, %s) AS n
"""


def measure(folder: Path, options: argparse.Namespace) -> Figures:
    """One run."""
    port = free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port).replace('methods = ["dummy"]', 'methods = ["rdbms"]'))
    salt = random.randbytes(16)
    details = serialise_records(derive_all("secret", dict.fromkeys(MECHANISM_HASHES.values(), salt), ITERATIONS))
    with running(server_command(config), port, options.server_core) as server:
        with closing(connect(data_folder(folder))) as connection, connection.cursor() as cursor:
            cursor.execute(_ACCOUNTS, (DOMAIN, details, options.accounts - 1))
        arguments = [port, options.clients, options.seconds, options.accounts, DOMAIN]
        result, used, used_database = load(server.pid, folder, "login_client.py", arguments, options)
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
    runs = rounds(partial(measure, options=options), options.rounds)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
