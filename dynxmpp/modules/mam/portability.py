"""Archives of accounts on their way to another server and from there: XEP-0227, "Message Archive".

A message of our own export keeps its id, by which clients know it. One from elsewhere gets the id of its time; of
several of one moment each is a microsecond later than the one before. What is in the archive already is not taken
again: the same id, or the same message within a second.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import md5
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, Clock, Database, Imported, InvalidJID, NotImported, Stanza
from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.form import NS_MAM_1, NS_MAM_2
from dynxmpp.modules.mam.personal_data import FIND, message_pages
from dynxmpp.modules.mam.results import is_message
from dynxmpp.modules.mam.schema import ACCOUNT
from dynxmpp.modules.mam.store import INSERT
from dynxmpp.protocol.carbon import NS_FORWARD
from dynxmpp.protocol.delay import NS_DELAY
from dynxmpp.protocol.pie import NS_PIE_MAM
from dynxmpp.protocol.stanza_id import origin_id
from dynxmpp.protocol.timestamps import InvalidTimestamp, parse_us
from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_CLIENT

ARCHIVE: Final = "archive"
IMPORTED: Final = (
    Imported.of(NS_PIE_MAM, ARCHIVE, "messages", in_parts=True),
    Imported.of(NS_MAM_2, "prefs", "archive preferences"),
    Imported.of(NS_MAM_1, "prefs", "archive preferences"),
)

#: Seconds by which a message may be ahead of our clock.
MAX_AHEAD_S: Final = 3600
SECOND_US: Final = 1_000_000
#: Part of ids from elsewhere, where ours have the number of the node: the last to be given to one.
ELSEWHERE: Final = (1 << ids.NODE_BITS) - 1

# The messages of the seconds that messages are from. OFFSET 0: one look into the index for each, whatever the planner
# thinks of a table that has just grown.
_PRESENT: Final = """
SELECT m.id, md5(m.stanza) FROM unnest(%s::bigint[], %s::bigint[]) AS moment (low, high) CROSS JOIN LATERAL (
    SELECT id, stanza FROM mam_message WHERE archive = %s AND id BETWEEN moment.low AND moment.high OFFSET 0
) AS m ORDER BY m.id
"""
# Their words are not in the index of those that are looked for by text.
_SEARCH_AGAIN: Final = "UPDATE mam_archive SET search_upto = %s WHERE id = %s AND search_upto > %s"


async def printed_archive(database: Database, account: JID) -> AsyncIterator[bytes]:
    """The archive in pages, nothing when there is none; what is no message is left out. Raises Unavailable."""
    found = await database.query(FIND, (account.domain, ACCOUNT, account.local))
    if not found:
        return
    yield f"<archive xmlns='{NS_PIE_MAM}'>\n".encode()
    async for rows in message_pages(database, found[0][0]):
        yield "".join(
            f"<result xmlns='{NS_MAM_2}' id='{ids.to_text(id_)}'><forwarded xmlns='{NS_FORWARD}'>"
            f"<delay xmlns='{NS_DELAY}' stamp='{ids.timestamp(id_)}' from='{escape.attribute(source)}'/>"
            f"{stanza}</forwarded></result>\n"
            for id_, source, stanza in rows
            if is_message(stanza)
        ).encode()
    yield b"</archive>\n"


@dataclass(frozen=True, slots=True)
class _Message:
    """A result of an archive. `id` is None for one from elsewhere."""

    id: int | None
    us: int
    source: JID
    remote: JID
    outgoing: bool
    stanza: Stanza
    text: str

    @property
    def digest(self) -> str:
        return md5(self.text.encode(), usedforsecurity=False).hexdigest()


class Arriving:
    """Puts messages from a document into the archive of an account."""

    def __init__(self, database: Database, clock: Clock, archive: int, account: JID) -> None:
        self._database = database
        self._latest_us = int((clock.seconds() + MAX_AHEAD_S) * SECOND_US)
        self._archive = archive
        self._account = account

    async def take(self, element: domish.Element) -> None:
        """Stores the results in an <archive/>. Raises NotImported for those that are left out, Unavailable."""
        messages: list[_Message] = []
        problems: list[str] = []
        for number, result in enumerate(element.elements()):
            try:
                messages.append(self._read(result))
            except ValueError as error:
                problems.append(f"message {result.getAttribute('id', str(number))[:60]} of the archive: {error}")
        if messages:
            await self._store(messages)
        if problems:
            raise NotImported(*problems)

    async def _store(self, messages: list[_Message]) -> None:
        chosen = list(_with_ids(messages, await self._present(messages)))
        if chosen:
            rows = [self._row(id_, message) for id_, message in chosen]
            await self._database.execute(INSERT, [list(column) for column in zip(*rows, strict=True)])
            before = min(id_ for id_, _ in chosen) - 1
            await self._database.execute(_SEARCH_AGAIN, (before, self._archive, before))

    async def _present(self, messages: list[_Message]) -> list[tuple[int, str]]:
        """(id, digest) of what the archive has of the seconds of those from elsewhere."""
        seconds = sorted({message.us // SECOND_US for message in messages if message.id is None})
        if not seconds:
            return []
        lows = [ids.first_of(second * SECOND_US) for second in seconds]
        highs = [ids.last_of((second + 1) * SECOND_US - 1) for second in seconds]
        return [(row[0], row[1]) for row in await self._database.query(_PRESENT, (lows, highs, self._archive))]

    def _row(self, id_: int, message: _Message) -> tuple[object, ...]:
        return (
            self._archive,
            id_,
            message.remote.bare,
            message.remote.resource or "",
            message.outgoing,
            message.stanza.attributes.get("type") == "groupchat",
            message.source.full,
            origin_id(message.stanza),
            message.text,
        )

    def _read(self, result: domish.Element) -> _Message:
        """Raises ValueError for what is no message with a time and addresses."""
        forwarded = _child(result, NS_FORWARD, "forwarded") if result.name == "result" else None
        message = None if forwarded is None else _child(forwarded, NS_CLIENT, "message")
        delay = None if forwarded is None else _child(forwarded, NS_DELAY, "delay")
        if message is None or delay is None:
            raise ValueError("no forwarded message with the time of its coming")
        us = self._time(delay.getAttribute("stamp", ""))
        sender = _address(message.getAttribute("from") or delay.getAttribute("from") or self._account.bare)
        outgoing = sender.bare == self._account.bare
        remote = _address(message.getAttribute("to") or self._account.bare) if outgoing else sender
        source = _address(delay.getAttribute("from") or sender.full)
        stanza = Stanza.from_element(message)
        text = stanza.to_bytes(embedded=True).decode()
        return _Message(_own_id(result, us), us, source, remote, outgoing, stanza, text)

    def _time(self, stamp: str) -> int:
        """Microseconds since 1970. Raises ValueError."""
        try:
            us = parse_us(stamp)
        except InvalidTimestamp as error:
            raise ValueError(f"its time is {error}") from error
        if not 0 < us <= self._latest_us:
            raise ValueError("its time is before 1970 or still to come")
        return us


def _with_ids(messages: list[_Message], present: list[tuple[int, str]]) -> Iterator[tuple[int, _Message]]:
    """Those that are not `present`, with the ids that they get; `present` is ordered by id."""
    there = Counter((_second(id_), digest) for id_, digest in present)
    last_us = {_second(id_): id_ >> ids.NODE_BITS for id_, _ in present}
    for message in messages:
        if message.id is not None:
            yield message.id, message
            continue
        second = message.us // SECOND_US
        if there[second, message.digest]:
            there[second, message.digest] -= 1
            continue
        us = last_us[second] = max(message.us, last_us.get(second, 0) + 1)
        yield us << ids.NODE_BITS | ELSEWHERE, message


def _second(id_: int) -> int:
    return (id_ >> ids.NODE_BITS) // SECOND_US


def _own_id(result: domish.Element, us: int) -> int | None:
    """The id if it is one of ours: it has the time of the message in it."""
    try:
        id_ = ids.from_text(result.getAttribute("id", ""))
    except ValueError:
        return None
    return id_ if id_ >> ids.NODE_BITS == us else None


def _address(text: str) -> JID:
    try:
        return JID.parse(text)
    except InvalidJID as error:
        raise ValueError(f"the address {text[:60]!r}: {error}") from error


def _child(parent: domish.Element, uri: str, name: str) -> domish.Element | None:
    return next((child for child in parent.elements() if child.uri == uri and child.name == name), None)
