"""XEP-0424 Message Retraction, version 0.4.2: what its author takes back becomes a tombstone in the archive.

Requests are understood as version 0.3 has them (`urn:xmpp:message-retract:0` inside the <apply-to/> of XEP-0422), as
0.4 has them (`urn:xmpp:message-retract:1`), and in a vendor's spelling that names a message by its id in the archive.
A request itself is delivered and archived as any message is, whatever becomes of what it is about.

Only the author takes back: the message must have gone the same way between the same two, in the same archive.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dynxmpp.module import Clock, CommitTicket, Database, Stanza, StreamError, Transaction, Unavailable, qualified
from dynxmpp.modules.mam.ids import from_text, to_text
from dynxmpp.modules.mam.schema import ACCOUNT, ROOM
from dynxmpp.protocol.stanza_id import MAX_ORIGIN_ID, NS_SID, stanza_id
from dynxmpp.protocol.timestamps import format_seconds
from dynxmpp.wire import escape
from dynxmpp.wire.parse import parse_stanza

#: Of version 0.4 and later; of versions up to 0.3; of the vendor.
NS_RETRACT: Final = "urn:xmpp:message-retract:1"
NS_RETRACT_0: Final = "urn:xmpp:message-retract:0"
NS_RETRACT_BY_STANZA_ID: Final = "urn:esl:message-retract-by-stanza-id:0"
NS_FASTEN: Final = "urn:xmpp:fasten:0"
_APPLY_TO: Final = qualified(NS_FASTEN, "apply-to")
_RETRACT: Final = qualified(NS_RETRACT, "retract")

#: The messages of a conversation, the youngest first, among which one is looked for by its attribute `id`, which has no
#: index.
RECENT: Final = 500
#: Seconds before each further attempt when the database is away.
RETRIES_S: Final = (0.1, 1.0, 5.0)

# What indexes the words of an archive locks this row too: words of a message that is gone do not come back.
_LOCK = "SELECT server, kind, name FROM mam_archive WHERE id = %s FOR UPDATE"
_BY_ID = """
SELECT id, origin_id, stanza FROM mam_message WHERE archive = %s AND remote = %s AND outgoing = %s AND id = %s
"""
# The inner SELECT is answered by the index alone.
_BY_ORIGIN_ID = """
SELECT id, origin_id, stanza FROM mam_message WHERE archive = %s AND id IN (
    SELECT id FROM mam_message
    WHERE archive = %s AND remote = %s AND outgoing = %s AND origin_id = %s ORDER BY id DESC LIMIT 10
)
"""
_BY_MESSAGE_ID = """
SELECT id, origin_id, stanza FROM (
    SELECT id, origin_id, stanza FROM mam_message
    WHERE archive = %s AND remote = %s AND outgoing = %s ORDER BY id DESC LIMIT %s
) AS recent
WHERE position(%s IN substring(stanza FROM 1 FOR 8192)) > 0 ORDER BY id DESC LIMIT 10
"""
_BURY = "UPDATE mam_message SET stanza = %s WHERE archive = %s AND id = %s"
_FORGET_WORDS = "DELETE FROM mam_search WHERE archive = %s AND id = %s"


def features(tombstones: bool) -> tuple[str, ...]:
    """What is announced; `tombstones`: the option message_retraction is on."""
    if not tombstones:
        return NS_RETRACT_0, NS_RETRACT
    return (
        NS_RETRACT_0,
        f"{NS_RETRACT_0}#tombstone",
        NS_RETRACT,
        f"{NS_RETRACT}#tombstone",
        NS_RETRACT_BY_STANZA_ID,
    )


@dataclass(frozen=True, slots=True)
class Retraction:
    """A request: `namespace` is that of its <retract/>, and says what kind of id `id` is."""

    namespace: str
    id: str


def request_of(stanza: Stanza) -> Retraction | None:
    """What a message wants taken back. Nothing is parsed while it has no such child. Longer ids than are kept: None."""
    keys = stanza.child_keys
    retraction = None
    if _RETRACT in keys:
        retract = stanza.child(NS_RETRACT, "retract")
        retraction = None if retract is None else _retraction(NS_RETRACT, retract.getAttribute("id"))
    if retraction is None and _APPLY_TO in keys:
        fastening = stanza.child(NS_FASTEN, "apply-to")
        if fastening is not None:
            for child in fastening.elements():
                if child.name == "retract" and child.uri in (NS_RETRACT_0, NS_RETRACT_BY_STANZA_ID):
                    return _retraction(child.uri, fastening.getAttribute("id"))
    return retraction


def _retraction(namespace: str, id_: str | None) -> Retraction | None:
    return Retraction(namespace, id_) if id_ and len(id_) <= MAX_ORIGIN_ID else None


class Written(Protocol):
    """The part of the archive's store that retractions need."""

    async def written(self, archive: int) -> None:
        """What was taken for an archive before the call is committed when this returns."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A message that may be the one that is meant."""

    id: int
    origin_id: str | None
    stanza: Stanza


