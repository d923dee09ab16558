"""Answers about archives: queries, the form of queries, metadata. The same for accounts and for rooms."""

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from dynxmpp.core.interfaces import ArchivedCopies
from dynxmpp.module import IQ, JID, Answer, ModuleContext, Session, StanzaError, Unavailable
from dynxmpp.modules.mam import form, ids, permission, results
from dynxmpp.modules.mam.arrivals import Arrivals
from dynxmpp.modules.mam.authors import shown_to
from dynxmpp.modules.mam.config import ArchiveOptions
from dynxmpp.modules.mam.lookup import Lookups
from dynxmpp.modules.mam.owners import Owners
from dynxmpp.modules.mam.query import Query, read_query
from dynxmpp.modules.mam.schema import ACCOUNT, ROOM
from dynxmpp.modules.mam.store import ArchiveStore
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.tree import print_children

T = TypeVar("T")

_FORM: Final = ("mam_get_message_form",)
_METADATA: Final = ("mam_get_metadata",)
#: Messages read before a session is available that are remembered, not to be delivered twice.
MAX_COPIES: Final = 5000


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose archive it is: `jid` to clients, the rest to the tables (schema.py)."""

    jid: JID
    server: str
    kind: int
    name: str

    @classmethod
    def account(cls, jid: JID) -> "Owner":
        return cls(jid.to_bare(), jid.domain, ACCOUNT, jid.local or "")

    @classmethod
    def room(cls, jid: JID, domain: str) -> "Owner":
        """`domain` is the parent of the service."""
        return cls(jid.to_bare(), domain, ROOM, jid.bare)


class Reading:
    """The reading side of the archives of one kind."""

    def __init__(
        self,
        context: ModuleContext,
        owners: Owners,
        store: ArchiveStore,
        arrivals: Arrivals,
        lookups: Lookups,
        options: ArchiveOptions,
        *,
        is_room: bool,
    ) -> None:
        self._sessions = context.sessions
        self._clock = context.clock
        self._owners = owners
        self._store = store
        self._arrivals = arrivals
        self._earlier = context.router.earlier
        self._route = context.router.route
        self._lookups = lookups
        self._options = options
        self._is_room = is_room
        self.permission = permission.Permission(
            context.host_type, context.domains.__contains__, context.clock, is_room=is_room
        )
        #: Queries that were answered, the simple ones among them, their messages, and the seconds that they took.
        self.lookups = self.simple_lookups = self.messages = 0
        self.seconds = 0.0

    def answer(self, owner: Owner, iq: IQ, *, allowed: bool) -> Awaitable[Answer]:
        """Answers a query, a request for its form, or one for metadata; results of a query go to the sender first.

        `allowed` says whether the sender may, as far as no access rule says otherwise. Raises StanzaError, also for
        other payloads.
        """
        payload = iq.payload
        asked = (iq.type, payload.name if payload.uri in (form.NS_MAM_1, form.NS_MAM_2) else "")
        if asked == ("set", "query"):
            return self._query(owner, iq, allowed)
        if asked == ("get", "query"):
            return self._form(iq, allowed)
        if asked == ("get", "metadata"):
            return self._metadata(owner, iq, allowed)
        raise StanzaError("service-unavailable")

    async def metadata(self, owner: Owner) -> bytes:
        """The <metadata/> of an archive, which stands for itself."""
        return print_children([form.metadata(await self._ends(owner))], NS_CLIENT).encode()

    async def _query(self, owner: Owner, iq: IQ, allowed: bool) -> Answer:
        self.permission.check(permission.QUERY, iq.sender, allowed=allowed)
        query = read_query(
            iq.payload,
            is_room=self._is_room,
            default_size=self._options.default_result_limit,
            largest_size=self._options.max_result_limit,
            always_simple=self._options.enforce_simple_queries,
        )
        if query.filters.words is not None and not self._options.full_text_search:
            raise StanzaError("internal-server-error", text="Text search is not available")
        await self.permission.pace(permission.QUERY, iq.sender)
        await self._earlier(iq.context)
        since = self._clock.seconds()
        found = await _in_time(self._lookups.find(await self._written(owner), query))
        self.seconds += max(0.0, self._clock.seconds() - since)  # the clock may have been set
        self.lookups += 1
        self.simple_lookups += query.simple
        self.messages += len(found.rows)
        self._send(owner, iq, query, found.rows[::-1] if query.flip else found.rows)
        return results.fin(query, found)

    def _send(self, owner: Owner, iq: IQ, query: Query, rows: results.Rows) -> None:
        """Straight to the resource that asked; whoever is gone meanwhile gets nothing."""
        session = iq.context.origin or self._sessions.get(iq.sender)
        if session is not None:
            if not self._is_room and not session.available:
                _note_copies(session, rows)
            shown = (partial(shown_to, iq.sender),) if self._is_room else ()
            # Between domains the policies of the one that asks have a say, as in everything that comes from outside.
            is_within = iq.sender.domain == owner.server
            for stanza, data in results.messages(rows, query, owner.jid, iq.sender, *shown):
                if is_within:
                    session.deliver(stanza, data)
                else:
                    self._route(stanza, owner.jid, iq.sender)

    async def _form(self, iq: IQ, allowed: bool) -> Answer:
        self.permission.check(_FORM, iq.sender, allowed=allowed)
        await self.permission.pace(_FORM, iq.sender)
        return form.query_form(iq.payload.uri or "", full_text=self._options.full_text_search)

    async def _metadata(self, owner: Owner, iq: IQ, allowed: bool) -> Answer:
        self.permission.check(_METADATA, iq.sender, allowed=allowed)
        await self.permission.pace(_METADATA, iq.sender)
        await self._earlier(iq.context)
        return form.metadata(await self._ends(owner), iq.payload.uri or "")

    async def _ends(self, owner: Owner) -> tuple[int, int] | None:
        archive = await self._written(owner)
        return None if archive is None else await _in_time(self._lookups.ends(archive))

    async def _written(self, owner: Owner) -> int | None:
        """The number of an archive, None if there is none, once all that was taken for it before is in the tables."""
        await self._arrivals.settled((owner.server, owner.kind, owner.name))
        archive = await _in_time(self._owners.find(owner.server, owner.kind, owner.name))
        if archive is not None:
            await self._store.written(archive)
        return archive


async def _in_time(work: Awaitable[T]) -> T:
    """The database's `Unavailable` as the error that clients of archives know."""
    try:
        return await work
    except Unavailable as problem:
        raise StanzaError("service-unavailable", text="Timeout") from problem


def _note_copies(session: Session, rows: results.Rows) -> None:
    """Offline messages that the client has out of the archive need not be delivered when it becomes available."""
    copies = session.slots.setdefault(ArchivedCopies, ArchivedCopies())
    if len(copies) < MAX_COPIES:
        copies.update(ids.to_text(row[0]) for row in rows)
