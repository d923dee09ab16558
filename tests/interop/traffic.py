"""What goes on while something breaks: chats that count, and writers that remember what was confirmed to them."""

import itertools
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.web.client import ResponseFailed

from tests.fixtures.http import request
from tests.interop.raw import PATIENCE_S, Gone, RawClient, error_of, roster_item

WAIT = ("resource-constraint", "wait")


class Chat:
    """Two clients that answer each other: one message is on its way at any time, so that one lost ends the chat."""

    def __init__(self, one: RawClient, other: RawClient) -> None:
        self.count = 0
        self.out_of_order: list[str] = []
        self._goals: list[tuple[int, Deferred[None]]] = []
        one.on_body = lambda body: self._heard(one, other.jid, body)
        other.on_body = lambda body: self._heard(other, one.jid, body)
        one.says(other.jid, "0")

    def _heard(self, client: RawClient, peer: str, body: str) -> None:
        if int(body) != self.count:
            self.out_of_order.append(body)
        self.count += 1
        for goal, deferred in [entry for entry in self._goals if entry[0] <= self.count]:
            self._goals.remove((goal, deferred))
            deferred.callback(None)
        client.says(peer, str(self.count))

    async def goes_on(self, more: int = 30) -> None:
        """Returns when `more` further messages have arrived. Raises TimeoutError."""
        deferred: Deferred[None] = Deferred()
        self._goals.append((self.count + more, deferred))
        await deferred.addTimeout(PATIENCE_S, reactor)


class Writers:
    """Changes a roster and adds domains, one request after the other, until told to stop or the server is gone."""

    def __init__(self, client: RawClient, api: str) -> None:
        #: By address, the number in the name that was last confirmed.
        self.items: dict[str, int] = {}
        self.domains: list[str] = []
        self._item_writes = 0
        #: Errors instead of confirmations.
        self.refused_items: list[tuple[str, str]] = []
        self.refused_domains: list[tuple[int, Any]] = []
        self._client = client
        self._api = api
        self._stopping = False
        self._goals: list[tuple[int, Deferred[None]]] = []
        self._running = [Deferred.fromCoroutine(work()) for work in (self._write_items, self._write_domains)]

    async def _write_items(self) -> None:
        for number in itertools.count():
            if self._stopping:
                return
            jid = f"contact{number % 50}@localhost"
            try:
                reply = await self._client.asks(roster_item(jid, str(number)), type="set")
            except Gone:
                return
            if reply["type"] == "result":
                self.items[jid] = number
                self._item_writes += 1
            else:
                self.refused_items.append(error_of(reply)[:2])
            self._confirmed()

    async def _write_domains(self) -> None:
        for number in itertools.count():
            if self._stopping:
                return
            domain = f"d{number}.example"
            try:
                answer = await request("PUT", f"{self._api}/domains/{domain}", {"host_type": "basic"})
            except (ConnectError, ResponseFailed):
                return
            if answer[0] == 204:
                self.domains.append(domain)
            else:
                self.refused_domains.append(answer)
            self._confirmed()

    @property
    def count(self) -> int:
        """How many items and how many domains have been confirmed, whichever is less."""
        return min(self._item_writes, len(self.domains))

    def _confirmed(self) -> None:
        count = self.count
        for goal, deferred in [entry for entry in self._goals if entry[0] <= count]:
            self._goals.remove((goal, deferred))
            deferred.callback(None)

    async def go_on(self, more: int) -> None:
        """Returns when so many further items and domains have been confirmed. Raises TimeoutError."""
        deferred: Deferred[None] = Deferred()
        self._goals.append((max(self._item_writes, len(self.domains)) + more, deferred))
        self._confirmed()
        await deferred.addTimeout(PATIENCE_S, reactor)

    async def ended(self) -> None:
        """Returns when each has its last answer, or none to expect any more."""
        self._stopping = True
        for running in self._running:
            await running
