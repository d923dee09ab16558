"""slixmpp clients of a test: each is a process of its own, told and heard by lines."""

import json
import os
import sys
from typing import Any

from tests.fixtures.lines import LineProcess
from tests.fixtures.server import PROJECT


class SlixClient:
    """A logged-in slixmpp client."""

    #: The module that is run.
    program = "tests.interop.slixmpp_client"

    def __init__(self, jid: str, password: str, port: int, mode: str, *options: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-W", "ignore", "-m", self.program, jid, password, str(port), mode, *options]
        self.process = LineProcess(command, cwd=str(PROJECT), env=environment)

    async def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The next event of this name with these fields."""

        def wanted(line: str) -> bool:
            event = json.loads(line)
            return bool(event["event"] == name and all(event.get(key) == value for key, value in fields.items()))

        event: dict[str, Any] = json.loads(await self.process.line(wanted))
        return event

    def does(self, what: str, **fields: Any) -> None:
        self.process.write_line(json.dumps({"do": what, **fields}))

    async def clean_up(self) -> None:
        if self.process.status is None:
            await self.process.signal("KILL")


async def logs_in(case: Any, jid: str, password: str, port: int, mode: str = "starttls") -> SlixClient:
    """A client that has fetched its roster and sent presence; ended with the test."""
    client = SlixClient(jid, password, port, mode)
    case.addCleanup(client.clean_up)
    await client.event("started")
    return client
