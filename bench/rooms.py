"""Group chat: rooms of five, with 1, 100 and 1,000 dynamic domains, without and with the archive of rooms.

Users have numbers, five consecutive ones share a room, and who made it writes to it. With the archive, clients use
stream management, and a message counts once its row is committed; afterwards the rows are counted. Prints messages sent
and received a second, the CPU of the server a message sent and a copy received, that of PostgreSQL a message, and how
busy server and clients keep their cores. The server has one core, PostgreSQL and the clients the other; numbers of
domains are measured in turn.

Usage: rooms.py [--domains 1 100 1000] [--groups 100] [--bucket 1] [--bursts 1 5] [--archive off on] [--plain]
                [--seconds 6] [--rounds 3] [--json FILE]
"""

import argparse
import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.archive import connect, rows
from bench.domain_count import DOMAIN, FILL
from bench.measured import Figures, data_folder, in_new_folder, load, print_spread
from bench.one_to_one import CONFIG, free_port, parse_options, running, server_command

SIZE = 5
MODULES = "[services.service_domain_db]\n[modules.mod_muc_light]\n"
ARCHIVE = '[modules.mod_mam_meta]\nmuc.host = "muclight.@HOST@"\n'
#: Seconds for the rows of messages that nobody waits for.
PATIENCE_S = 10


def write_config(folder: Path, port: int, *, archive: bool) -> Path:
    """That of one_to_one.py, with dynamic domains instead of static ones, and rooms."""
    config = folder / "bench.toml"
    text = CONFIG.format(port=port).replace('hosts = ["a.example", "b.example"]', 'host_types = ["basic"]')
    config.write_text(text + MODULES + (ARCHIVE if archive else ""))
    return config


def create_domains(folder: Path, number: int, core: int) -> None:
    """The tables are made by the server itself, the rows by one statement."""
    port = free_port()
    with (
        running(server_command(write_config(folder, port, archive=False)), port, core),
        closing(connect(data_folder(folder))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(FILL, (DOMAIN, number - 1))
        cursor.execute("VACUUM ANALYZE domain_settings")


def check_rows(data: Path, expected: int) -> int:
    """Waits for them: without stream management the last ones are still being written."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := rows(data)) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    if found != expected:
        raise SystemExit(f"{found} rows in the archive instead of {expected}")
    return found


def measure(folder: Path, number: int, archive: bool, burst: int, options: argparse.Namespace) -> Figures:
    """One run: the server, its database and the clients are started and ended."""
    create_domains(folder, number, options.server_core)
    port = free_port()
    with running(server_command(write_config(folder, port, archive=archive)), port, options.server_core) as server:
        mode = "managed" if archive and not options.plain else "xmpp"
        arguments = [port, mode, options.groups, burst, options.seconds, DOMAIN, number, options.bucket]
        result, used, used_database = load(server.pid, folder, "rooms_client.py", arguments, options)
        messages = result["messages"]
        # A room's archive begins with the notice of its creation.
        kept = {"rows": check_rows(data_folder(folder), result["total"] + options.groups)} if archive else {}
    return {
        "sent/s": messages / result["seconds"],
        "received/s": messages * SIZE / result["seconds"],
        "server_us": used / messages * 1e6,
        "us/copy": used / messages / SIZE * 1e6,
        "postgres_us": used_database / messages * 1e6,
        "server_%": used / result["seconds"] * 100,
        "client_%": result["client_cpu"] / result["seconds"] * 100,
        **kept,
    }


def compare(archive: bool, burst: int, options: argparse.Namespace) -> dict[int, list[Figures]]:
    """All rounds, the numbers of domains in turn."""
    runs: dict[int, list[Figures]] = {number: [] for number in options.domains}
    for _ in range(options.rounds):
        for number in runs:
            case = partial(measure, number=number, archive=archive, burst=burst, options=options)
            runs[number].append(in_new_folder(case))
    for number in runs:
        state = "on" if archive else "off"
        print(f"archive {state}, messages a read: {burst}, domains: {number:,}")
        print_spread(runs[number])
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, nargs="+", default=[1, 100, 1000], help="numbers of domains")
    parser.add_argument("--groups", type=int, default=100, help="rooms, each with five clients of its own")
    parser.add_argument("--bucket", type=int, default=1, help="consecutive clients of one domain")
    parser.add_argument("--bursts", type=int, nargs="+", default=[1, 5], help="messages a read")
    parser.add_argument("--archive", nargs="+", choices=("off", "on"), default=["off", "on"])
    parser.add_argument("--plain", action="store_true", help="without stream management with the archive too")
    options = parse_options(parser)
    report = {
        archive: {burst: compare(archive == "on", burst, options) for burst in options.bursts}
        for archive in options.archive
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
