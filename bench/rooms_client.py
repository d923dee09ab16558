"""The load of group chat: rooms of five, in each of which the one who made it writes, as little client as possible.

The writer sends a burst of messages at once, and the next one when all five members have got the last one: each read of
the server holds just that many messages. Users have numbers, and five consecutive ones share a room. So many (BUCKET)
consecutive ones are in one domain, as many in the next, and after the last domain comes the first again.

With `managed` all clients use stream management: each burst ends with a request for an acknowledgement, and the writer
waits for that as well.

Nothing is in flight when the measurement begins and when it ends, and then each member must have got exactly what was
sent. The exit status says whether that is so.

Usage: rooms_client.py PORT xmpp|managed GROUPS BURST SECONDS DOMAIN NUMBER BUCKET, prints one JSON object. The `*` in
the domain is replaced by the number of it. `total` is what was sent before the measurement too.
"""

import asyncio
import json
import resource
import sys
import time

from chat_client import END, Client, message

SIZE = 5
#: Seconds for what is in flight to arrive.
PATIENCE_S = 30
#: What is read, by one client after the other: a buffer for each read, as asyncio makes it, costs more than the read.
BUFFER = memoryview(bytearray(65536))


class Member(Client, asyncio.BufferedProtocol):
    """One connection. Once its room is made it is called when something arrives, which is cheaper than a stream."""

    def __init__(self, jid: str) -> None:
        super().__init__(jid, jid, 1)
        self.bare = jid.partition("/")[0]
        self.room: Room | None = None
        self.tail = b""
        self.asked: asyncio.Future[None] | None = None

    async def until_all(self, *what: bytes) -> None:
        """Reads until all of it has come."""
        data = b""
        while not all(part in data for part in what):
            chunk = await self.reader.read(65536)
            data += chunk
            if not chunk or b"type='error'" in data:
                raise SystemExit(f"{self.jid}: refused or closed after {data!r}")

    async def watch(self, room: "Room", *, managed: bool) -> None:
        """From here on counts what comes, for the room."""
        if managed:
            await self.enable()
        self.room = room
        self.writer.transport.set_protocol(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Counts. All that is looked for ends with the first > of its own."""
        data = self.tail + BUFFER[:nbytes]
        end = data.rfind(b">") + 1
        self.tail = data[end:]
        found = data.count(END, 0, end)
        self.received += found
        if self.is_managed:
            self._account(data[:end], found)
        elif b"type='error'" in data:
            raise SystemExit(f"{self.jid}: refused: {data!r}")
        if self.asked is not None and b"type='result'" in data:
            self.asked.set_result(None)
        assert self.room is not None
        self.room.arrived(found)

    def connection_lost(self, problem: Exception | None) -> None:
        raise SystemExit(f"{self.jid}: closed ({problem}) after {self.tail!r}")

    async def ask(self) -> None:
        """Until an answer has come, and before it all that the server had sent."""
        self.asked = asyncio.get_running_loop().create_future()
        self.writer.write(b"<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self.asked


class Room:
    """A room of five; the first one has made it and writes."""

    def __init__(self, number: int, members: list[Member], burst: int) -> None:
        self.name = f"room_{number}"
        self.writer, *self.others = self.members = members
        self.jid = f"{self.name}@muclight.{self.writer.bare.partition('@')[2]}"
        self.burst = burst
        self.sent = 0
        #: Copies of what was sent that have not come.
        self.missing = 0
        self.is_playing = False

    async def make(self, *, managed: bool) -> None:
        """Creates it; returns when all members have been told."""
        self.writer.burst_bytes = message(self.jid, 1, "groupchat") * self.burst
        users = "".join(f"<user affiliation='member'>{member.bare}</user>" for member in self.others)
        self.writer.writer.write(
            f"<iq type='set' id='c' to='{self.jid}'><query xmlns='urn:xmpp:muclight:0#create'><configuration>"
            f"<roomname>{self.name}</roomname></configuration><occupants>{users}</occupants></query></iq>".encode()
        )
        await self.writer.until_all(END, b"type='result'")
        for member in self.others:
            await member.until_all(END)
        for member in self.members:
            await member.watch(self, managed=managed)

    @property
    def is_quiet(self) -> bool:
        """Has everything arrived, and been acknowledged where that is asked for?"""
        return not self.missing and (not self.writer.is_managed or self.writer.count == self.sent)

    def send(self) -> None:
        self.sent += self.burst
        self.missing += self.burst * SIZE
        self.writer.writer.write(self.writer.burst_bytes)

    def arrived(self, found: int) -> None:
        """So many copies came, or an acknowledgement."""
        self.missing -= found
        if self.is_playing and self.is_quiet:
            self.send()

    def __str__(self) -> str:
        received = " ".join(str(member.received) for member in self.members)
        return f"{self.jid}: {self.sent} sent, {received} received, {self.writer.count} acknowledged"


async def play(rooms: list[Room], seconds: float) -> None:
    """Lets them write for so long; returns when all of it has arrived."""
    for room in rooms:
        room.is_playing = True
        room.send()
    await asyncio.sleep(seconds)
    for room in rooms:
        room.is_playing = False
    deadline = time.monotonic() + PATIENCE_S
    while not all(room.is_quiet for room in rooms):
        if time.monotonic() > deadline:
            raise SystemExit("\n".join(str(room) for room in rooms if not room.is_quiet))
        await asyncio.sleep(0.002)


async def check(rooms: list[Room]) -> None:
    """Has each member got each message once? What came too often would have come before the answers."""
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(member.ask() for room in rooms for member in room.members))
    wrong = [str(room) for room in rooms if any(member.received != room.sent for member in room.members)]
    if wrong:
        raise SystemExit("\n".join(wrong))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def prepare(port: int, mode: str, groups: int, burst: int, domains: list[str], bucket: int) -> list[Room]:
    """All clients available, all rooms made."""
    members = []
    for number in range(groups * SIZE):
        members.append(Member(f"user_{number}@{domains[number // bucket % len(domains)]}/a"))
        await members[-1].xmpp_login(port)
    rooms = [Room(number, members[number * SIZE : (number + 1) * SIZE], burst) for number in range(groups)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(room.make(managed=mode == "managed") for room in rooms))
    return rooms


async def run(
    port: int, mode: str, groups: int, burst: int, seconds: float, domain: str, number: int, bucket: int
) -> None:
    domains = [domain.replace("*", str(index)) for index in range(number)]
    rooms = await prepare(port, mode, groups, burst, domains, bucket)
    await play(rooms, 1)  # warm
    sent, used = sum(room.sent for room in rooms), cpu_seconds()
    print("started", flush=True)
    begun = time.monotonic()
    await play(rooms, seconds)
    took, total = time.monotonic() - begun, sum(room.sent for room in rooms)
    result = {"messages": total - sent, "seconds": took, "total": total, "client_cpu": cpu_seconds() - used}
    print(json.dumps(result), flush=True)
    await check(rooms)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        run(
            int(arguments[0]),
            arguments[1],
            int(arguments[2]),
            int(arguments[3]),
            float(arguments[4]),
            arguments[5],
            int(arguments[6]),
            int(arguments[7]),
        )
    )
