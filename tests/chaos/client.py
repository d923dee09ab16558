"""A client that lives through everything: counts what it sends and gets, resumes, sends again, and never forgets.

It sends as fast as its window lets it: `window` messages may be unacknowledged at a time. XEP-0198 with resumption;
when a session cannot be resumed, a new one is bound and what was not acknowledged is sent again, in its order.
"""

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.stanza import Stanza, qualified
from tests.chaos.connection import Connection, Gone, Refused
from tests.chaos.history import Arrival, Conversation, History, Message, Name, body, read_body, read_id
from tests.chaos.outbox import BadCount, Entry, Outbox
from tests.chaos.progress import Gate, Progress

NS_SM = "urn:xmpp:sm:3"
NS_MAM = "urn:xmpp:mam:2"
NS_STANZA_ID = "urn:xmpp:sid:0"
NS_DELAY = "urn:xmpp:delay"

#: Characters of a body; with its other elements a message has about 300 bytes.
BODY_LENGTH = 100
#: Messages that are under way on a connection that is left without closing it.
LATE = 5
#: Messages between two requests for an acknowledgement; each client has one of these habits.
ASK_EVERY = (1, 4, 15, 1000)
#: Seconds between two attempts to come back, or to become available, at most.
PAUSE_S = 0.2
#: Seconds after which is asked again for an acknowledgement that left something open.
ASK_AGAIN_S = 0.05

_REQUEST = f"<r xmlns='{NS_SM}'/>".encode()
_PRESENCE = Entry(b"<presence/>")
_BODY = qualified(NS_CLIENT, "body")
_STANZA_ID = qualified(NS_STANZA_ID, "stanza-id")
_DELAY = qualified(NS_DELAY, "delay")
_RESULT = qualified(NS_MAM, "result")
_clock: Any = reactor


