"""The load: pairs of clients that send messages to each other, as little client as possible.

Each pair plays ping-pong with bursts: one side writes `burst` messages at once, the other answers with as many when it
has got them. So a read of the server sees just that many messages of a connection, whatever the number of pairs.

With `managed` the clients use stream management: each burst ends with a request for an acknowledgement, what is counted
is what the server has acknowledged, and no more than two bursts of a client are not.

Usage: chat_client.py PORT relay|xmpp|managed PAIRS BURST SECONDS DOMAIN_A DOMAIN_B, prints one JSON object. A `*` in a
domain is replaced by the number of the pair.
"""

import asyncio
import base64
import json
import re
import resource
import sys
import time

BODY = "x" * 120
END = b"</message>"
SM = "urn:xmpp:sm:3"
REQUEST = f"<r xmlns='{SM}'/>".encode()
ACKNOWLEDGED = re.compile(rb"<a xmlns='urn:xmpp:sm:3' h='(\d+)'/>").findall


def message(to: str, number: int, kind: str = "chat") -> bytes:
    """260 bytes of chat, as phones send it."""
    return (
        f"<message to='{to}' type='{kind}' id='m{number:08d}'><body>{BODY}</body>"
        "<request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='1'/></message>"
    ).encode()


class Client:
    """One connection."""

    def __init__(self, jid: str, peer: str, burst: int) -> None:
        self.jid = jid
        self.burst_bytes = message(peer, 1) * burst
        self.burst = burst
        self.received = 0
        self.count = 0
        self.is_managed = False
        self.total = 0
        self.sent = 0

    async def connect(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def until(self, what: bytes) -> bytes:
        data = b""
        while what not in data:
            chunk = await self.reader.read(65536)
            if not chunk:
                raise ConnectionError(f"{self.jid}: closed after {data!r}")
            data += chunk
        return data

    async def relay_login(self, port: int) -> None:
        await self.connect(port)
        self.writer.write(f"<stream:stream xmlns:stream='s' xmlns='jabber:client' from='{self.jid}'>".encode())
        await self.until(b"<stream:features/>")

    async def begin(self) -> None:
        """The stream's header, and the features that answer it."""
        domain = self.jid.partition("@")[2].partition("/")[0]
        self.writer.write(
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' "
            f"version='1.0' to='{domain}'>".encode()
        )
        await self.until(b"</stream:features>")

    def bind(self) -> None:
        name = self.jid.partition("/")[2]
        self.writer.write(
            b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            + f"<resource>{name}</resource></bind></iq>".encode()
        )

    async def xmpp_login(self, port: int) -> None:
        await self.connect(port)
        await self.begin()
        token = base64.b64encode(f"\0{self.jid.partition('@')[0]}\0secret".encode()).decode()
        self.writer.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{token}</auth>".encode())
        await self.until(b"<success")
        await self.begin()
        self.bind()
        await self.until(b"</iq>")
        self.writer.write(b"<presence/>")
        self.writer.write(b"<iq type='get' id='p'><nothing xmlns='x'/></iq>")
        await self.until(b"</iq>")

    async def managed_login(self, port: int) -> None:
        await self.xmpp_login(port)
        await self.enable()

    async def enable(self) -> None:
        """Stream management, from here on."""
        self.writer.write(f"<enable xmlns='{SM}'/>".encode())
        await self.until(b"<enabled")
        self.is_managed = True
        self.burst_bytes += REQUEST

    def _account(self, data: bytes, found: int) -> None:
        """Counts what the server has acknowledged, and acknowledges what came."""
        if b"type='error'" in data:
            raise SystemExit(f"{self.jid}: refused: {data!r}")
        self.total += found
        acknowledged = ACKNOWLEDGED(data)
        if acknowledged:
            self.count = int(acknowledged[-1])
        if REQUEST in data:
            self.writer.write(f"<a xmlns='{SM}' h='{self.total}'/>".encode())

    async def play(self, first: bool) -> None:
        if first:
            self.sent += self.burst
            self.writer.write(self.burst_bytes)
        tail = b""
        while True:
            chunk = await self.reader.read(262144)
            if not chunk:
                return
            data = tail + chunk
            found = data.count(END)
            end = (
                max(data.rfind(END) + len(END), data.rfind(b"/>") + 2)
                if self.is_managed
                else data.rfind(END) + len(END)
            )
            tail = data[end:] if found or self.is_managed else data
            if self.is_managed:
                self._account(data[:end], found)
            else:
                self.count += found
            self.received += found
            while self.received >= self.burst and (not self.is_managed or self.sent - self.count <= self.burst):
                self.received -= self.burst
                self.sent += self.burst
                self.writer.write(self.burst_bytes)


async def run(port: int, mode: str, pairs: int, burst: int, seconds: float, domains: tuple[str, str]) -> None:
    clients = []
    for number in range(pairs):
        first, second = (domain.replace("*", str(number)) for domain in domains)
        ann, bob = f"ann{number}@{first}/a", f"bob{number}@{second}/b"
        clients += [Client(ann, bob, burst), Client(bob, ann, burst)]
    for client in clients:
        login = {"relay": client.relay_login, "xmpp": client.xmpp_login, "managed": client.managed_login}[mode]
        await login(port)
    tasks = [asyncio.create_task(client.play(index % 2 == 0)) for index, client in enumerate(clients)]
    await asyncio.sleep(1)  # warm
    print("started", flush=True)
    begun, count = time.monotonic(), sum(c.count for c in clients)
    await asyncio.sleep(seconds)
    took, messages = time.monotonic() - begun, sum(c.count for c in clients) - count
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps({"messages": messages, "seconds": took, "client_cpu": usage.ru_utime + usage.ru_stime}), flush=True
    )
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        run(
            int(arguments[0]),
            arguments[1],
            int(arguments[2]),
            int(arguments[3]),
            float(arguments[4]),
            (arguments[5], arguments[6]),
        )
    )
