"""Presence: RFC 6121 4. Who is available, who learns it, and what the server answers to probes.

This module alone makes sessions available: without it nobody is, messages for bare JIDs find no resource, and presence
goes nowhere but where it is directed. It works without a roster too; then presence reaches an account's own resources
and those that it is directed to.

Stanzas about subscriptions are the roster's (RFC 6121 3).
"""

import re
from collections.abc import Iterable

from dynxmpp.config.model import positive
from dynxmpp.core.interfaces import Blocklist
from dynxmpp.module import (
    JID,
    Direction,
    Filter,
    Module,
    ModuleContext,
    Phase,
    RoutingContext,
    Section,
    Session,
    Stanza,
    StanzaError,
    Stop,
    SubscriptionBook,
    Verdict,
    Wait,
    option,
    qualified,
    section,
)
from dynxmpp.wire.ns import NS_CLIENT

_PRIORITY = qualified(NS_CLIENT, "priority")
_INTEGER = re.compile("[+-]?[0-9]{1,10}").fullmatch


@section
class PresenceConfig(Section):
    """[modules.mod_presence]: `max_directed` bounds the entities a session has directed presence to."""

    max_directed: int = option(default=1000, check=positive)


class Presence(Module):
    """Keeps `available`, `priority` and `presence` of sessions, and tells those who may know."""

    name = "mod_presence"
    config_model = PresenceConfig

    def __init__(self, context: ModuleContext, config: PresenceConfig) -> None:
        super().__init__(context, config)
        self._book: SubscriptionBook | None = None
        self._blocklist: Blocklist | None = None

    async def start(self) -> None:
        self._book = self.host_type.find(SubscriptionBook)
        self._blocklist = self.host_type.find(Blocklist)

    def filters(self) -> Iterable[Filter]:
        yield Filter(Direction.OUTGOING, Phase.STATE, self._note_directed, ("presence",))
        # The last phase: other modules have seen a broadcast by then.
        yield Filter(Direction.OUTGOING, Phase.DELIVER, self._broadcast, ("presence",))
        yield Filter(Direction.INCOMING, Phase.STATE, self._receive, ("presence",))

    # -- what the broadcasts need to know

    def _is_cold(self, account: JID) -> bool:
        """Must something be loaded before it is known who gets the account's presence?"""
        if self._book is None:
            return False
        if self._book.subscribers(account) is None:
            return True
        return self._blocklist is not None and self._blocklist.blocks(account, account) is None

    async def _load(self, account: JID) -> None:
        while self._is_cold(account):
            if self._book is not None:
                await self._book.load(account)
            if self._blocklist is not None:
                await self._blocklist.load(account)

    def _contacts(self, account: JID, *, subscribed_to: bool = False) -> Iterable[JID]:
        """The contacts that get the account's presence (or give theirs), as far as anybody may be there.

        A contact of this server that is not available costs nothing; one that is blocked gets nothing (XEP-0191 3.3).
        """
        book, blocklist = self._book, self._blocklist
        if book is None:
            return
        contacts = book.subscribed_to(account) if subscribed_to else book.subscribers(account)
        is_served, available = self.context.domains.get, self.sessions.available
        for contact in contacts or ():
            if contact.local is not None and is_served(contact.domain) is not None and not available(contact.bare):
                continue
            if blocklist is None or not blocklist.blocks(account, contact):
                yield contact

    # -- a client's presence for everybody: RFC 6121 4.2, 4.4, 4.5

    def _broadcast(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        session = context.origin
        type_ = stanza.attributes.get("type")
        if session is None or "to" in stanza.attributes or type_ not in (None, "unavailable"):
            return stanza
        priority = read_priority(stanza) if type_ is None else None
        if self._is_cold(session.jid):
            return Wait(self._change_later(session, stanza, priority))
        self._change(session, stanza, priority)
        return Stop("broadcast")

    async def _change_later(self, session: Session, stanza: Stanza, priority: int | None) -> Stop:
        await self._load(session.jid.to_bare())
        if self.sessions.get(session.jid) is session:
            self._change(session, stanza, priority)
        return Stop("broadcast")

    def _change(self, session: Session, stanza: Stanza, priority: int | None) -> None:
        """The session is available with this priority from now on, or with None not any more."""
        if priority is None:
            self._leave(session, stanza)
            return
        is_initial = not session.available
        took_messages = session.available and session.priority >= 0
        session.available, session.priority, session.presence = True, priority, stanza
        self._tell(session, stanza, self._contacts(session.jid.to_bare()))
        self._tell_own(session, stanza)
        if is_initial:
            self._welcome(session)
        if priority >= 0 and not took_messages:
            self.host_type.session_available(session)

    def _welcome(self, session: Session) -> None:
        """RFC 6121 4.2.2, 4.3.1, 3.1.3: a resource that has become available learns what it may know."""
        account = session.jid.to_bare()
        for other in self.sessions.available(account.bare):
            if other is not session and other.presence is not None:
                _deliver(other.presence, session)
        probe = Stanza("presence", {"type": "probe", "from": session.jid.full})
        self._tell(session, probe, self._contacts(account, subscribed_to=True))
        if self._book is not None:
            for request in self._book.requests(account) or ():
                session.deliver(request, request.to_bytes())

    def session_ended(self, session: Session) -> None:
        """RFC 6121 4.5.2: the server says it for a client that did not."""
        if not session.available and Presence not in session.slots:
            return
        stanza = Stanza("presence", {"type": "unavailable", "from": session.jid.full})
        if session.available and self._is_cold(session.jid):
            self.context.spawn("unavailable_presence_failed", self._leave_later(session, stanza))
        else:
            self._leave(session, stanza)

    async def _leave_later(self, session: Session, stanza: Stanza) -> None:
        await self._load(session.jid.to_bare())
        self._leave(session, stanza)

    def _leave(self, session: Session, stanza: Stanza) -> None:
        account = session.jid.to_bare()
        directed: dict[JID, None] = session.slots.pop(Presence, {})
        if session.available:
            session.available, session.priority, session.presence = False, 0, None
            contacts = list(self._contacts(account))
            self._tell(session, stanza, contacts)
            self._tell_own(session, stanza)
            if self.sessions.get(session.jid) is session:
                _deliver(stanza, session)
            told = {contact.bare for contact in contacts}
            directed = {target: None for target in directed if target.bare not in told}
        self._tell(session, stanza, directed)

    def _tell(self, session: Session, stanza: Stanza, recipients: Iterable[JID]) -> None:
        for recipient in recipients:
            self.router.route(stanza.with_attributes({"to": recipient.full}), session.jid, recipient)

    def _tell_own(self, session: Session, stanza: Stanza) -> None:
        """RFC 6121 4.2.2, 4.4.2, 4.5.2: to the account's available resources, the one it came from included."""
        for other in self.sessions.available(session.jid.bare):
            _deliver(stanza, other)

    # -- directed presence: RFC 6121 4.6

    def _note_directed(self, stanza: Stanza, context: RoutingContext) -> Stanza:
        session = context.origin
        if session is None or "to" not in stanza.attributes or context.from_own_account:
            return stanza
        type_ = stanza.attributes.get("type")
        if type_ is None:
            read_priority(stanza)
            directed = session.slots.setdefault(Presence, {})
            if context.recipient not in directed and len(directed) >= self.config.max_directed:
                raise StanzaError("policy-violation", type="wait", text="Presence directed to too many")
            directed[context.recipient] = None
        elif type_ == "unavailable":
            session.slots.get(Presence, {}).pop(context.recipient, None)
        return stanza

    # -- what comes in

    def _receive(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        type_ = stanza.attributes.get("type")
        recipient = context.recipient
        if type_ not in ("probe", "error") or recipient.local is None or context.subdomain is not None:
            return stanza
        if type_ == "error":
            # RFC 6121 4.6.3: who cannot be reached is not told that the session has left.
            session = self.sessions.get(recipient) if recipient.resource is not None else None
            if session is not None:
                session.slots.get(Presence, {}).pop(context.sender, None)
            return stanza
        account = recipient.to_bare()
        if context.from_own_account or self._is_aware(account, context.sender):
            self._answer_probe(context)
        elif self._book is not None:
            subscription = self._book.subscription(account, context.sender.to_bare())
            if subscription is None:
                return Wait(self._judge_later(account, context, self._book))
            self._judge_probe(subscription, context)
        return Stop("probe")

    def _is_aware(self, account: JID, prober: JID) -> bool:
        """Has a resource of the account shown itself to the prober by directed presence?"""
        return any(
            prober in directed or prober.to_bare() in directed
            for directed in (session.slots.get(Presence, ()) for session in self.sessions.of(account.bare))
        )

    async def _judge_later(self, account: JID, context: RoutingContext, book: SubscriptionBook) -> Stop:
        await book.load(account)
        self._judge_probe(book.subscription(account, context.sender.to_bare()) or "none", context)
        return Stop("probe")

    def _judge_probe(self, subscription: str, context: RoutingContext) -> None:
        if subscription in ("from", "both"):
            self._answer_probe(context)
            return
        account, prober = context.recipient.to_bare(), context.sender.to_bare()
        # RFC 6121 4.3.2, 1: the same for an account that does not exist.
        stanza = Stanza("presence", {"type": "unsubscribed", "from": account.full, "to": prober.full})
        self.router.route(stanza, account, prober)

    def _answer_probe(self, context: RoutingContext) -> None:
        """RFC 6121 4.3.2: the last presence of each available resource, or that there is none."""
        asked, prober = context.recipient, context.sender
        shown = False
        for session in self.sessions.available(asked.bare):
            if session.presence is not None and asked.resource in (None, session.jid.resource):
                self._tell(session, session.presence, [prober])
                shown = True
        if not shown:
            stanza = Stanza("presence", {"type": "unavailable", "from": asked.full, "to": prober.full})
            self.router.route(stanza, asked, prober)


def _deliver(stanza: Stanza, session: Session) -> None:
    """To a session of the same account, which no filter stands before."""
    addressed = stanza.with_attributes({"to": session.jid.full})
    session.deliver(addressed, addressed.to_bytes())


def read_priority(stanza: Stanza) -> int:
    """RFC 6121 4.7.2.3: -128 to 127, 0 when none is given. Raises StanzaError."""
    if _PRIORITY not in stanza.child_keys:
        return 0
    if stanza.child_keys.count(_PRIORITY) > 1:
        raise StanzaError("bad-request", text="More than one priority")
    text = str(stanza.child(NS_CLIENT, "priority")).strip()
    if not _INTEGER(text) or not -128 <= int(text) <= 127:
        raise StanzaError("bad-request", text="A priority is a number from -128 to 127")
    return int(text)
