"""The archives of rooms, as the service that has the rooms uses them (core.interfaces.RoomArchive)."""

from collections.abc import Awaitable
from typing import Final

from dynxmpp.module import IQ, JID, Answer, CommitTicket, ModuleContext, Stanza, Transaction
from dynxmpp.modules.mam.arrivals import Arrivals
from dynxmpp.modules.mam.config import MucArchive
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.preferences import Preferences
from dynxmpp.modules.mam.reading import Owner, Reading
from dynxmpp.modules.mam.removal import Removal
from dynxmpp.modules.mam.retraction import Retractions
from dynxmpp.modules.mam.rules import Archivable
from dynxmpp.modules.mam.schema import ROOM
from dynxmpp.modules.mam.store import ArchiveStore
from dynxmpp.modules.mam.writing import Wants
from dynxmpp.protocol.stanza_id import origin_id

#: Where it is notified that the archive of a room has lost its name: `server name`.
CHANNEL: Final = "dynxmpp_mam_room"


class _Arrival:
    """A message on its way into an archive whose number is not known yet; `is_void`: its room has been destroyed."""

    __slots__ = ("is_void", "room")

    def __init__(self, room: JID) -> None:
        self.room = room
        self.is_void = False


class Rooms:
    """The archives of a host type's rooms.

    Nodes tell each other which archives are gone in the transaction that takes their names. The rooms themselves were
    gone earlier; who hears of that only might still find the old number afterwards.
    """

    def __init__(
        self,
        context: ModuleContext,
        options: MucArchive,
        owners: Owners,
        store: ArchiveStore,
        arrivals: Arrivals,
        removal: Removal,
        retractions: Retractions,
        preferences: Preferences,
        features: tuple[str, ...],
        reading: Reading,
    ) -> None:
        self.features = features
        self.reading = reading
        self._context = context
        self._host = options.host
        self._tells_ids = not options.no_stanzaid_element
        self._owners = owners
        self._store = store
        self._arrivals = arrivals
        self._removal = removal
        self._retractions = retractions
        self.preferences = preferences
        self._wants: Wants | None = preferences.wants if preferences.enabled else None
        self._archivable = Archivable(markers=options.archive_chat_markers)
        #: Messages that were given to the store.
        self.archived = 0
        self._arriving: set[_Arrival] = set()
        if context.announcements is not None:
            context.announcements.subscribe(CHANNEL, self._announced, on_reconnect=owners.forget_all)

    def _announced(self, payload: str) -> None:
        """Some node has released an archive."""
        server, _, name = payload.partition(" ")
        self._owners.forget(server, ROOM, name)

    def serves(self, pattern: str) -> bool:
        return pattern == self._host

    async def load(self, room: JID, domain: str) -> None:
        await self._owners.get(domain, ROOM, room.bare)
        if self._wants is not None:
            wants = self._wants(room, room)
            if not isinstance(wants, bool):
                await wants

    def store(self, room: JID, sender: JID | None, stanza: Stanza, ticket: CommitTicket) -> str | None:
        if not self._archivable(stanza, groupchat=True):
            return None
        wants = True if self._wants is None else self._wants(room, _occupant(room, stanza))
        if wants is False:
            return None
        id_ = self._store.ids.next()
        domain = self._context.domains.owner(room.domain)
        archive = self._owners.known(domain, ROOM, room.bare)
        if archive is not None and wants is True:
            self._write(archive, id_, sender, stanza, ticket)
        else:
            # It was loaded, and has left memory since. The id does not depend on it.
            ticket.hold()
            later = self._write_later(domain, room, id_, sender, stanza, ticket, wants)
            following = self._arrivals.follow((domain, ROOM, room.bare), later)
            self._context.spawn("room_message_not_archived", following)
        return to_text(id_) if self._tells_ids else None

    async def _write_later(
        self,
        domain: str,
        room: JID,
        id_: int,
        sender: JID | None,
        stanza: Stanza,
        ticket: CommitTicket,
        wants: bool | Awaitable[bool],
    ) -> None:
        taken = False
        arrival = _Arrival(room)
        self._arriving.add(arrival)
        try:
            if isinstance(wants, bool) or await wants:
                archive = await self._owners.get(domain, ROOM, room.bare)
                if not arrival.is_void:  # else it is that of the next room with this address
                    self._write(archive, id_, sender, stanza, ticket)
            taken = True
        finally:
            self._arriving.remove(arrival)
            if taken:
                ticket.release()
            else:
                ticket.fail()

    def _write(self, archive: int, id_: int, sender: JID | None, stanza: Stanza, ticket: CommitTicket) -> None:
        self._store.write(
            archive,
            id_,
            sender,
            stanza.to_bytes(embedded=True),
            ticket,
            source=stanza.attributes["from"],
            groupchat=True,
            origin_id=origin_id(stanza),
        )
        self.archived += 1
        self._retractions.apply(archive, "" if sender is None else sender.bare, False, stanza, ticket)

    async def release(self, room: JID, domain: str, transaction: Transaction) -> None:
        await self._removal.release(domain, ROOM, room.bare, transaction)
        await transaction.query("SELECT pg_notify(%s, %s)", (CHANNEL, f"{domain} {room.bare}"))

    def forget(self, room: JID, domain: str) -> None:
        self._owners.forget(domain, ROOM, room.bare)

    def clean(self, room: JID, domain: str) -> None:
        self.forget(room, domain)
        for arrival in self._arriving:
            if arrival.room == room:
                arrival.is_void = True
        self._context.spawn("archive_removal_failed", self._removal.remove_nameless(domain))

    async def answer(self, room: JID, domain: str, iq: IQ, *, is_owner: bool) -> Answer:
        if iq.payload.name == "prefs":
            return await self.preferences.answer(room, iq, allowed=iq.type == "get" or is_owner)
        # Whoever is an occupant may read; the caller has seen to that.
        return await self.reading.answer(Owner.room(room, domain), iq, allowed=True)


def _occupant(room: JID, stanza: Stanza) -> JID:
    """Whom a room shows as the sender of a message: `room/nick`, or itself."""
    nick = stanza.attributes["from"].partition("/")[2]
    return room.with_resource(nick) if nick else room
