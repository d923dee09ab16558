"""Messages of rooms whose archives are not in memory: they are shown already, so readers have to wait for them."""

from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred

from dynxmpp.modules.mam.owners import Key

T = TypeVar("T")


class Arrivals:
    """What is being put into archives, before their store has heard of it."""

    def __init__(self) -> None:
        self._under_way: dict[Key, int] = {}
        self._waiting: dict[Key, list[Deferred[None]]] = {}

    async def follow(self, key: Key, work: Awaitable[T]) -> T:
        """Does `work`, which puts a message into the archive of `key`."""
        self._under_way[key] = self._under_way.get(key, 0) + 1
        try:
            return await work
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
                for deferred in self._waiting.pop(key, ()):
                    deferred.callback(None)

    async def settled(self, key: Key) -> None:
        """Returns when nothing is under way into the archive of `key` whose coming had begun before."""
        if key in self._under_way:
            deferred: Deferred[None] = Deferred()
            self._waiting.setdefault(key, []).append(deferred)
            await deferred
