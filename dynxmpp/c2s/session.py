"""C2SSession: a bound resource. Stamps `from`, hands stanzas to the router, writes what it is sent to its stream.

Without stream management a session ends with its stream. With it (c2s/stream_management.py) the session waits for its
client to come back on another stream; what the client has not acknowledged when a session ends is delivered again.
"""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.c2s.stream import LANG, C2SStream
from dynxmpp.c2s.stream_management import Acknowledged, StreamManager, enable
from dynxmpp.commit import CommitTicket
from dynxmpp.core import replies
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Clock, Gate
from dynxmpp.core.router import Router
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.jid import JID, InvalidJID
from dynxmpp.modules.stream_management import NS_SM
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_BIND, NS_CLIENT, NS_SESSION
from dynxmpp.wire.stanza import Stanza, qualified

_STANZAS = frozenset({"message", "presence", "iq"})
_SESSION = (qualified(NS_SESSION, "session"),)
_BIND = (qualified(NS_BIND, "bind"),)

#: Stanzas of a session whose effects are not committed yet, from which on it is no longer read from; again from half.
MAX_UNCOMMITTED = 200
#: The same for each session while those of all sessions together are more than the second number: the database is
#: slower than the clients, and everybody is to have a share of it before anybody is refused.
BUSY_UNCOMMITTED = 10
BUSY_AT = 2_000

log = Logger()


