"""A program for test_embedded.py: runs an embedded PostgreSQL in a process of its own and talks by lines.

embedded_server.py DATA_DIR   prints "ready PID PASSWORD-FREE-HOST", then waits for its end on standard input
"""

import sys
from pathlib import Path
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import react
from twisted.python.failure import Failure

from dynxmpp.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from dynxmpp.db.pool import Database


class _Input(Protocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended.callback(None)


async def main(reactor: Any, data_dir: str) -> None:
    embedded = EmbeddedPostgres(Path(data_dir), database="dynxmpp", reactor=reactor)
    try:
        settings = await embedded.start()
    except EmbeddedPostgresError as error:
        print(f"refused {error}", flush=True)  # noqa: T201
        return
    db = Database(settings, clock=reactor, reactor=reactor)
    await db.start()
    await db.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz)")
    await db.execute("INSERT INTO starts VALUES (now())")
    [(count,)] = await db.query("SELECT count(*) FROM starts")
    print(f"ready {embedded.pid} {count}", flush=True)  # noqa: T201
    standard_input = _Input()
    stdio.StandardIO(standard_input, reactor=reactor)
    await standard_input.ended
    await db.stop()
    await embedded.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
