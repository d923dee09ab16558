"""XEP-0191 Blocking Command, version 1.3, with "polite blocking" (section 4): subscriptions stay as they are.

Left out: privacy lists (XEP-0016, deprecated). Contacts that were sent directed presence only don't see the account go.

An account is never blocked from itself, nor from its own server: a user who blocks its own domain blocks the other
users there.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.config.model import one_of, positive
from dynxmpp.core.interfaces import Blocklist
from dynxmpp.module import (
    IQ,
    JID,
    Direction,
    Filter,
    Imported,
    InvalidJID,
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
    SubscriptionBook,
    Target,
    Transaction,
    Unavailable,
    Verdict,
    Wait,
    Xep,
    iq_get,
    iq_set,
    option,
    section,
)
from dynxmpp.protocol.privacy_lists import NS_PRIVACY, denied_addresses
from dynxmpp.wire.escape import attribute

NS_BLOCKING = "urn:xmpp:blocking"
NS_BLOCKING_ERRORS = "urn:xmpp:blocking:errors"

_CREATE = """
CREATE TABLE blocklist (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    jid text COLLATE "C" NOT NULL,
    PRIMARY KEY (server, username, jid)
)
"""

# OFFSET 0: one look into the index for each, whatever the planner thinks of the number of accounts.
_SELECT = """
SELECT q.n, found.jid FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS q (server, username, n)
CROSS JOIN LATERAL (SELECT jid FROM blocklist WHERE server = q.server AND username = q.username OFFSET 0) AS found
"""
_COUNT = "SELECT count(*) FROM blocklist WHERE server = %s AND username = %s"
_BLOCK = """
INSERT INTO blocklist (server, username, jid) SELECT %s, %s, unnest(%s::text[])
ON CONFLICT DO NOTHING RETURNING jid
"""
_PAGE = "SELECT jid FROM blocklist WHERE server = %s AND username = %s AND jid > %s ORDER BY jid LIMIT 500"
_UNBLOCK = "DELETE FROM blocklist WHERE server = %s AND username = %s AND jid = ANY(%s::text[]) RETURNING jid"
_UNBLOCK_ALL = "DELETE FROM blocklist WHERE server = %s AND username = %s RETURNING jid"

#: Blocked addresses, as full texts.
Blocked = frozenset[str]


@section
class BlockingConfig(Section):
    """[modules.mod_blocking]: `max_items` bounds an account's list, `cache_size` the lists of accounts not online."""

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("riak",), kind="backend"), unused=True
    )
    max_items: int = option(default=1000, check=positive)
    cache_size: int = option(default=10_000, check=positive)


