"""A client of the storm: asks for changes without end, and forgets nothing of what it is told."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_CREATE
from dynxmpp.wire.stanza import Stanza
from tests.chaos.connection import Connection, Gone

DOMAIN: Final = "storm.example"
SERVICE: Final = f"muclight.{DOMAIN}"
#: Seconds that an answer may take.
PATIENCE_S: Final = 20


@dataclass(frozen=True)
class Notice:
    """What a room has told. Of `affiliations` the users are localparts."""

    id: str
    kind: str
    previous: str
    version: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """What was asked for, and what came of it: `result`, the condition of an error, or nothing yet."""

    id: str
    room: str
    answer: str | None = None


def room_jid(room: str) -> str:
    return f"{room}@{SERVICE}"


class StormClient:
    """One account with one resource. What it is told is kept by phase: the server is killed between two."""

    def __init__(self, name: str, port: int, rng: random.Random, names: list[str], rooms: list[str]) -> None:
        self.name = name
        #: By id, in their order; new ones in each phase.
        self.requests: dict[str, Request] = {}
        #: By room, in their order.
        self.notices: dict[str, list[Notice]] = {}
        self.faults: list[str] = []
        #: What it is in which rooms, as far as it has been told.
        self.affiliations: dict[str, str] = {}
        self.connection: Connection | None = None
        self.on_answer: Callable[[], None] = lambda: None
        self._port = port
        self._random = rng
        self._names = names
        self._rooms = rooms
        self._count = 0
        self._waiting: dict[str, Deferred[Stanza]] = {}
        self._ended: Deferred[None] = Deferred()

    # -- the connection

    async def come(self) -> None:
        """Logs in; available when this returns. What was told before is forgotten."""
        self.requests, self.notices = {}, {}
        self._ended = Deferred()
        self.connection = await Connection.open(self._port, DOMAIN, self.name)
        await self.connection.bind("storm")
        self.connection.listen(self._arrived, lambda: None, self._closed)
        self.connection.write(b"<presence/>")
        # Behind the presence, which may have to wait for the roster: an answer of the domain could come before it.
        await self.asks("get", f"{self.name}@{DOMAIN}", "<ping xmlns='urn:xmpp:ping'/>")

    async def gone(self) -> None:
        """Returns when the connection has ended, and all that has come over it has been read."""
        if self.connection is not None:
            await self._ended

    def leave(self) -> None:
        if self.connection is not None:
            self.connection.reset()

    def _closed(self, connection: Connection) -> None:
        self.connection = None
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting.values():
            deferred.errback(Gone(connection.stream_error))
        self._ended.callback(None)

    # -- what comes

    def _arrived(self, stanza: Stanza) -> None:
        if stanza.name == "iq":
            waiting = self._waiting.pop(stanza.attributes.get("id", ""), None)
            if waiting is not None:
                waiting.callback(stanza)
                return
        elif stanza.name == "message" and stanza.attributes.get("type") == "groupchat":
            self._told(stanza)
            return
        if stanza.name != "presence":
            self.faults.append(f"{self.name} got {stanza.to_bytes().decode()}")

    def _told(self, message: Stanza) -> None:
        room = message.attributes["from"].partition("@")[0]
        payload = next(child for child in message.child_elements() if child.name == "x")
        notice = _read(message.attributes["id"], payload)
        self.notices.setdefault(room, []).append(notice)
        if notice.kind == NS_AFFILIATIONS and self.name in notice.fields:
            self.affiliations[room] = notice.fields[self.name]

    # -- what is asked

    async def asks(self, type_: str, to: str, payload: str, id_: str = "") -> Stanza:
        """The answer, also if it is an error. Raises Gone, TimeoutError."""
        if self.connection is None:
            raise Gone(None)
        if not id_:
            self._count += 1
            id_ = f"{self.name}-{self._count}"
        deferred: Deferred[Stanza] = Deferred()
        self._waiting[id_] = deferred
        self.connection.write(f"<iq type='{type_}' id='{id_}' to='{to}'>{payload}</iq>".encode())
        return await deferred.addTimeout(PATIENCE_S, reactor)

    async def ping(self) -> None:
        """All that was sent to it before has come."""
        await self.asks("get", DOMAIN, "<ping xmlns='urn:xmpp:ping'/>")

    async def changes(self, room: str, namespace: str, content: str) -> str:
        """Asks for a change; the answer. Raises Gone, TimeoutError."""
        self._count += 1
        id_ = f"{self.name}-{self._count}"
        self.requests[id_] = Request(id_, room)
        reply = await self.asks("set", room_jid(room), f"<query xmlns='{namespace}'>{content}</query>", id_)
        answer = "result" if reply.attributes["type"] == "result" else _condition(reply)
        self.requests[id_] = Request(id_, room, answer)
        if answer == "result" and not any(notice.id == id_ for notice in self.notices.get(room, ())):
            self.faults.append(f"{self.name} was told of {id_} in {room} that it was done, and not before what")
        self.on_answer()
        return answer

    async def creates(self, room: str, members: list[str]) -> str:
        users = "".join(_user(member, "member") for member in members if member != self.name)
        content = f"<configuration><subject>{self.name}</subject></configuration><occupants>{users}</occupants>"
        return await self.changes(room, NS_CREATE, content)

    async def does_something(self) -> None:
        """A change that comes to its mind, mostly of a room that it is in. Raises Gone, TimeoutError."""
        mine = [room for room, affiliation in self.affiliations.items() if affiliation != "none"]
        if mine and self._random.random() < 0.9:
            room = self._random.choice(mine)
        else:
            room = self._random.choice(self._rooms)
        what = self._random.random()
        if room not in mine and what < 0.5:
            await self.creates(room, self._some(3))
        elif what < 0.4:
            await self.changes(room, NS_CONFIGURATION, self._fields())
        else:
            await self.changes(room, NS_AFFILIATIONS, self._wishes(room))

    def _fields(self) -> str:
        value = self._random.randrange(1000)
        return self._random.choice(
            (
                f"<subject>{value}</subject>",
                f"<roomname>{value}</roomname>",
                f"<roomname>{value}</roomname><subject/>",
            )
        )

    def _wishes(self, room: str) -> str:
        """Affiliations: to come, to go, and for owners whatever there is. Of some rooms all only want to go."""
        what = self._random.random()
        if room in self._rooms[::3]:
            return _user(self.name, "none")
        if what < 0.45:
            return "".join(_user(name, "member") for name in self._some(2))
        if what < 0.9 or self.affiliations.get(room) != "owner":
            return _user(self.name, "none")
        wishes = self._random.choices(("owner", "member", "none"), k=3)
        return "".join(_user(name, wish) for name, wish in zip(self._some(3), wishes, strict=False))

    def _some(self, most: int) -> list[str]:
        return self._random.sample(self._names, self._random.randint(1, most))


def _user(name: str, affiliation: str) -> str:
    return f"<user affiliation='{affiliation}'>{name}@{DOMAIN}</user>"


def _condition(reply: Stanza) -> str:
    error = next(child for child in reply.child_elements() if child.name == "error")
    return next(child.name for child in error.elements())


def _read(id_: str, payload: domish.Element) -> Notice:
    versions = {"prev-version": "", "version": ""}
    fields: dict[str, str] = {}
    for child in payload.elements():
        if child.name in versions:
            versions[child.name] = str(child)
        elif payload.uri == NS_CONFIGURATION:
            fields[child.name] = str(child)
        else:
            fields[str(child).partition("@")[0]] = child["affiliation"]
    return Notice(id_, str(payload.uri), versions["prev-version"], versions["version"], fields)
