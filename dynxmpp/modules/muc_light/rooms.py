"""Rooms in memory while they are in use, and the changes of one room, which come one after the other."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from secrets import token_urlsafe
from typing import Final, TypeVar

from twisted.logger import Logger

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.module import JID, Clock, Transaction, Turns, Unavailable
from dynxmpp.modules.muc_light.room import Room
from dynxmpp.modules.muc_light.store import Decide, DecideNew, RoomExists, RoomStore

T = TypeVar("T")

#: Rooms in memory of one host type.
ROOMS: Final = 50_000
#: Removals that are looked up at a time.
MANY: Final = 1000


def new_version() -> str:
    """A text that no room has had for a version; 16 characters."""
    return token_urlsafe(12)


class Rooms:
    """The least recently used are forgotten first, and all after `lifetime_s`.

    What happens to a room on this node happens in turn: it is read, changed, and its members are told in the order of
    its versions. `RoomStore` does the same among nodes.
    """

    log = Logger()

    def __init__(
        self,
        store: RoomStore,
        server_of: Callable[[str], str],
        clock: Clock,
        *,
        is_served: Callable[[str], bool],
        archives: Callable[[], RoomArchive | None],
        size: int = ROOMS,
        lifetime_s: float = float("inf"),
    ) -> None:
        """`server_of` gives the domain that a service is below, `archives` those of the rooms, if they have any.

        `is_served`: does this host type serve a service, and so have the archives of its rooms?
        """
        self.store = store
        self._is_served = is_served
        self._archives = archives
        self._server_of = server_of
        self._clock = clock
        self._size = size
        self._lifetime_s = lifetime_s
        #: Rooms, and until when they may be believed.
        self._rooms: OrderedDict[JID, tuple[Room, float]] = OrderedDict()
        self._turns: Turns[JID] = Turns()
        #: Rooms that are being read or changed; of each the version that was announced last meanwhile, if any was.
        self._announced: dict[JID, str | None] = {}

    # -- reading

    def known(self, jid: JID) -> Room | None:
        """A room that is in memory; None says nothing."""
        entry = self._rooms.get(jid)
        if entry is None:
            return None
        room, until = entry
        if self._clock.seconds() >= until:
            del self._rooms[jid]
            return None
        self._rooms.move_to_end(jid)
        return room

    async def get(self, jid: JID) -> Room | None:
        """The room with this address, None if there is none. Raises Unavailable."""

        async def load() -> Room | None:
            return self.known(jid) or await self._load(jid)

        return self.known(jid) or await self._in_turn(jid, load)

    async def _load(self, jid: JID) -> Room | None:
        room = await self.store.load(self.server_of(jid), jid)
        if room is not None:
            self._remember(room)
        return room

    def server_of(self, jid: JID) -> str:
        """The domain that the service of a room is below."""
        return self._server_of(jid.domain)

    # -- changes

    async def create(self, jid: JID, decide: DecideNew, *, then: Callable[[Room], None]) -> Room:
        """A new room. Raises store.RoomExists, Unavailable, and what `decide` raises.

        `then` is called before anything else can happen to the room.
        """

        async def work() -> Room:
            server = self.server_of(jid)
            try:
                room = await self.store.create(server, jid, new_version(), decide)
            except RoomExists:
                if not await self.store.is_going(server, jid):
                    raise
                await self.finish_removal(server, jid)
                room = await self.store.create(server, jid, new_version(), decide)
            self._remember(room)
            then(room)
            return room

        return await self._in_turn(jid, work)

    async def change(
        self, jid: JID, decide: Decide, *, then: Callable[[Room, Room | None], None], server: str | None = None
    ) -> bool:
        """Changes a room; False when there is none. Raises Unavailable, and what `decide` raises.

        `then(before, after)` is called before anything else can happen to the room, and only when it has changed; None
        is a room that has been removed. `server` is needed for a room that is not served now.
        """
        place = server or self.server_of(jid)

        async def work() -> bool:
            try:
                changed = await self.store.change(place, jid, decide)
            except BaseException:
                # It may have been committed, and the answer lost.
                self.forget(jid)
                raise
            if changed is None:
                self.forget(jid)
                return False
            before, after = changed
            if after is not None:
                self._remember(after)
                if after is not before:
                    then(before, after)
                return True
            self.forget(jid)
            then(before, None)
            if self._is_served(jid.domain):
                try:
                    await self.finish_removal(place, jid)
                except Unavailable as problem:  # for its members it is gone; the rest is removed later
                    self.log.warn("room_removal_unfinished", room=jid.bare, reason=str(problem))
            return True

        return await self._in_turn(jid, work)

    async def finish_removal(self, server: str, jid: JID) -> None:
        """Removes what is left of a room that has been removed: what others keep of it, then its row."""
        archives = self._archives()

        async def release(transaction: Transaction) -> None:
            if archives is not None:
                await archives.release(jid, server, transaction)

        if await self.store.finish_removal(server, jid, release) and archives is not None:
            archives.clean(jid, server)

    async def finish_removals(self) -> None:
        """As `finish_removal`, for those that a crash has interrupted, or that nobody served. Raises Unavailable.

        Services that others serve may have archives where we know of none.
        """
        found, last = await self.store.going(0, MANY)
        while found:
            for server, jid in found:
                if self._is_served(jid.domain):
                    await self.finish_removal(server, jid)
            found, last = await self.store.going(last, MANY)

    async def _in_turn(self, jid: JID, work: Callable[[], Awaitable[T]]) -> T:
        async def watched() -> T:
            self._announced[jid] = None
            try:
                return await work()
            finally:
                del self._announced[jid]

        return await self._turns.take(jid, watched)

    # -- memory

    def _remember(self, room: Room) -> None:
        """Keeps what was read or made of a room in its turn.

        What another node has changed since may be missing in it, for commits are announced on another connection than
        they are answered: good enough for now, but not to be kept.
        """
        if self._announced.get(room.jid, "") not in (None, room.version):
            self.forget(room.jid)
            return
        self._rooms[room.jid] = room, self._clock.seconds() + self._lifetime_s
        self._rooms.move_to_end(room.jid)
        if len(self._rooms) > self._size:
            self._rooms.popitem(last=False)

    def forget(self, jid: JID) -> None:
        """The room is read again when somebody asks for it."""
        self._rooms.pop(jid, None)

    def forget_all(self) -> None:
        """What has been announced by other nodes may have been missed."""
        self._rooms.clear()
        # As if what is being read or changed had been removed.
        self._announced = dict.fromkeys(self._announced, "")

    def forget_domain(self, domain: str) -> None:
        """Drops the rooms below a domain, also those that are being read or changed."""
        below = f".{domain}"
        for jid in [jid for jid in self._rooms if jid.domain.endswith(below)]:
            del self._rooms[jid]
        for jid in self._announced:
            if jid.domain.endswith(below):
                self._announced[jid] = ""

    def announced(self, payload: str) -> None:
        """Some node has changed a room: `version address`, with no version when it has removed it."""
        version, _, address = payload.partition(" ")
        jid = JID.parse(address)
        entry = self._rooms.get(jid)
        if entry is not None and entry[0].version == version:
            return
        self.forget(jid)
        if jid in self._announced:
            self._announced[jid] = version
        archives = self._archives()
        if not version and archives is not None:
            archives.forget(jid, self.server_of(jid))