class Client:
    """One account with one resource, which talks to one other."""

    def __init__(
        self,
        conversation: Conversation,
        history: History,
        *,
        port: int,
        gate: Gate,
        progress: Progress,
        window: int,
        rng: random.Random,
    ) -> None:
        self.account = conversation.sender
        self.conversation = conversation
        self.talking = False
        #: Results of a query to the archive, while one is made.
        self.results: list[Stanza] = []
        self.counts = {"sessions": 0, "resumptions": 0, "sessions lost": 0, "failed attempts": 0}
        self.last_problem = ""
        self._history = history
        self._arrivals = history.arrivals.setdefault(self.account, [])
        self._port = port
        self._gate = gate
        self._progress = progress
        self._window = window
        self._random = rng
        self._ask_every = rng.choice(ASK_EVERY)
        self._outbox = Outbox()
        self._connection: Connection | None = None
        # Connections that were left without closing them, and what is still under way on each.
        self._left: list[tuple[Connection, bytes]] = []
        self._coming: Deferred[None] | None = None
        self._stopped = False
        self._previous: str | None = None  # the id of the session that may be resumed
        self._handled = 0
        self._session = 0
        self._was_asked = False  # for an acknowledgement
        self._is_open = False  # a request of ours for an acknowledgement
        self._ask_again: IDelayedCall | None = None
        self._numbers = 0
        self._replies: dict[str, Deferred[Stanza]] = {}
        self._drained: list[Deferred[None]] = []

    def __repr__(self) -> str:
        state = "here" if self._connection else "coming" if self._coming else "away"
        return (
            f"{self.account}: {state}, session {self._session}, {len(self._outbox)} unacknowledged, "
            f"has asked: {self._is_open}, {self.counts}, last problem: {self.last_problem}"
        )

    # -- for who runs the show

    @property
    def is_here(self) -> bool:
        """Has a session that is connected."""
        return self._connection is not None

    def come(self) -> None:
        """Connects, and from now on whenever the connection is lost."""
        if self._coming is None and not self._stopped:
            self._coming = Deferred.fromCoroutine(self._come())
            self._coming.addErrback(self._failed)

    def talk(self) -> None:
        self.talking = True
        self._fill()

    async def drained(self) -> None:
        """Sends nothing more; returns when everything is acknowledged."""
        self.talking = False
        if not self._is_drained:
            deferred: Deferred[None] = Deferred()
            self._drained.append(deferred)
            await deferred

    def cut(self) -> None:
        """The connection is reset; the client learns of it at once."""
        connection = self._turn_away()
        if connection is not None:
            connection.reset()
            self.come()

    def switch(self) -> None:
        """The client comes back over a new connection while the server still has the old one.

        What was sent last over the old one is slow: it arrives when the client is back.
        """
        connection = self._turn_away()
        if connection is not None:
            late = [self._next_message() for _ in range(LATE)] if self.talking else []
            for entry in late:
                self._outbox.put(entry)
            self._left.append((connection, b"".join(entry.data for entry in late)))
            self.come()

    def stop(self) -> None:
        """Ends the session in order, and everything else at once."""
        self._stopped = True
        if self._coming is not None:
            self._coming.cancel()
        if self._ask_again is not None and self._ask_again.active():
            self._ask_again.cancel()
        connection = self._turn_away()
        if connection is not None:
            connection.close()
            self._left.append((connection, b""))
        for left, _ in self._left:
            left.reset()

    def _turn_away(self) -> Connection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.ignore()
        return connection

    # -- coming

    async def _come(self) -> None:
        domain = self.account.partition("@")[2]
        while not self._stopped:
            await self._gate.when_open()
            try:
                connection = await Connection.open(self._port, domain, self.account.partition("@")[0])
                try:
                    await self._establish(connection)
                except BaseException:
                    connection.reset()
                    raise
            except (ConnectError, Gone, Refused, defer.TimeoutError) as problem:
                self.last_problem = repr(problem)
                self.counts["failed attempts"] += 1
                await deferLater(_clock, self._random.uniform(0, PAUSE_S))
                continue
            self._coming = None
            connection.listen(self._on_element, self._on_read, self._on_closed)
            return

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._history.fault("a client's program failed", f"{self.account}: {failure.getTraceback()}")

    async def _establish(self, connection: Connection) -> None:
        """Resumes the session, or begins a new one. Raises Gone, Refused, defer.TimeoutError."""
        if self._previous is not None and await self._resume(connection):
            return
        await connection.bind("chaos")
        connection.write(f"<enable xmlns='{NS_SM}' resume='true'/>".encode())
        enabled = await connection.next()
        if enabled.name != "enabled" or enabled.attributes.get("resume") not in ("true", "1"):
            raise Refused(enabled.to_bytes().decode())
        self._previous = enabled.attributes["id"]
        self._session += 1
        self._handled = 0
        self.counts["sessions"] += 1
        again = self._outbox.begin()
        for entry in again:
            self._message(entry.name).again = True
        self._use(connection)
        self._send(_PRESENCE, *again)

    async def _resume(self, connection: Connection) -> bool:
        """XEP-0198 5; False when the server has the session no longer."""
        previous, self._previous = self._previous, None
        connection.write(f"<resume xmlns='{NS_SM}' h='{self._handled}' previd='{previous}'/>".encode())
        try:
            answer = await connection.next()
        except (Gone, defer.TimeoutError):
            self._previous = previous  # it may be there still
            raise
        counts_fit = "h" not in answer.attributes or self._acknowledged(answer)
        if answer.name == "resumed" and not counts_fit:
            raise Refused("the server's count cannot be")
        if answer.name == "resumed":
            self._previous = previous
            self.counts["resumptions"] += 1
            self._use(connection)
            self._write(self._outbox.waiting())
            return True
        if answer.name != "failed":
            self._previous = previous
            raise Refused(answer.to_bytes().decode())
        self.counts["sessions lost"] += 1
        return False

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self._is_open = False
        for left, late in self._left:
            left.write(late)
        self._left = [(left, b"") for left, _ in self._left if not left.closed]

    def _on_closed(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self.last_problem = f"connection lost, stream error {connection.stream_error}"
            for deferred in self._replies.values():
                deferred.errback(Gone(connection.stream_error))
            self._replies.clear()
            self.come()

    # -- sending

    def _send(self, *entries: Entry) -> None:
        for entry in entries:
            self._outbox.put(entry)
        self._write(entries)

    def _write(self, entries: Sequence[Entry]) -> None:
        """In one piece, with requests for acknowledgement in between and at the end."""
        assert self._connection is not None
        pieces = []
        for number, entry in enumerate(entries, 1):
            pieces.append(entry.data)
            if number % self._ask_every == 0:
                pieces.append(_REQUEST)
        self._connection.write(b"".join([*pieces, _REQUEST]))
        self._is_open = True

    def _fill(self) -> None:
        if self.talking and self._connection is not None and len(self._outbox) < self._window:
            self._send(*(self._next_message() for _ in range(self._window - len(self._outbox))))

    def _next_message(self) -> Entry:
        name = Name(self.conversation.name, self.conversation.next())
        data = (
            f"<message to='{self.conversation.recipient}' type='chat' id='{name.id}'>"
            f"<body>{body(name, BODY_LENGTH)}</body><origin-id xmlns='{NS_STANZA_ID}' id='{name.id}'/></message>"
        )
        return Entry(data.encode(), name)

    def _message(self, name: Name | None) -> Message:
        assert name is not None
        return self.conversation.messages[name.number]

    def _acknowledged(self, element: Stanza) -> bool:
        """An element with `h`; False when that cannot be."""
        try:
            entries = self._outbox.acknowledge(int(element.attributes["h"]))
        except BadCount as problem:
            self._history.fault("acknowledged what was never sent", f"{self.account}: {element.name}, {problem}")
            return False
        messages = [self._message(entry.name) for entry in entries if entry.name is not None]
        for message in messages:
            message.acknowledged = True
        self._progress.add(len(messages))
        return True

    # -- what comes

    def _on_element(self, element: Stanza) -> None:
        name = element.name
        if element.uri == NS_SM:
            if name == "r":
                self._was_asked = True
            elif name == "a":
                self._is_open = False
                if not self._acknowledged(element):
                    self._previous = None  # there is no way on in this session
                    self.cut()
            else:
                self._history.fault("unexpected element", f"{self.account}: {element.to_bytes().decode()}")
            return
        self._handled += 1
        if name == "message":
            self._on_message(element)
        elif name == "iq":
            deferred = self._replies.pop(element.attributes.get("id", ""), None)
            if deferred is not None:
                deferred.callback(element)
        elif element.attributes.get("type") == "error":
            _clock.callLater(PAUSE_S, self._become_available)

    def _become_available(self) -> None:
        if self._connection is not None and not self._stopped:
            self._send(_PRESENCE)

    def _on_message(self, element: Stanza) -> None:
        if _RESULT in element.child_keys:
            self.results.append(element)
        elif element.attributes.get("type") == "error":
            name = read_id(element.attributes.get("id", ""))
            if name is not None and name.conversation == self.conversation.name:
                self._message(name).refused = True
        elif _BODY in element.child_keys:
            name = read_body(str(element.child(NS_CLIENT, "body")))
            delayed = _DELAY in element.child_keys
            self._arrivals.append(Arrival(name, self._session, self._archive_id(element), delayed))

    def _archive_id(self, element: Stanza) -> str | None:
        if _STANZA_ID in element.child_keys:
            for child in element.child_elements():
                if child.name == "stanza-id" and child.getAttribute("by") == self.account:
                    return str(child["id"])
        return None

    def _on_read(self) -> None:
        """After each read: the acknowledgement that it asked for, and what the window has room for."""
        if self._connection is None:
            return
        if self._was_asked:
            self._was_asked = False
            self._connection.write(f"<a xmlns='{NS_SM}' h='{self._handled}'/>".encode())
        self._fill()
        if self._outbox and not self._is_open and self._ask_again is None:
            self._ask_again = _clock.callLater(ASK_AGAIN_S, self._ask)
        if self._is_drained:
            drained, self._drained = self._drained, []
            for deferred in drained:
                deferred.callback(None)

    def _ask(self) -> None:
        self._ask_again = None
        if self._connection is not None and not self._is_open:
            self._write([])

    @property
    def _is_drained(self) -> bool:
        return not self.talking and not self._outbox and self._connection is not None

    # -- requests

    async def ask(self, payload: str, type_: str, patience_s: float = 30.0) -> Stanza:
        """Sends an IQ to the own account; its reply. Raises Gone, defer.TimeoutError."""
        assert self._connection is not None
        self._numbers += 1
        id_ = f"q{self._numbers}"
        deferred: Deferred[Stanza] = Deferred()
        self._replies[id_] = deferred
        self._send(Entry(f"<iq id='{id_}' type='{type_}'>{payload}</iq>".encode()))
        return await deferred.addTimeout(patience_s, _clock)