class _Lists:
    """Lists in memory: of all accounts with sessions, and the least recently used of others up to `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._online: dict[str, Blocked] = {}
        self._others: OrderedDict[str, Blocked] = OrderedDict()

    def get(self, bare: str) -> Blocked | None:
        blocked = self._online.get(bare)
        if blocked is None:
            blocked = self._others.get(bare)
            if blocked is not None:
                self._others.move_to_end(bare)
        return blocked

    def put(self, bare: str, blocked: Blocked, *, online: bool) -> None:
        self.discard(bare)
        if online:
            self._online[bare] = blocked
            return
        self._others[bare] = blocked
        if len(self._others) > self._size:
            self._others.popitem(last=False)

    def discard(self, bare: str) -> None:
        self._online.pop(bare, None)
        self._others.pop(bare, None)

    def __iter__(self) -> Iterator[str]:
        return chain(list(self._online), list(self._others))


class Blocking(Module):
    """Keeps the lists, and stops what they forbid in both directions. Provides Blocklist."""

    name = "mod_blocking"
    xep = Xep(191, "1.3")
    config_model = BlockingConfig
    features = (NS_BLOCKING,)
    stored = (Stored("blocklist", domain="server", user="username"),)
    migrations = (Migration("mod_blocking", 1, "blocklist", _CREATE),)
    imported = (
        Imported.of(NS_BLOCKING, "blocklist", "blocked", in_parts=True),
        Imported.of(NS_PRIVACY, "query", "privacy lists"),
    )

    def __init__(self, context: ModuleContext, config: BlockingConfig) -> None:
        super().__init__(context, config)
        self._rows = LookupCombiner(context.database, _SELECT)
        self._lists = _Lists(config.cache_size)
        #: Who waits for a list that is being read.
        self._reading: dict[str, list[Deferred[Blocked | None]]] = {}
        self._pushes = 0
        self._subscriptions: SubscriptionBook | None = None
        self.host_type.provide(Blocklist, self)

    async def start(self) -> None:
        self._subscriptions = self.host_type.find(SubscriptionBook)

    # -- lists

    def session_bound(self, session: Session) -> None:
        account = session.jid.to_bare()
        known = self._lists.get(account.bare)
        if known is None:
            self.context.spawn("blocklist_read", self.load(account))
        else:
            self._lists.put(account.bare, known, online=True)

    def session_ended(self, session: Session) -> None:
        known = self._lists.get(session.jid.bare)
        if known is not None and not self.sessions.of(session.jid.bare):
            self._lists.put(session.jid.bare, known, online=False)

    async def load(self, account: JID) -> None:
        await self._load(account)

    def blocks(self, account: JID, contact: JID) -> bool | None:
        blocked = self._lists.get(account.bare)
        return None if blocked is None else forbids(blocked, account, contact)

    async def _load(self, account: JID) -> Blocked:
        """The list of an account; several who ask at once are answered by one query."""
        bare = account.bare
        known = self._lists.get(bare)
        if known is not None:
            return known
        waiting = self._reading.get(bare)
        if waiting is not None:
            answer: Deferred[Blocked | None] = Deferred()
            waiting.append(answer)
            known = await answer
            if known is None:
                raise Unavailable("the list could not be read")
            return known
        return await self._read(account)

    async def _read(self, account: JID) -> Blocked:
        bare = account.bare
        waiting: list[Deferred[Blocked | None]] = []
        self._reading[bare] = waiting
        blocked: Blocked | None = None
        try:
            rows = await self._rows.lookup((account.domain, account.local))
            blocked = frozenset(jid for (jid,) in rows)
        finally:
            if self._reading.get(bare) is waiting:  # else the list has changed since the query was sent
                del self._reading[bare]
                if blocked is not None:
                    self._lists.put(bare, blocked, online=bool(self.sessions.of(bare)))
            for answer in waiting:
                answer.callback(blocked)
        return blocked

    def _forget(self, bare: str) -> None:
        self._lists.discard(bare)
        self._reading.pop(bare, None)

    async def remove_account(self, account: JID) -> None:
        self._forget(account.bare)

    def forget_domain(self, domain: str) -> None:
        for bare in [*self._lists, *self._reading]:
            if bare.endswith("@" + domain):
                self._forget(bare)

    # -- what passes

    def filters(self) -> Iterable[Filter]:
        kinds = ("message", "presence", "iq")
        yield Filter(Direction.OUTGOING, Phase.POLICY, self._filter_outgoing, kinds)
        yield Filter(Direction.INCOMING, Phase.POLICY, self._filter_incoming, kinds)

    def _filter_outgoing(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        blocked = self._lists.get(context.sender.bare)
        if blocked:
            _check_outgoing(blocked, context)
        elif blocked is None and not is_own(context.sender, context.recipient):
            return Wait(self._filter_outgoing_cold(stanza, context))
        return stanza

    async def _filter_outgoing_cold(self, stanza: Stanza, context: RoutingContext) -> Stanza | Stop:
        _check_outgoing(await self._load(context.sender.to_bare()), context)
        return stanza

    def _filter_incoming(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        recipient = context.recipient
        if recipient.local is None or context.subdomain is not None:
            return stanza
        blocked = self._lists.get(recipient.bare)
        if blocked:
            return _check_incoming(blocked, stanza, context)
        if blocked is None and not is_own(recipient, context.sender):
            return Wait(self._filter_incoming_cold(stanza, context))
        return stanza

    async def _filter_incoming_cold(self, stanza: Stanza, context: RoutingContext) -> Stanza | Stop:
        return _check_incoming(await self._load(context.recipient.to_bare()), stanza, context)

    # -- requests

    @iq_get(NS_BLOCKING, "blocklist", at=Target.ACCOUNT)
    async def on_list(self, iq: IQ) -> domish.Element:
        _check_owner(iq)
        blocked = await self._load(iq.recipient)
        if iq.context.origin is not None:
            iq.context.origin.slots[Blocking] = True  # from now on it is told of changes
        return _items_element("blocklist", sorted(blocked))

    @iq_set(NS_BLOCKING, "block", at=Target.ACCOUNT)
    async def on_block(self, iq: IQ) -> None:
        _check_owner(iq)
        account, jids = iq.recipient, _requested(iq)
        if not jids:
            raise StanzaError("bad-request", text="No item")
        added = await self._add(account, jids)
        await self._changed(account)
        self._push(account, _items_element("block", jids))
        await self._show_offline(account, added)

    async def _add(self, account: JID, jids: Sequence[str]) -> list[str]:
        """Those of `jids` that were not in the list before. Raises StanzaError when it would be too long."""

        async def store(transaction: Transaction) -> list[str]:
            rows = await transaction.query(_BLOCK, (account.domain, account.local, jids))
            ((count,),) = await transaction.query(_COUNT, (account.domain, account.local))
            if count > self.config.max_items:
                raise StanzaError("policy-violation", type="modify", text=f"At most {self.config.max_items} items")
            return [jid for (jid,) in rows]

        return await self.database.transaction(store)

    @iq_set(NS_BLOCKING, "unblock", at=Target.ACCOUNT)
    async def on_unblock(self, iq: IQ) -> None:
        _check_owner(iq)
        account, jids = iq.recipient, _requested(iq)
        if jids:
            rows = await self.database.query(_UNBLOCK, (account.domain, account.local, jids))
        elif next(iter(iq.payload.elements()), None) is None:
            rows = await self.database.query(_UNBLOCK_ALL, (account.domain, account.local))
        else:
            raise StanzaError("bad-request", text="No item")
        left = await self._changed(account)
        self._push(account, _items_element("unblock", jids))
        await self._show_online(account, [jid for (jid,) in rows], left)

    async def _changed(self, account: JID) -> Blocked:
        """The list as it is after a change was committed; what was read before is not used any more."""
        self._forget(account.bare)
        return await self._load(account)

    # -- lists that leave and arrive (XEP-0227)

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        owner = (account.domain, account.local)
        rows = await self.database.query(_PAGE, (*owner, ""))
        if not rows:
            return
        yield f"<blocklist xmlns='{NS_BLOCKING}'>\n".encode()
        while rows:
            yield "".join(f"<item jid='{attribute(jid)}'/>\n" for (jid,) in rows).encode()
            rows = await self.database.query(_PAGE, (*owner, rows[-1][0]))
        yield b"</blocklist>\n"

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        problems: list[str] = []
        if element.uri == NS_PRIVACY:
            wanted, problems = denied_addresses(element)
        else:
            wanted = [item.getAttribute("jid", "") for item in element.elements() if item.name == "item"]
        jids: dict[str, None] = {}
        for text in wanted:
            try:
                jids[JID.parse(text).full] = None
            except InvalidJID as error:
                problems.append(f"blocked address {text[:60]!r}: {error}")
        if jids:
            added = await self._add(account, list(jids))
            self._forget(account.bare)
            if added:
                self._push(account, _items_element("block", added))
        if problems:
            raise NotImported(*problems)
        return True

    # -- who is told

    def _push(self, account: JID, payload: domish.Element) -> None:
        """Section 3.3 and following: to the resources that have asked for the list."""
        for session in self.sessions.of(account.bare):
            if session.slots.get(Blocking):
                self._pushes += 1
                attributes = {"type": "set", "id": f"block-{self._pushes}", "to": session.jid.full}
                push = Stanza.of_children("iq", attributes, [payload], "jabber:client")
                session.deliver(push, push.to_bytes())

    async def _show_offline(self, account: JID, jids: Sequence[str]) -> None:
        """Section 3.3: a contact that was blocked sees the account go."""
        for contact in await self._watching(account, jids):
            for session in self.sessions.available(account.bare):
                attributes = {"type": "unavailable", "from": session.jid.full, "to": contact.full}
                self.router.route(Stanza("presence", attributes), session.jid, contact)

    async def _show_online(self, account: JID, jids: Sequence[str], left: Blocked) -> None:
        """Section 3.4: a contact that is not blocked any more sees the account as it is."""
        for contact in await self._watching(account, jids):
            if forbids(left, account, contact):
                continue
            for session in self.sessions.available(account.bare):
                if session.presence is not None:
                    changes = {"from": session.jid.full, "to": contact.full}
                    self.router.route(session.presence.with_attributes(changes), session.jid, contact)

    async def _watching(self, account: JID, jids: Sequence[str]) -> list[JID]:
        """Where those of `jids` are reached that get the account's presence."""
        book = self._subscriptions
        if book is None or not jids:
            return []
        await book.load(account)
        subscribers = book.subscribers(account) or ()
        return list(dict.fromkeys(jid for item in map(JID.parse, jids) for jid in _reached(item, subscribers)))


