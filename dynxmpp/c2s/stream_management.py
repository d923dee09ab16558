"""Stream management on a stream: XEP-0198, version 1.6.3, sections 3 to 6.

An acknowledgement of ours counts a stanza only when all that it wrote is committed, and only after those before it:
what a client was told is safe stays safe whatever dies. Stanzas that wrote nothing count at once.

What the client has not acknowledged is kept, whether it is connected or away; see `C2SSession` for what becomes of it.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.commit import CommitTicket
from dynxmpp.modules.stream_management import NS_SM, StreamManagement
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_STANZA_ERRORS
from dynxmpp.wire.stanza import Stanza

if TYPE_CHECKING:
    from dynxmpp.c2s.session import C2SSession

REQUEST = f"<r xmlns='{NS_SM}'/>".encode()
#: Counters are unsigned 32-bit integers (section 4).
MASK = 0xFFFF_FFFF
#: Seconds that an answer to <r/> is held back while something it would count is not committed yet.
ANSWER_TIMEOUT_S = 2.0
#: How much more a connected client may leave unacknowledged than is kept for one that is away.
CONNECTED_STANZAS = 10
CONNECTED_BYTES = 4

#: Told once: does the client have the stanza for certain?
Acknowledged = Callable[[bool], None]
#: A stanza that was sent, its bytes, when, and who waits to hear that it has arrived.
Sent = tuple[Stanza, bytes, float, Acknowledged | None]


class StreamManager:
    """The counters and the queue of one session, over all its connections."""

    def __init__(self, session: "C2SSession", service: StreamManagement, *, resumable: bool, timeout_s: int) -> None:
        """`timeout_s`: how long the session waits for its client to come back."""
        self._session = session
        self._service = service
        self.id = service.remember(session) if resumable else None
        self.timeout_s = timeout_s
        #: Our `h`: stanzas of the client whose effects are committed.
        self.handled = 0
        #: Stanzas after those, in order; None for one that wrote nothing.
        self._pending: deque[CommitTicket | None] = deque()
        #: How many of them must be dealt with before <r/> is answered; None when nobody has asked.
        self._owed: int | None = None
        self._asked_again = False
        self._answer_timer: Any = None
        self._settled: list[Deferred[None]] = []
        #: The client's last `h`.
        self.acknowledged = 0
        self._sent: deque[Sent] = deque()
        #: Those of them that nobody else keeps: how many, and their bytes.
        self._kept = 0
        self._kept_bytes = 0
        self._since_request = 0
        #: Was one of them stored? It stays so, and out of everybody else's reach, until the client has answered.
        self._is_awaited = False
        self._is_requested = False
        self._max_stanzas = service.max_stanzas
        self._max_bytes = service.options.buffer_max_bytes
        self._ack_every = service.ack_every

    # -- from the client

    def received(self, ticket: CommitTicket | None) -> None:
        """A stanza came; `ticket` says when it may be counted, None: now. Its owner calls `settle()` then."""
        if not self._pending and (ticket is None or ticket.settled):
            self.handled = (self.handled + 1) & MASK
        else:
            self._pending.append(ticket)

    def settle(self) -> None:
        """Counts what has been committed, and gives the answers that waited for it."""
        pending = self._pending
        while pending:
            ticket = pending[0]
            if ticket is not None and not ticket.settled:
                break
            pending.popleft()
            self.handled = (self.handled + 1) & MASK
            if self._owed is not None:
                self._owed -= 1
        if self._owed is not None and self._owed <= 0:
            self._answer()
        if self._session.is_over and self.id is not None:
            self._service.update_stale(self.id, self.handled)
        if not pending:
            settled, self._settled = self._settled, []
            for deferred in settled:
                deferred.callback(None)

    def when_settled(self) -> "Deferred[None]":
        """Fires once everything that was received is committed."""
        deferred: Deferred[None] = Deferred()
        if self._pending:
            self._settled.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def receive(self, element: Stanza) -> None:
        """An element of this namespace, after stream management was enabled. Raises StreamError."""
        if element.name == "a":
            self.acknowledge(count(element))
            self._is_requested = False
            if self._sent and self._since_request and (self._ack_every or self._is_awaited):
                self._request()
        elif element.name == "r":
            self._asked()
        elif element.name in ("enable", "resume"):
            self._session.stream.write(failed("unexpected-request"))
        else:
            raise StreamError("unsupported-stanza-type")

    def _asked(self) -> None:
        if not self._pending:
            self.answer()
        elif self._owed is not None:
            self._asked_again = True
        else:
            self._owed = len(self._pending)
            if self._answer_timer is None:
                self._answer_timer = self._session.clock.callLater(ANSWER_TIMEOUT_S, self._answer_late)

    def _answer(self) -> None:
        self._owed = None
        self.answer()
        if self._asked_again:
            self._asked_again = False
            if self._pending:
                self._owed = len(self._pending)

    def _answer_late(self) -> None:
        """Section 4: an answer is not to be withheld but for a time; what is not committed by now is not counted."""
        self._answer_timer = None
        if self._owed is not None:
            self.answer()
            self._answer_timer = self._session.clock.callLater(ANSWER_TIMEOUT_S, self._answer_late)

    def answer(self) -> None:
        """Says how many stanzas are safe."""
        self._session.stream.write(b"<a xmlns='%b' h='%d'/>" % (NS_SM.encode(), self.handled))

    # -- to the client

    def send(self, stanza: Stanza, data: bytes, acknowledged: Acknowledged | None = None) -> None:
        """Sends a stanza and keeps it until the client has acknowledged it."""
        session = self._session
        self._sent.append((stanza, data, session.clock.seconds(), acknowledged))
        if acknowledged is None:
            self._kept += 1
            self._kept_bytes += len(data)
        else:
            self._is_awaited = True
        self._since_request += 1
        stream = session.stream
        if stream.ended:
            if self._kept > self._max_stanzas or self._kept_bytes > self._max_bytes:
                session.give_up("too much waits for a client that is away")
            return
        stream.write(data)
        if not self._is_requested and (self._is_awaited or 0 < self._ack_every <= self._since_request):
            self._request()
        if (
            self._kept > CONNECTED_STANZAS * (self._max_stanzas or 100)
            or self._kept_bytes > CONNECTED_BYTES * self._max_bytes
        ):
            session.give_up("the client does not acknowledge what it is sent")

    def _request(self) -> None:
        self._is_requested = True
        self._is_awaited = False
        self._since_request = 0
        self._session.stream.write(REQUEST)

    def acknowledge(self, h: int) -> None:
        """The client has so many stanzas. Raises StreamError for more than it was sent (section 6)."""
        more = (h - self.acknowledged) & MASK
        if more > len(self._sent):
            sent = (self.acknowledged + len(self._sent)) & MASK
            raise StreamError(
                "undefined-condition",
                f"You acknowledged {h} stanzas, but I only sent you {sent} so far.",
                f"<handled-count-too-high xmlns='{NS_SM}' h='{h}' send-count='{sent}'/>".encode(),
            )
        self.acknowledged = h
        for _ in range(more):
            _, data, _, acknowledged = self._sent.popleft()
            if acknowledged is None:
                self._kept -= 1
                self._kept_bytes -= len(data)
            else:
                acknowledged(True)

    # -- connections

    def is_possible(self, h: int) -> bool:
        """Can a client that resumes have so many stanzas?"""
        return (h - self.acknowledged) & MASK <= len(self._sent)

    def disconnected(self) -> None:
        """The connection is gone; who asked on it will not hear of it."""
        self._owed = None
        self._asked_again = False
        self._stop_timer()

    def resume(self, h: int) -> None:
        """The session has a new connection, whose client has `h` stanzas: it gets the rest once more."""
        missed = [(data, acknowledged) for _, data, _, acknowledged in self._sent]
        del missed[: (h - self.acknowledged) & MASK]
        self._is_requested = False
        if missed:
            self._session.stream.write_all(b"".join(data for data, _ in missed))
            if self._ack_every or any(acknowledged is not None for _, acknowledged in missed):
                self._request()
        # Last, for who waits for it may have more to send.
        self.acknowledge(h)

    def close(self) -> list[Sent]:
        """The session is over; gives what the client has not acknowledged, without what is kept elsewhere."""
        self._stop_timer()
        if self.id is not None:
            self._service.forget(self.id, self.handled)
        sent, self._sent = self._sent, deque()
        self._kept = self._kept_bytes = 0
        waiting, self._settled = self._settled, []
        for deferred in waiting:
            deferred.callback(None)
        left = []
        for entry in sent:
            if entry[3] is None:
                left.append(entry)
            else:
                entry[3](False)
        return left if self._max_stanzas else []

    def _stop_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None


def enable(session: "C2SSession", element: domish.Element) -> bytes:
    """<enable/> (section 3): what answers it. From then on stanzas count, so the answer must be sent next."""
    service = session.host_type.find(StreamManagement)
    if service is None:
        return failed("feature-not-implemented")
    if session.manager is not None:
        return failed("unexpected-request")
    timeout_s = service.options.resume_timeout
    wanted = element.getAttribute("max")
    if wanted is not None:
        if not wanted.isascii() or not wanted.isdigit() or len(wanted) > 10:
            return failed("bad-request")
        timeout_s = min(timeout_s, int(wanted))
    resumable = element.getAttribute("resume") in ("true", "1") and service.max_stanzas > 0 and timeout_s > 0
    manager = session.manager = StreamManager(session, service, resumable=resumable, timeout_s=timeout_s)
    if manager.id is None:
        return f"<enabled xmlns='{NS_SM}'/>".encode()
    return f"<enabled xmlns='{NS_SM}' id='{manager.id}' resume='true' max='{timeout_s}'/>".encode()


def failed(condition: str, handled: int | None = None) -> bytes:
    """<failed/> with a condition of RFC 6120 8.3.3; `handled` as section 5 has it for sessions that are over."""
    attributes: dict[escape.AttributeName, str] = {} if handled is None else {"h": str(handled)}
    tag = escape.open_tag("failed", attributes, {}, NS_SM)
    return f"{tag}<{condition} xmlns='{NS_STANZA_ERRORS}'/></failed>".encode()


def count(element: domish.Element) -> int:
    """The attribute `h`. Raises StreamError when there is none that makes sense."""
    text = element.getAttribute("h", "")
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MASK:
        raise StreamError("invalid-xml", "h must be an unsigned 32-bit number")
    return int(text)
