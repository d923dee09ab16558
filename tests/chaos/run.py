"""One run: clients talk, disasters happen, everything is acknowledged in the end, and the archives are read."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.chaos.archive import read_by_mam, read_by_sql
from tests.chaos.client import Client
from tests.chaos.disasters import Disaster, Kind, draw
from tests.chaos.history import History
from tests.chaos.installation import DOMAINS, Installation
from tests.chaos.progress import Progress
from tests.chaos.verdict import Verdict, examine

T = TypeVar("T")

#: Seconds that draining and reading the archives may take.
END_S = 300.0
_clock: Any = reactor


class Stalled(Exception):
    """Something was waited for too long; says how each client is."""


@dataclass(frozen=True)
class Options:
    seed: int
    kills: int = 200
    connections: int = 40
    #: Messages of a client that may be unacknowledged.
    window: int = 50
    #: Acknowledgements before each disaster, at least and at most.
    after: tuple[int, int] = (200, 2000)
    #: Seconds that what was stopped stays away, at most.
    away_s: float = 2.0


@dataclass
class Result:
    options: Options
    verdict: Verdict
    disasters: Counter[str] = field(default_factory=Counter)
    #: Of all clients together.
    clients: Counter[str] = field(default_factory=Counter)
    #: Logged by the server, by event.
    errors: Counter[str] = field(default_factory=Counter)
    talking_s: float = 0.0
    reading_s: float = 0.0


def pairs(connections: int) -> list[tuple[str, str]]:
    """Who talks to whom: half of the pairs within one domain, half between two."""
    one, two = DOMAINS
    return [(f"ann{n}@{one}", f"bob{n}@{one if n % 2 else two}") for n in range(connections // 2)]


class Run:
    def __init__(self, options: Options, tell: Callable[[str], object]) -> None:
        """`tell` is given a line about each disaster."""
        self.options = options
        self.history = History()
        self.progress = Progress()
        self.installation = Installation(self.history)
        self._tell = tell
        self._random = random.Random(options.seed)
        self.clients = [
            Client(
                conversation,
                self.history,
                port=self.installation.port,
                gate=self.installation.gate,
                progress=self.progress,
                window=options.window,
                rng=random.Random(f"{options.seed} {conversation.name}"),
            )
            for conversation in self.history.converse(pairs(options.connections))
        ]

    async def result(self) -> Result:
        """Raises Stalled."""
        options = self.options
        result = Result(options, Verdict())
        disasters = draw(self._random, options.kills, after=options.after, away_s=options.away_s)
        try:
            await self.installation.start()
            began = time.monotonic()
            for client in self.clients:
                client.come()
                client.talk()
            for number, disaster in enumerate(disasters):
                await self._wait_for(self.progress.more(disaster.after))
                await deferLater(_clock, disaster.delay_s)
                self._tell(f"{number + 1}/{len(disasters)} {disaster.kind.value}, {self.progress.count} acknowledged")
                await self._wait_for(self._happen(disaster))
                result.disasters[disaster.kind.value] += 1
            await self._wait_for(self.progress.more(options.after[0]))
            await self._drain()
            result.talking_s = time.monotonic() - began
            self._tell(f"{self.progress.count} acknowledged, reading the archives")
            await self._read()
            result.reading_s = time.monotonic() - began - result.talking_s
        finally:
            for client in self.clients:
                client.stop()
            await self.installation.stop()
        result.verdict = examine(self.history)
        for client in self.clients:
            result.clients.update(client.counts)
        result.errors = self.installation.errors
        return result

    async def _wait_for(self, progress: Awaitable[None]) -> None:
        try:
            await progress
        except defer.TimeoutError:
            waiting = [repr(client) for client in self.clients]
            raise Stalled(
                f"nothing moves, after {self.progress.count} acknowledgements:\n" + "\n".join(waiting)
            ) from None

    async def _happen(self, disaster: Disaster) -> None:
        if disaster.kind is Kind.ALL_CUT:
            self._cut(self.clients)
        elif disaster.kind is Kind.SOME_CUT:
            self._cut(self._some(disaster))
        elif disaster.kind is Kind.HALF_OPEN:
            for client in self._some(disaster):
                client.switch()
        else:
            await self.installation.suffer(disaster)

    def _cut(self, clients: Sequence[Client]) -> None:
        for client in clients:
            client.cut()

    def _some(self, disaster: Disaster) -> list[Client]:
        return self._random.sample(self.clients, max(1, round(disaster.share * len(self.clients))))

    async def _drain(self) -> None:
        """Everything is acknowledged; and what the server had sent to each client has been read by it."""
        await self._all(client.drained() for client in self.clients)
        await self._all(client.ask("<ping xmlns='urn:xmpp:ping'/>", "get") for client in self.clients)

    async def _read(self) -> None:
        archives = await self._all(read_by_mam(client) for client in self.clients)
        self.history.archives = {client.account: kept for client, kept in zip(self.clients, archives, strict=True)}
        self.history.rows = read_by_sql(self.installation.rows)

    async def _all(self, work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        deferreds = [Deferred.fromCoroutine(one) for one in work]
        try:
            return await gatherResults(deferreds, consumeErrors=True).addTimeout(END_S, _clock)
        except defer.TimeoutError:
            raise self._stalled("the end is not reached") from None

    def _stalled(self, what: str) -> Stalled:
        lines = [f"{what}, after {self.progress.count} acknowledgements", *map(repr, self.clients)]
        return Stalled("\n".join([*lines, *(f"{kind}: {example}" for kind, example in self.history.faults)]))