def _reached(item: JID, subscribers: Iterable[JID]) -> Iterator[JID]:
    """The addresses of subscribers that an item of a list is about."""
    for subscriber in subscribers:
        if subscriber.domain == item.domain and item.local in (None, subscriber.local):
            yield subscriber if item.resource is None else subscriber.with_resource(item.resource)


def is_own(account: JID, contact: JID) -> bool:
    """Is `contact` the account itself, or its server? Then no list matters."""
    return contact.bare == account.bare or contact.full == account.domain


def forbids(blocked: Blocked, account: JID, contact: JID) -> bool:
    """Does a list that `account` keeps stop what passes between it and `contact`? Section 5: which item fits."""
    return not is_own(account, contact) and (
        contact.full in blocked
        or contact.bare in blocked
        or contact.domain in blocked
        or (contact.resource is not None and f"{contact.domain}/{contact.resource}" in blocked)
    )


def _check_outgoing(blocked: Blocked, context: RoutingContext) -> None:
    """Raises StanzaError for what goes to a blocked contact (example 9)."""
    if forbids(blocked, context.sender, context.recipient):
        reason = domish.Element((NS_BLOCKING_ERRORS, "blocked"))
        raise StanzaError("not-acceptable", type="cancel", appCondition=reason)


def _check_incoming(blocked: Blocked, stanza: Stanza, context: RoutingContext) -> Stanza | Stop:
    """What comes from a blocked contact: presence and answers end in silence, the rest as if nobody were there."""
    if not forbids(blocked, context.recipient, context.sender):
        return stanza
    type_ = stanza.attributes.get("type")
    if stanza.name == "presence" or (stanza.name == "iq" and type_ in ("result", "error")):
        return Stop("blocked")
    raise StanzaError("service-unavailable")


def _check_owner(iq: IQ) -> None:
    if not iq.from_own_account:
        raise StanzaError("forbidden")


def _requested(iq: IQ) -> list[str]:
    """The addresses in a request, prepared, each once. Raises StanzaError."""
    jids: dict[str, None] = {}
    for item in iq.payload.elements():
        if item.name != "item" or item.uri != NS_BLOCKING:
            continue
        try:
            jids[JID.parse(item["jid"]).full] = None
        except KeyError:
            raise StanzaError("bad-request", text="An item without an address") from None
        except InvalidJID:
            raise StanzaError("jid-malformed") from None
    return list(jids)


def _items_element(name: str, jids: Iterable[str]) -> domish.Element:
    element = domish.Element((NS_BLOCKING, name))
    for jid in jids:
        element.addElement("item")["jid"] = jid
    return element