class C2SSession:
    """Implements core.interfaces.Session for a client's connection."""

    __slots__ = (
        "_claimant",
        "_expiry",
        "_giving_up",
        "_language",
        "_slow",
        "_slow_from",
        "_uncommitted",
        "available",
        "bound_at",
        "clock",
        "full",
        "gate",
        "host_type",
        "is_over",
        "jid",
        "manager",
        "presence",
        "priority",
        "router",
        "slots",
        "stream",
        "wants_roster",
    )

    def __init__(self, stream: C2SStream, jid: JID, host_type: HostType, router: Router) -> None:
        #: The connection; one that has ended while the client is away.
        self.stream = stream
        self.clock: Clock = stream.clock
        self.jid = jid
        self.full = jid.full
        self.host_type = host_type
        self.router = router
        self.bound_at = self.clock.seconds()
        self.available = False
        self.priority = 0
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.slots: dict[type, Any] = {}
        self.gate: Gate | None = None
        self.manager: StreamManager | None = None
        self.is_over = False
        self._language = stream.peer_language
        self._slow = 0
        self._uncommitted = 0
        #: How many uncommitted stanzas have stopped the reading; 0 while they have not.
        self._slow_from = 0
        self._expiry: Any = None
        self._claimant: C2SStream | None = None
        self._giving_up = False

    @property
    def address(self) -> str:
        """Where the client connected from, for people."""
        peer = self.stream.transport.getPeer()
        return f"{getattr(peer, 'host', peer)}:{getattr(peer, 'port', '')}"

    @property
    def encrypted(self) -> bool:
        return bool(getattr(self.stream.authenticator, "encrypted", False))

    # -- from the client

    def receive(self, stanza: Stanza) -> None:
        """An element at depth 1, after binding."""
        if stanza.name not in _STANZAS or stanza.uri != NS_CLIENT:
            self._receive_nonza(stanza)
            return
        attributes = stanza.attributes
        sender = attributes.get("from")
        if sender is not None and sender != self.full and not self._is_own(sender):
            self.stream.fail(StreamError("invalid-from"))
            return
        attributes["from"] = self.full
        if self._language is not None:  # RFC 6120 8.1.5
            attributes.setdefault(LANG, self._language)
        if stanza.name == "iq" and stanza.child_keys in (_SESSION, _BIND) and self._negotiates(stanza):
            ticket = None
        else:
            context = self.router.from_session(stanza, self, self.host_type)
            ticket = context.ticket
            if ticket is not None and not (ticket.settled and not ticket.failed):
                self._follow(ticket, stanza, context)
        if self.manager is not None:
            self.manager.received(ticket)

    def _receive_nonza(self, element: Stanza) -> None:
        """What is no stanza: about the stream itself, or for a module. Raises StreamError."""
        if element.uri == NS_SM:
            if self.manager is not None:
                self.manager.receive(element)
            elif element.name == "enable":
                self.stream.write(enable(self, element))
            else:
                raise StreamError("unsupported-stanza-type", "Stream management is not enabled")
            return
        handler = self.host_type.nonzas.get(qualified(element.uri, element.name))
        if handler is None:
            raise StreamError("unsupported-stanza-type")
        handler(self, element)

    def _follow(self, ticket: CommitTicket, stanza: Stanza, context: RoutingContext) -> None:
        """Waits for what a stanza wrote. Who sends faster than can be committed is no longer read from."""

        def settled(_: CommitTicket) -> None:
            self._uncommitted -= 1
            router.uncommitted -= 1
            if self._slow_from and self._uncommitted <= self._slow_from // 2:
                self._slow_from = 0
                self.slow_down(False)
            if ticket.failed and not self.is_over:
                # It will never be written: the client must know, and not send it again for ever.
                self.router.passage.refuse(stanza, context, StanzaError("internal-server-error"))
            if self.manager is not None:
                self.manager.settle()

        router = self.router
        router.uncommitted += 1
        self._uncommitted += 1
        if self._uncommitted >= BUSY_UNCOMMITTED and not self._slow_from:
            limit = MAX_UNCOMMITTED if router.uncommitted < BUSY_AT else BUSY_UNCOMMITTED
            if self._uncommitted >= limit:
                self._slow_from = limit
                self.slow_down(True)
        ticket.when_settled(settled)

    def _is_own(self, sender: str) -> bool:
        """RFC 6120 8.1.2.1: the full JID or the bare JID of this session, in any spelling."""
        try:
            return JID.parse(sender).full in (self.full, self.jid.bare)
        except InvalidJID:
            return False

    def _negotiates(self, request: Stanza) -> bool:
        """Answers what is about the stream itself; False when it is not, or no request.

        The session request of RFC 3921 3, which old clients still make, has nothing to establish. There is one
        resource a stream, so another request to bind is not allowed (RFC 6120 7.6.2.2).
        """
        attributes, domain = request.attributes, self.jid.domain
        if "id" not in attributes or attributes.get("type") != "set":
            return False
        if attributes.get("to") not in (None, domain, self.jid.bare):
            return False
        if request.child_keys == _SESSION:
            reply = Stanza("iq", {"type": "result", "id": attributes["id"], "to": self.full})
        else:
            reply = replies.error(request, StanzaError("not-allowed"), domain, self.full)
        self.deliver(reply, reply.to_bytes())
        return True

    # -- to the client

    def deliver(self, stanza: Stanza, data: bytes) -> None:
        if self.gate is None or not self.gate(stanza, data):
            self.send(stanza, data)

    def send(self, stanza: Stanza, data: bytes) -> None:
        if self.manager is None:
            self.stream.write(data)
        elif self.is_over:  # since this delivery began
            self.router.redeliver(stanza, self.jid, self.host_type, self.clock.seconds())
        else:
            self.manager.send(stanza, data)

    def deliver_stored(self, stanza: Stanza, data: bytes, acknowledged: Acknowledged) -> None:
        if self.is_over:
            acknowledged(False)
        elif self.manager is not None:
            self.manager.send(stanza, data, acknowledged)
        else:
            self.stream.write(data)
            acknowledged(not self.stream.ended)

    def slow_down(self, slow: bool) -> None:
        self._slow += 1 if slow else -1
        if slow and self._slow == 1:
            self.stream.pause()
        elif not slow and self._slow == 0:
            self.stream.unpause()

    # -- the end of a connection, and of the session

    @property
    def is_connected(self) -> bool:
        return not self.stream.ended

    def stream_ended(self, lost: bool) -> None:
        """The stream is over; `lost`: neither side had closed it."""
        manager = self.manager
        if manager is None or manager.id is None or not lost or self.is_over or self._giving_up:
            self._leave()
            return
        manager.disconnected()
        self._expire_later()
        log.info("session_waits", jid=self.full, timeout_s=manager.timeout_s)

    def end(self, error: StreamError) -> None:
        if error.condition == "connection-timeout":
            self.stream.cut(error)  # the connection is as good as lost, the session need not be
            return
        self._drop_stream(error)
        self._leave()

    def give_up(self, reason: str) -> None:
        """Ends the session from within a delivery to it, as soon as that is over."""
        if not self._giving_up:
            self._giving_up = True
            log.warn("session_given_up", jid=self.full, reason=reason)
            self.clock.callLater(0, self.end, StreamError("resource-constraint", reason))

    def _drop_stream(self, error: StreamError) -> None:
        self.stream.on_end = None
        self.stream.fail(error)

    def _expire_later(self) -> None:
        assert self.manager is not None
        self._expiry = self.clock.callLater(self.manager.timeout_s, self._expired)

    def _expire_never(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expired(self) -> None:
        self._expiry = None
        log.info("session_expired", jid=self.full)
        self._leave()

    def _leave(self) -> None:
        """The session leaves the table, its modules are told, and what its client did not get goes elsewhere."""
        if self.is_over:
            return
        self.is_over = True
        self._claimant = None
        self._expire_never()
        if self.router.sessions.remove(self):
            self.host_type.session_ended(self)
            log.info("session_ended", jid=self.full)
        if self.manager is not None:
            for stanza, _, sent_at, _ in self.manager.close():
                self.router.redeliver(stanza, self.jid, self.host_type, sent_at)

    # -- resumption (c2s/resumption.py)

    def claim(self, stream: C2SStream) -> None:
        """From now on the client is on `stream`: what comes on another one counts no more."""
        assert self.manager is not None
        error = StreamError("conflict", "Resumed on a new connection")
        if self._claimant is not None and self._claimant is not stream:
            self._claimant.fail(error)
        if not self.stream.ended:
            self._drop_stream(error)
            self.manager.disconnected()
        self._expire_never()
        self._claimant = stream

    def is_claimed_by(self, stream: C2SStream) -> bool:
        """Does the session wait for `stream` to take over? One that has ended meanwhile claims nothing."""
        if self.is_over or self._claimant is not stream:
            return False
        if stream.ended:
            self._claimant = None
            self._expire_later()
            return False
        return True

    def attach(self, stream: C2SStream, h: int) -> None:
        """Goes on over `stream`, whose client has `h` stanzas. What answers <resume/> has been sent."""
        assert self.manager is not None
        self._claimant = None
        self.stream = stream
        self._language = stream.peer_language
        if self._slow:
            stream.pause()
        stream.on_end = self.stream_ended
        stream.take_over(self.receive)
        self.manager.resume(h)

    def when_settled(self) -> "Deferred[None]":
        """Fires once all that the client was promised an acknowledgement for is committed."""
        return succeed(None) if self.manager is None else self.manager.when_settled()

    def acknowledge(self) -> None:
        """Tells the client what is safe, before the stream is closed (XEP-0198 section 4)."""
        if self.manager is not None:
            self.manager.answer()

    def __repr__(self) -> str:
        return f"C2SSession({self.full!r})"
