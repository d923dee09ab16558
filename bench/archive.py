"""One-to-one chat with the archive on: two rows a message, committed before the message is acknowledged.

Clients use stream management; a message counts once the server has acknowledged it, which it does when both rows are
committed. Prints messages a second, and the CPU of the server and of PostgreSQL a message; after each run the rows are
counted. The server has one core, PostgreSQL and the clients the other.

Usage: archive.py [--seconds 6] [--rounds 3] [--pairs 100] [--bursts 1 5 20] [--plain] [--json FILE]
"""

import argparse
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg2

from bench.measured import Figures, data_folder, load, rounds
from bench.one_to_one import CONFIG, free_port, parse_options, running, server_command

DOMAINS = ("a.example", "b.example")
ARCHIVE = "[modules.mod_mam_meta]\npm = {}\n"


def connect(folder: Path) -> "psycopg2.extensions.connection":
    """To the embedded database of a server."""
    fields = (folder / "postmaster.pid").read_text().split("\n")
    password = (folder.parent / "password").read_text().strip()
    connection = psycopg2.connect(host=fields[4], port=fields[3], dbname="dynxmpp", user="dynxmpp", password=password)
    connection.autocommit = True
    return connection


def rows(folder: Path) -> int:
    """Messages in all archives."""
    with closing(connect(folder)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM mam_message")
        return int(cursor.fetchone()[0])  # type: ignore[index]


def measure(folder: Path, burst: int, options: argparse.Namespace) -> Figures:
    """One run: the server, its database and the clients are started and ended."""
    port = free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port) + options.modules)
    with running(server_command(config), port, options.server_core) as server:
        mode = "xmpp" if options.plain else "managed"
        arguments = [port, mode, options.pairs, burst, options.seconds, *DOMAINS]
        result, used, used_database = load(server.pid, folder, "chat_client.py", arguments, options)
        messages = result["messages"]
        return {
            "rate": messages / result["seconds"],
            "server_us": used / messages * 1e6,
            "postgres_us": used_database / messages * 1e6,
            "rows": rows(data_folder(folder)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, nargs="+", default=[1, 5, 20], help="messages a read")
    parser.add_argument("--plain", action="store_true", help="without stream management: count what was delivered")
    parser.add_argument("--modules", default=ARCHIVE, help="sections to be added to the configuration")
    options = parse_options(parser, pairs=100)
    report = {}
    for burst in options.bursts:
        print(f"messages a read: {burst}")
        report[burst] = rounds(partial(measure, burst=burst, options=options), options.rounds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