class Retractions:
    """Applies requests that were archived; one for the archives of accounts, one for those of rooms."""

    log = Logger()

    def __init__(
        self,
        database: Database,
        store: Written,
        *,
        clock: Clock,
        spawn: Callable[[str, Awaitable[object]], None],
        enabled: bool,
    ) -> None:
        """`enabled` is the option message_retraction."""
        self._database = database
        self._store = store
        self._clock = clock
        self._spawn = spawn
        self._enabled = enabled
        self._running = 0
        self._settled: list[Deferred[None]] = []

    def apply(self, archive: int, remote: str, outgoing: bool, stanza: Stanza, ticket: CommitTicket) -> None:
        """Does what `stanza` asks for, if it asks for something; it has been given to the store before.

        `remote` and `outgoing` are those of its row. The ticket is held until it is done.
        """
        if not self._enabled:
            return
        retraction = request_of(stanza)
        if retraction is None:
            return
        ticket.hold()
        self._running += 1
        request = _Request(archive, remote, outgoing, retraction, stanza, self._clock.seconds())
        self._spawn("retraction_failed", self._apply(request, ticket))

    async def _apply(self, request: "_Request", ticket: CommitTicket) -> None:
        done = False
        try:
            await self._try(request)
            done = True
        finally:
            if done:
                ticket.release()
            else:
                ticket.fail()
            self._running -= 1
            if not self._running:
                settled, self._settled = self._settled, []
                for deferred in settled:
                    deferred.callback(None)

    async def settled(self) -> None:
        """Returns when nothing is being retracted."""
        if self._running:
            deferred: Deferred[None] = Deferred()
            self._settled.append(deferred)
            await deferred

    async def _try(self, request: "_Request") -> None:
        await self._store.written(request.archive)
        for pause_s in RETRIES_S:
            try:
                await self._database.transaction(lambda transaction: self._retract(request, transaction))
            except Unavailable as problem:
                self.log.warn("retraction_retried", archive=request.archive, reason=str(problem), retry_in_s=pause_s)
                await deferLater(self._clock, pause_s)
            else:
                return
        await self._database.transaction(lambda transaction: self._retract(request, transaction))

    async def _retract(self, request: "_Request", transaction: Transaction) -> None:
        rows = await transaction.query(_LOCK, (request.archive,))
        if not rows or rows[0][1] not in (ACCOUNT, ROOM):
            return  # the archive is gone
        server, kind, name = rows[0]
        found = await self._find(request, kind, transaction)
        if found is None:
            self.log.info("retraction_of_nothing", archive=request.archive, namespace=request.retraction.namespace)
            return
        if any(child.name == "retracted" for child in found.stanza.child_elements()):
            return
        owner = f"{name}@{server}" if kind == ACCOUNT else name
        inner, key = _tombstone(request, found, owner)
        tombstone = Stanza("message", found.stanza.attributes, inner, (key,), prefixes=found.stanza.localPrefixes)
        await transaction.execute(_BURY, (tombstone.to_bytes(embedded=True).decode(), request.archive, found.id))
        await transaction.execute(_FORGET_WORDS, (request.archive, found.id))

    async def _find(self, request: "_Request", kind: int, transaction: Transaction) -> _Stored | None:
        """The most recent message that is meant; never a request to retract, which has to stay."""
        rows: list[tuple[int, str | None, str]] = []
        for sql, params in _searches(request):
            rows += await transaction.query(sql, params)
        for id_, origin_id, data in sorted(rows, key=lambda row: row[0], reverse=True):
            try:
                stanza = parse_stanza(data.encode())
            except StreamError:
                self.log.error("archived_message_broken", archive=request.archive, id=id_)
                continue
            stored = _Stored(id_, origin_id, stanza)
            if request.means(stored) and (kind == ROOM or request.has_author_of(stanza)) and not request_of(stanza):
                return stored
        return None


