"""Look-ups of pages of 5 from archives of 1,000 and of 100,000 messages.

All clients page through archives of their own. The archives are written by SQL before. Prints look-ups and messages a
second, CPU of the server and of PostgreSQL a look-up, and what a look-up takes. The server has one core, PostgreSQL and
the clients the other.

Usage: lookups.py [--sizes 1000 100000] [--clients 50] [--page 5] [--seconds 6] [--rounds 3] [--json FILE]
"""

import argparse
import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.archive import ARCHIVE, connect
from bench.measured import Figures, data_folder, load, rounds
from bench.one_to_one import CONFIG, free_port, parse_options, running, server_command

DOMAIN = "a.example"
#: Archives of the larger size; that many clients share the first ones in turn if there are more.
MOST_ROWS = 2_000_000

_OWNERS = """
INSERT INTO mam_archive (server, kind, name)
SELECT %s, 0, 'user' || n FROM generate_series(0, %s) AS n
"""
_MESSAGES = """
INSERT INTO mam_message (archive, id, remote, resource, outgoing, groupchat, source, origin_id, stanza)
SELECT archive.id, ((%s - (%s - n)::bigint * 60000000) << 8), 'bob' || n %% 20 || '@b.example', 'x', n %% 2 = 0, false,
    'user@a.example/a', NULL, '<message xmlns=''jabber:client'' from=''bob' || n %% 20 || '@b.example/x'' '
        || 'to=''user@a.example'' type=''chat'' id=''m' || n || '''><body>' || repeat('x', 120) || '</body>'
        || '<request xmlns=''urn:xmpp:receipts''/><origin-id xmlns=''urn:xmpp:sid:0'' id=''1''/></message>'
FROM mam_archive AS archive CROSS JOIN generate_series(1, %s) AS n
"""


def fill(data: Path, clients: int, size: int) -> None:
    """Archives of `size` messages, a minute apart, the last one an hour ago."""
    with closing(connect(data)) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE mam_archive, mam_message")
        cursor.execute(_OWNERS, (DOMAIN, clients - 1))
        last = int((time.time() - 3600) * 1_000_000)
        cursor.execute(_MESSAGES, (last, size, size))
        cursor.execute("VACUUM ANALYZE mam_message")


def measure(folder: Path, size: int, options: argparse.Namespace) -> Figures:
    """One run."""
    clients = min(options.clients, MOST_ROWS // size)
    port = free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port) + ARCHIVE)
    with running(server_command(config), port, options.server_core) as server:
        fill(data_folder(folder), clients, size)
        arguments = [port, clients, options.seconds, options.page, DOMAIN]
        result, used, used_database = load(server.pid, folder, "lookup_client.py", arguments, options)
        return {
            "lookups/s": result["lookups"] / result["seconds"],
            "messages/s": result["messages"] / result["seconds"],
            "server_us": used / result["lookups"] * 1e6,
            "postgres_us": used_database / result["lookups"] * 1e6,
            "p50_ms": result["p50"] * 1000,
            "p99_ms": result["p99"] * 1000,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000], help="messages an archive")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--page", type=int, default=5)
    options = parse_options(parser)
    report = {}
    for size in options.sizes:
        print(f"archives of {size:,} messages, pages of {options.page}")
        report[size] = rounds(partial(measure, size=size, options=options), options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
