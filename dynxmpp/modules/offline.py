"""XEP-0160 Offline Messages, version 1.0.1: what no session could take is kept, and delivered with its time.

Messages are written in batches; the ticket of a message stays open until its row is committed. They are delivered, all
of them and in order, to the first resource that becomes available with a priority that is not negative, but for those
that its client has already read in its archive. Newer messages wait for them, a few seconds at most, so that a
conversation keeps its order. They are removed once the client has acknowledged them (XEP-0198), or
without stream management once they are on its stream.

Left out: expiry (XEP-0023), picking single messages (XEP-0013).
"""

import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from twisted.words.xish import domish

from dynxmpp.config.model import non_empty, one_of
from dynxmpp.core.interfaces import ArchivedCopies, DomainLimits
from dynxmpp.module import (
    JID,
    BatchWriter,
    CommitTicket,
    Direction,
    Filter,
    Imported,
    LookupCombiner,
    Migration,
    Module,
    ModuleContext,
    NotImported,
    Phase,
    RoutingContext,
    Section,
    Session,
    Stanza,
    StanzaError,
    Stop,
    Stored,
    Unavailable,
    Verdict,
    Wait,
    Xep,
    option,
    qualified,
    section,
    storage_is_full,
)
from dynxmpp.protocol.chat_states import is_content
from dynxmpp.protocol.delay import Delay, delayed
from dynxmpp.protocol.hints import STORE, forbids_storing
from dynxmpp.protocol.kept_messages import KeptMessage, read_message
from dynxmpp.protocol.pie import NS_PIE
from dynxmpp.protocol.stanza_id import stanza_id_by
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.parse import parse_stanza

T = TypeVar("T")
#: A method of a database.

_BODY = qualified(NS_CLIENT, "body")
#: Messages of one account when the access rule says nothing.
DEFAULT_MAX_MESSAGES = 100
#: Bytes that are put on a stream at a time; a client that does not keep up with that is cut off by its send queue.
PAGE_BYTES = 131_072
#: Accounts whose messages are read in one statement.
PAGES = 20
#: Seconds that new messages wait for kept ones that are being handed over.
ORDER_PATIENCE_S = 3.0
#: Seconds between two attempts to reach a database that is away.
RETRY_S = 1.0
#: Accounts whose number of messages is remembered.
COUNTS = 20_000

_CREATE = """
CREATE TABLE offline_message (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    uid uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    stanza bytea NOT NULL,
    PRIMARY KEY (server, username, id, uid)
)
"""
_STORE = """
INSERT INTO offline_message (server, username, id, uid, sent_at, stanza)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::uuid[], %s::timestamptz[], %s::bytea[])
ON CONFLICT DO NOTHING
"""
_COUNT = "SELECT count(*) FROM offline_message WHERE server = %s AND username = %s"
_FETCH = """
SELECT q.n, found.* FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS q (server, username, n)
CROSS JOIN LATERAL (
    SELECT uid::text, sent_at, stanza FROM (
        SELECT *, sum(length(stanza)) OVER (ORDER BY id, uid) AS upto FROM offline_message
        WHERE server = q.server AND username = q.username
    ) AS waiting
    WHERE upto - length(stanza) < {bytes} ORDER BY id, uid
) AS found
"""
_PAGE = """
SELECT id, uid::text, sent_at, stanza FROM offline_message
WHERE server = %s AND username = %s AND (id, uid) > (%s, %s::uuid) ORDER BY id, uid LIMIT 10
"""
_PRESENT = "SELECT sent_at, stanza FROM offline_message WHERE server = %s AND username = %s AND sent_at = ANY(%s)"
_LAST = "SELECT coalesce(max(id), 0) FROM offline_message WHERE server = %s AND username = %s AND id < %s"
_DELETE = "DELETE FROM offline_message WHERE server = %s AND username = %s AND uid = ANY(%s::uuid[])"
_DELETE_DOMAIN = "DELETE FROM offline_message WHERE server = %s"
_DELETE_ACCOUNT = "DELETE FROM offline_message WHERE server = %s AND username = %s"