@dataclass(frozen=True, slots=True)
class _Request:
    """A request and the row that it became."""

    archive: int
    remote: str
    outgoing: bool
    retraction: Retraction
    stanza: Stanza
    #: Seconds since 1970.
    at: float

    def means(self, stored: _Stored) -> bool:
        """Is it this message that the id names?

        Version 0.4, section 5.1: in a room the id that the room gave, elsewhere the attribute `id` of the message. Its
        origin-id, which is mostly the same, is what version 0.3 wants.
        """
        namespace, id_ = self.retraction.namespace, self.retraction.id
        if namespace != NS_RETRACT_BY_STANZA_ID and stored.origin_id == id_:
            return True
        if namespace == NS_RETRACT and not _is_groupchat(self.stanza):
            return stored.stanza.attributes.get("id") == id_
        return namespace != NS_RETRACT_0 and _archive_id(id_) == stored.id

    def has_author_of(self, stanza: Stanza) -> bool:
        """Is it the same occupant? All those of a room have one bare address in the archive of an account."""
        if not _is_groupchat(self.stanza) and not _is_groupchat(stanza):
            return True
        return (
            _is_groupchat(self.stanza)
            and _is_groupchat(stanza)
            and self.stanza.attributes.get("from") == stanza.attributes.get("from")
        )


def _is_groupchat(stanza: Stanza) -> bool:
    return stanza.attributes.get("type") == "groupchat"


def _archive_id(text: str) -> int | None:
    try:
        return from_text(text)
    except ValueError:
        return None


def _searches(request: _Request) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The statements that find what may be meant."""
    namespace, id_ = request.retraction.namespace, request.retraction.id
    conversation = (request.archive, request.remote, request.outgoing)
    if namespace in (NS_RETRACT_0, NS_RETRACT):
        yield _BY_ORIGIN_ID, (request.archive, *conversation, id_)
    groupchat = _is_groupchat(request.stanza)
    if namespace == NS_RETRACT_BY_STANZA_ID or (namespace == NS_RETRACT and groupchat):
        number = _archive_id(id_)
        if number is not None:
            yield _BY_ID, (*conversation, number)
    if namespace == NS_RETRACT and not groupchat:
        yield _BY_MESSAGE_ID, (*conversation, RECENT, f" id='{escape.attribute(id_)}'")


def _tombstone(request: _Request, found: _Stored, owner: str) -> tuple[bytes, str]:
    """What stands in the place of a message's children, and its qualified name; `owner`: whose archive it is."""
    namespace = request.retraction.namespace
    attributes: dict[escape.AttributeName, str] = {"stamp": format_seconds(request.at)}
    inner = b""
    if namespace == NS_RETRACT:
        # Section 4: the id of the message that took it back.
        id_ = request.stanza.attributes.get("id")
        if id_ is not None:
            attributes["id"] = id_
    elif namespace == NS_RETRACT_BY_STANZA_ID:
        inner = stanza_id(owner, to_text(found.id))
    if namespace != NS_RETRACT and found.origin_id is not None:
        inner += escape.open_tag("origin-id", {"id": found.origin_id}, {}, NS_SID, "/>").encode()
    retracted = Stanza("retracted", attributes, inner, uri=namespace)
    return retracted.to_bytes(), qualified(namespace, "retracted")
