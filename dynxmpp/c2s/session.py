"""C2SSession: a bound resource on its stream. Stamps `from`, hands stanzas to the router, writes what it is sent."""

from typing import Any

from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.c2s.stream import LANG, C2SStream
from dynxmpp.core import replies
from dynxmpp.core.host_type import HostType
from dynxmpp.core.router import Router
from dynxmpp.jid import JID, InvalidJID
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_BIND, NS_CLIENT, NS_SESSION
from dynxmpp.wire.stanza import Stanza, qualified

_STANZAS = frozenset({"message", "presence", "iq"})
_SESSION = (qualified(NS_SESSION, "session"),)
_BIND = (qualified(NS_BIND, "bind"),)

log = Logger()


class C2SSession:
    """Implements core.interfaces.Session for a client's connection."""

    __slots__ = (
        "_language",
        "_slow",
        "available",
        "bound_at",
        "full",
        "host_type",
        "jid",
        "presence",
        "priority",
        "router",
        "slots",
        "stream",
        "wants_roster",
    )

    def __init__(self, stream: C2SStream, jid: JID, host_type: HostType, router: Router, bound_at: float) -> None:
        self.stream = stream
        self.jid = jid
        self.full = jid.full
        self.host_type = host_type
        self.router = router
        self.bound_at = bound_at
        self.available = False
        self.priority = 0
        self.presence: Stanza | None = None
        self.wants_roster = False
        self.slots: dict[type, Any] = {}
        self._language = stream.peer_language
        self._slow = 0

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
            self.stream.fail(StreamError("unsupported-stanza-type"))
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
            return
        self.router.from_session(stanza, self, self.host_type)

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
        self.stream.write(data)

    def slow_down(self, slow: bool) -> None:
        self._slow += 1 if slow else -1
        if slow and self._slow == 1:
            self.stream.pause()
        elif not slow and self._slow == 0:
            self.stream.unpause()

    def end(self, error: StreamError) -> None:
        self.stream.fail(error)

    def ended(self) -> None:
        """The stream is over, however: the session leaves the table and its modules are told."""
        if self.router.sessions.remove(self):
            self.host_type.session_ended(self)
            log.info("session_ended", jid=self.full)

    def __repr__(self) -> str:
        return f"C2SSession({self.full!r})"
