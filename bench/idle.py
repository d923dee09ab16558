"""Memory of idle sessions: available, with an empty roster, silent; without TLS.

Logs clients in and looks at the resident size of the server before and after, without and with stream management.

Usage: idle.py [--sessions 2000] [--json FILE]
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from chat_client import Client

from bench.one_to_one import CONFIG, free_port, running, server_command
from bench.processes import resident_bytes

DOMAIN = "a.example"
ENABLE = b"<enable xmlns='urn:xmpp:sm:3' resume='true'/>"


async def sessions(port: int, number: int, *, managed: bool) -> list[Client]:
    """Clients that have logged in."""
    clients = []
    for index in range(number):
        client = Client(f"{'m' if managed else 'u'}{index}@{DOMAIN}/x", "", 1)
        await client.xmpp_login(port)
        if managed:
            client.writer.write(ENABLE)
            await client.until(b"<enabled")
        clients.append(client)
    return clients


async def measure(port: int, pid: int, number: int) -> dict[str, float]:
    """Bytes a session."""
    warm = await sessions(port, 200, managed=False)
    base = resident_bytes(pid)
    plain = await sessions(port, number, managed=False)
    with_plain = resident_bytes(pid)
    managed = await sessions(port, number, managed=True)
    with_managed = resident_bytes(pid)
    for client in [*warm, *plain, *managed]:
        client.writer.close()
    return {
        "plain": (with_plain - base) / number,
        "managed": (with_managed - with_plain) / number,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="dynxmpp-bench-") as folder:
        os.chmod(folder, 0o755)
        port = free_port()
        config = Path(folder) / "bench.toml"
        config.write_text(CONFIG.format(port=port))
        core = min(os.sched_getaffinity(0))
        with running(server_command(config), port, core) as server:
            report = asyncio.run(measure(port, server.pid, options.sessions))
    for name, value in report.items():
        print(f"  {name:28} {value / 1024:6.1f} KiB a session")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
