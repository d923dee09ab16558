"""The floor: a bare relay on Twisted. Socket, expat, one dictionary look-up, socket; nothing that makes a server.

A connection says who it is in the `from` of its stream header; each element at depth 1 goes, as it came, to the
connection that its `to` names. Usage: relay.py PORT
"""

import sys
from typing import Any
from xml.parsers import expat

from twisted.internet import protocol, reactor

PEERS: dict[str, "Relay"] = {}


class Relay(protocol.Protocol):
    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self.depth = 0
        self.buffer = b""
        self.base = 0
        self.fed = 0
        self.to = ""
        self.start = 0
        self.parser = expat.ParserCreate("UTF-8", " ")
        self.parser.StartElementHandler = self.on_start
        self.parser.EndElementHandler = self.on_end

    def dataReceived(self, data: bytes) -> None:
        if self.depth > 1:
            self.buffer += data
        else:
            self.buffer = data
            self.base = self.fed
        self.fed += len(data)
        self.parser.Parse(data, False)

    def on_start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 1:
            self.to = attributes["to"]
            self.start = self.parser.CurrentByteIndex
        elif self.depth == 0:
            PEERS[attributes["from"]] = self
            self.transport.write(b"<stream:features/>")  # type: ignore[union-attr]
        self.depth += 1

    def on_end(self, name: str) -> None:
        self.depth -= 1
        if self.depth == 1:
            end = self.buffer.index(b">", self.parser.CurrentByteIndex - self.base) + 1
            PEERS[self.to].transport.write(self.buffer[self.start - self.base : end])  # type: ignore[union-attr]


if __name__ == "__main__":
    factory: Any = protocol.ServerFactory.forProtocol(Relay)
    reactor.listenTCP(int(sys.argv[1]), factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
