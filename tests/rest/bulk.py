"""Requests and answers of JSON lines."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.rest.server import RestTestCase

DOMAINS = "/api/domains"
USERS = "/api/users"
Entry = Mapping[str, Any] | bytes


def body_of(entries: Iterable[Entry]) -> bytes:
    """A line for each: an object, or bytes that stand there as they are."""
    lines = (entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries)
    return b"".join(line + b"\n" for line in lines)


def domain(name: str, host_type: str = "basic") -> dict[str, str]:
    return {"domain": name, "host_type": host_type}


def head(path: str = DOMAINS, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """The beginning of a request by HTTP/1.1 whose body comes in chunks, unless the headers say otherwise."""
    lines = [b"POST %b HTTP/%b" % (path.encode(), version), b"Host: localhost", b"Content-Type: application/jsonl"]
    return b"\r\n".join([*lines, *(headers or (b"Transfer-Encoding: chunked",)), b"\r\n"])


def chunk(data: bytes) -> bytes:
    """A piece of a body (RFC 9112 7.1); the empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class RawClient(Protocol):
    """Keeps what comes; `until` waits for it, `ended` for the end, with its reason."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[type[BaseException]] = Deferred()
        self._awaited: tuple[bytes, Deferred[None]] | None = None

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    async def until(self, text: bytes) -> None:
        """Returns when `text` has come."""
        if text not in self.received:
            self._awaited = (text, Deferred())
            await self._awaited[1]

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self._awaited is not None and self._awaited[0] in self.received:
            (_, found), self._awaited = self._awaited, None
            found.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(reason.type)


class BulkTestCase(RestTestCase):
    async def post(
        self, entries: Iterable[Entry], path: str = DOMAINS, media_type: str = "application/jsonl"
    ) -> list[Any]:
        """The lines of the answer to a request that is sent as a whole."""
        return await self.post_raw(body_of(entries), path, media_type)

    async def post_raw(self, body: bytes, path: str = DOMAINS, media_type: str = "application/jsonl") -> list[Any]:
        status, kind, content = await self.exchange(body, path, media_type)
        self.assertEqual((200, ["application/jsonl"]), (status, kind), content)
        self.assertTrue(not content or content.endswith(b"\n"))
        return [json.loads(line) for line in content.splitlines()]

    async def exchange(self, body: bytes, path: str, media_type: str) -> tuple[int, Any, bytes]:
        """Status, type and body of an answer."""
        response = await treq.post(
            f"http://127.0.0.1:{self.port}{path}",
            data=body,
            headers={"Content-Type": media_type, "Host": "localhost:8088"},
            agent=self.requests,
            timeout=60,
        )
        return response.code, response.headers.getRawHeaders("Content-Type"), await response.content()

    async def connect(self, client: RawClient | None = None) -> RawClient:
        client = client or RawClient()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), client)
        transport: Any = client.transport
        self.addCleanup(transport.abortConnection)
        return client
