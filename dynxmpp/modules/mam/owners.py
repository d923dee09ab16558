"""Whose archive has which number."""

from collections import OrderedDict
from typing import Final

from dynxmpp.module import Clock, Database
from dynxmpp.modules.mam.shared import Shared

#: Server, kind (schema.ACCOUNT, schema.ROOM), name.
Key = tuple[str, int, str]

_FIND: Final = "SELECT id FROM mam_archive WHERE server = %s AND kind = %s AND name = %s"
_MAKE: Final = "INSERT INTO mam_archive (server, kind, name) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING id"


class Owners:
    """Numbers of archives: the least recently used `size` of them in memory, each for `lifetime_s` at most.

    The lifetime is what makes a node notice that another one has removed an account of which it knew the archive.
    """

    def __init__(self, database: Database, size: int, *, clock: Clock, lifetime_s: float = float("inf")) -> None:
        self._database = database
        self._size = size
        self._clock = clock
        self._lifetime_s = lifetime_s
        #: The number, and until when it may be believed.
        self._known: OrderedDict[Key, tuple[int, float]] = OrderedDict()
        self._asking: Shared[Key, int | None] = Shared()
        #: How often anything was forgotten.
        self._forgotten = 0

    def known(self, server: str, kind: int, name: str) -> int | None:
        """The number of an archive if it is in memory; None says nothing."""
        key = (server, kind, name)
        entry = self._known.get(key)
        if entry is None:
            return None
        number, until = entry
        if self._clock.seconds() >= until:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return number

    async def find(self, server: str, kind: int, name: str) -> int | None:
        """The number of an archive, None if there is none. Raises Unavailable."""
        number = self.known(server, kind, name)
        if number is not None:
            return number
        forgotten = self._forgotten
        key = (server, kind, name)
        rows = await self._database.query(_FIND, key)
        if not rows:
            return None
        if self._forgotten == forgotten:
            self._remember(key, rows[0][0])
        found: int = rows[0][0]
        return found

    async def get(self, server: str, kind: int, name: str) -> int:
        """The number of an archive, which is made if there is none; all who ask at once share a look-up.

        Raises Unavailable.
        """
        key = (server, kind, name)
        number = self.known(server, kind, name)
        while number is None:
            number = await self._asking.run(key, lambda: self._ask(key))
        return number

    async def _ask(self, key: Key) -> int | None:
        """The number of an archive; None when it may be wrong by now, or when somebody else has just made it."""
        forgotten = self._forgotten
        rows = await self._database.query(_FIND, key) or await self._database.query(_MAKE, key)
        if not rows or self._forgotten != forgotten:
            return None
        number: int = rows[0][0]
        self._remember(key, number)
        return number

    def _remember(self, key: Key, number: int) -> None:
        self._known[key] = (number, self._clock.seconds() + self._lifetime_s)
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def forget(self, server: str, kind: int, name: str) -> None:
        """The archive is being removed: its number is not used any more, not even by those who wait for it now."""
        self._forgotten += 1
        self._known.pop((server, kind, name), None)

    def forget_domain(self, server: str) -> None:
        """As `forget`, for all archives of a domain."""
        self._forgotten += 1
        for key in [key for key in self._known if key[0] == server]:
            del self._known[key]

    def forget_all(self) -> None:
        """As `forget`, for all archives: what other nodes have removed may have been missed."""
        self._forgotten += 1
        self._known.clear()