@section
class OfflineConfig(Section):
    """[modules.mod_offline]: `access_max_user_messages` names the access rule that bounds an account's messages."""

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("riak",), kind="backend"), unused=True
    )
    access_max_user_messages: str = option(default="max_user_offline_messages", check=non_empty)
    store_groupchat_messages: bool = option(default=False, unused=True)


class _Handing:
    """Messages of an account that are being handed over, and those that have come meanwhile."""

    __slots__ = ("again", "until", "waiting")

    def __init__(self, until: float) -> None:
        #: Seconds of the clock until which newer messages wait.
        self.until = until
        self.waiting: list[Deferred[None]] = []
        #: Is there a reason to look again?
        self.again = False


class Offline(Module):
    """Keeps messages of type normal and chat for accounts without a session that could take them."""

    name = "mod_offline"
    xep = Xep(160, "1.0.1")
    config_model = OfflineConfig
    features = ("msgoffline",)
    stored = (Stored("offline_message", domain="server", user="username"),)
    migrations = (Migration("mod_offline", 1, "offline_message", _CREATE),)
    imported = (Imported.of(NS_PIE, "offline-messages", "offline messages", in_parts=True),)

    def __init__(self, context: ModuleContext, config: OfflineConfig) -> None:
        super().__init__(context, config)
        self._writer = BatchWriter(context.database, _STORE, clock=context.clock)
        self._pages = LookupCombiner(context.database, _FETCH.format(bytes=PAGE_BYTES), max_rows=PAGES)
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._handing: dict[str, _Handing] = {}
        self._stopping = False
        self._last_id = 0

    async def stop(self) -> None:
        self._stopping = True
        await self._writer.stop()

    def filters(self) -> tuple[Filter, ...]:
        return (
            Filter(Direction.INCOMING, Phase.DELIVER, self._line_up),
            Filter(Direction.OFFLINE, Phase.DELIVER, self._keep),
        )

    # -- keeping

    def _keep(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        if not worth_keeping(stanza):
            return Stop("not for offline storage")
        limits = self.host_type.find(DomainLimits)
        full = False if limits is None else limits.is_full(context.recipient.domain, len(stanza.inner()))
        if context.recipient.bare not in self._counts or not isinstance(full, bool):
            return Wait(self._count_and_keep(stanza, context, full))
        return self._store(stanza, context, full)

    async def _count_and_keep(
        self, stanza: Stanza, context: RoutingContext, full: bool | Awaitable[bool]
    ) -> Stanza | Stop:
        account = context.recipient
        if not isinstance(full, bool):
            full = await full
        if account.bare not in self._counts:
            await self._writer.flush()
            rows = await self.database.query(_COUNT, (account.domain, account.local))
            self._counts[account.bare] = int(rows[0][0])
            while len(self._counts) > COUNTS:
                self._counts.popitem(last=False)
        return self._store(stanza, context, full)

    def _store(self, stanza: Stanza, context: RoutingContext, full: bool) -> Stop:
        """`full`: has the domain stored as much as it may?"""
        account = context.recipient.to_bare()
        count = self._counts.get(account.bare, 0)
        if full or count >= self._limit(account):
            if stanza_id_by(stanza, account.bare) is not None:
                return Stop("kept in the archive")
            if full:
                raise storage_is_full()
            # Section 2: the sender learns that the message was not kept.
            raise StanzaError("service-unavailable", text="The recipient's offline queue is full")
        now = self.clock.seconds()
        self._last_id = max(self._last_id + 1, int(now * 1_000_000))
        sent_at = now if context.sent_at is None else context.sent_at
        row = (
            account.domain,
            account.local,
            self._last_id,
            str(uuid.uuid4()),
            datetime.fromtimestamp(sent_at, UTC),
            stanza.to_bytes(),
        )
        ticket = context.open_ticket()
        self._writer.write(row, ticket)
        self._counts[account.bare] = count + 1

        def committed(_: CommitTicket) -> None:
            # Whoever became available while the row was on its way has not been given it.
            for session in self.sessions.top(account.bare)[:1]:
                self.session_available(session)

        ticket.when_settled(committed)
        return Stop("kept")

    def _limit(self, account: JID) -> float:
        rule = self.config.access_max_user_messages
        value = self.host_type.access(rule, account, self.context.domains.__contains__)
        if value == "infinity":
            return float("inf")
        return value if isinstance(value, int) else DEFAULT_MAX_MESSAGES

    # -- delivering

    def session_available(self, session: Session) -> None:
        """The account has a resource that takes messages: it gets what was kept."""
        bare = session.jid.bare
        handing = self._handing.get(bare)
        if handing is not None:
            handing.again = True
            return
        self._handing[bare] = _Handing(self.clock.seconds() + ORDER_PATIENCE_S)
        self.context.spawn("offline_delivery_failed", self._deliver(session))

    async def _deliver(self, session: Session) -> None:
        account = session.jid.to_bare()
        handing = self._handing[account.bare]
        try:
            while True:
                handing.again = False
                await self._deliver_pages(account, session)
                able = self.sessions.top(account.bare)
                if not handing.again or not able:
                    return
                # A row was committed, or another resource came, after the last look.
                session = able[0]
        finally:
            del self._handing[account.bare]
            self._counts.pop(account.bare, None)
            for waiting in handing.waiting:
                if not waiting.called:
                    waiting.callback(None)

    async def _deliver_pages(self, account: JID, session: Session) -> None:
        await self._writer.flush()
        owner = (account.domain, account.local)
        while True:
            rows = await self._insist(lambda: self._pages.lookup(owner))
            target = self._target(session)
            if target is None:
                return  # gone again; what is left stays where it is
            taken = await self._hand_over(rows, account, target)
            if taken:
                await self._insist(partial(self.database.execute, _DELETE, (*owner, taken)))
            if len(taken) < len(rows) or not rows:
                return  # what has not arrived for certain stays

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Waits for a database that is away: a client that has come must get its messages, and each of them once."""
        while True:
            try:
                return await call()
            except Unavailable:
                if self._stopping:
                    raise
                await deferLater(self.clock, RETRY_S)

    # -- order

    def _line_up(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        """What comes while older messages are still being handed over waits for them, but not for ever."""
        if not self._handing:
            return stanza
        handing = self._handing.get(context.recipient.bare)
        if handing is None or stanza.attributes.get("type") in ("headline", "groupchat", "error"):
            return stanza
        patience_s = handing.until - self.clock.seconds()
        return stanza if patience_s <= 0 else Wait(self._wait(stanza, handing, patience_s))

    async def _wait(self, stanza: Stanza, handing: "_Handing", patience_s: float) -> Stanza:
        waiting: Deferred[None] = Deferred()
        handing.waiting.append(waiting)
        with suppress(DeferredTimeoutError):  # a client is slow to acknowledge: <delay/> tells it the order
            await waiting.addTimeout(patience_s, self.clock)
        return stanza

    async def _hand_over(self, rows: Sequence[tuple[Any, ...]], account: JID, session: Session) -> list[str]:
        """Sends a page; gives those of its messages that the client has, once it is known of all."""
        taken: list[str] = []
        left = len(rows)
        done: Deferred[None] = Deferred()

        def heard(uid: str, has_arrived: bool) -> None:
            nonlocal left
            left -= 1
            if has_arrived:
                taken.append(uid)
            if not left:
                done.callback(None)

        copies = session.slots.get(ArchivedCopies, ())
        for uid, sent_at, data in rows:
            stanza = parse_stanza(bytes(data))
            if copies and stanza_id_by(stanza, account.bare) in copies:
                heard(uid, True)
                continue
            late = delayed(stanza, Delay(sent_at, account.domain))
            session.deliver_stored(late, late.to_bytes(), partial(heard, uid))
        if rows:
            await done
        else:
            session.slots.pop(ArchivedCopies, None)
        return taken

    def _target(self, session: Session) -> Session | None:
        """The session that asked if it can still take messages, else another one of the account."""
        able = self.sessions.top(session.jid.bare)
        return session if session in able else next(iter(able), None)

    # -- messages that leave and arrive (XEP-0227)

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        await self._writer.flush()
        owner = (account.domain, account.local)
        rows = await self.database.query(_PAGE, (*owner, -1, str(uuid.UUID(int=0))))
        if not rows:
            return
        yield b"<offline-messages>\n"
        while rows:
            messages = (KeptMessage(sent_at, bytes(data)) for _, _, sent_at, data in rows)
            yield b"".join(message.printed(account.domain) + b"\n" for message in messages)
            rows = await self.database.query(_PAGE, (*owner, *rows[-1][:2]))
        yield b"</offline-messages>\n"

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        arriving: list[KeptMessage] = []
        problems: list[str] = []
        for number, child in enumerate(element.elements(), 1):
            try:
                arriving.append(read_message(child, account.domain, self.clock.seconds()))
            except ValueError as error:
                problems.append(f"offline message {number}: {error}")
        await self._writer.flush()
        if left_out := await self._add(account, await self._new_ones(account, arriving)):
            problems.extend(["offline message: there are more than an account may have"] * left_out)
        if problems:
            raise NotImported(*problems)
        return True

    async def _new_ones(self, account: JID, arriving: list[KeptMessage]) -> list[KeptMessage]:
        """Those that are not there, however they are spelt there."""
        moments = [message.sent_at for message in arriving]
        rows = await self.database.query(_PRESENT, (account.domain, account.local, moments))
        there = {KeptMessage(sent_at, bytes(data)).canonical() for sent_at, data in rows}
        return [message for message in arriving if message.canonical() not in there]

    async def _add(self, account: JID, messages: list[KeptMessage]) -> int:
        """Stores messages behind those of the same time; gives the number of those for which there is no room."""
        owner = (account.domain, account.local)
        ((count,),) = await self.database.query(_COUNT, owner)
        kept = messages[: int(min(len(messages), max(0, self._limit(account) - count)))]
        if kept:
            until = max(message.microseconds for message in kept) + 1_000_000
            ((last,),) = await self.database.query(_LAST, (*owner, until))
            rows = []
            for message in kept:
                last = max(last + 1, message.microseconds)
                rows.append((*owner, last, str(uuid.uuid4()), message.sent_at, message.data))
            await self.database.execute(_STORE, [list(column) for column in zip(*rows, strict=True)])
            self._counts.pop(account.bare, None)
            for session in self.sessions.top(account.bare)[:1]:
                self.session_available(session)
        return len(messages) - len(kept)

    # -- removal

    def forget_domain(self, domain: str) -> None:
        for bare in [bare for bare in self._counts if bare.rpartition("@")[2] == domain]:
            del self._counts[bare]

    async def remove_domain(self, domain: str) -> None:
        self.forget_domain(domain)
        # Rows that were on their way when the table was emptied.
        await self._writer.flush()
        await self.database.execute(_DELETE_DOMAIN, (domain,))

    async def remove_account(self, account: JID) -> None:
        self._counts.pop(account.bare, None)
        await self._writer.flush()
        await self.database.execute(_DELETE_ACCOUNT, (account.domain, account.local))


def worth_keeping(stanza: Stanza) -> bool:
    """Section 3: not what is only about this moment, unless its sender (XEP-0334) wants it otherwise."""
    keys = stanza.child_keys
    if forbids_storing(keys):
        return False
    return _BODY in keys or STORE in keys or any(map(is_content, keys))
