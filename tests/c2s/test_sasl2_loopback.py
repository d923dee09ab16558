"""XEP-0388 and XEP-0484 over a real socket and real TLS: one round trip, and tokens bound to the connection."""

import hashlib
import hmac
import re
import ssl
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dynxmpp.c2s.listener import C2SService
from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.fast_auth_token import FastAuthToken
from dynxmpp.modules.sasl2 import Sasl2
from dynxmpp.tls import ALPN_XMPP_CLIENT, ServerTLS, TLSOptions
from tests.c2s.test_loopback import Peer, _end_point, _On
from tests.fixtures.c2s import C2SServer, header
from tests.fixtures.certs import issue
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.sasl2_dialogues import authenticate, bind2, plain2
from tests.tls.handshake import FilesCase

MECHANISM = "HT-SHA-256-ENDP"
PING = "<iq type='get' id='p1' to='ann@a.example'><ping xmlns='urn:xmpp:ping'/></iq>"


class Sasl2Loopback(DatabaseTestCase, FilesCase):
    migrations = FastAuthToken.migrations

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.server = C2SServer(tls="tls", modules=(Sasl2, Bind2, FastAuthToken))
        await self.server.host.start()
        cast(Any, self.server.type_of("a.example").modules["mod_fast_auth_token"]).database = self.db
        context = self.server.context
        context.config = cast(Any, _On(context.config, "127.0.0.1"))
        context.clock = cast(Any, reactor)
        directory = Path(self.mktemp())
        issue("a.example").write(directory / "a.example")
        context.tls = ServerTLS(TLSOptions(alpn=(ALPN_XMPP_CLIENT,)), clock=cast(Any, reactor), directory=directory)
        service = C2SService(reactor, self.server.factory)
        service.startService()
        assert service.port is not None
        self.port: int = service.port.getHost().port  # type: ignore[attr-defined]
        self.addCleanup(lambda: Deferred.fromCoroutine(service.stop_accepting()))

    def says(self, xml: str) -> tuple[Peer, bytes]:
        """A fresh connection on which a header and `xml` go in one write, and what comes up to <success/>."""
        peer = Peer(self.port)
        peer.secures("a.example")
        peer.sends(header({"to": "a.example", "version": "1.0"}) + xml)
        return peer, peer.until(b"</success>")

    async def test_a_token_and_one_round_trip(self) -> None:
        def dialogue() -> None:
            wanted = f"<request-token xmlns='urn:xmpp:fast:0' mechanism='{MECHANISM}'/>"
            peer, answer = self.says(plain2(inner=wanted))
            found = re.search(rb"<token [^>]*token='([^']+)'", answer)
            assert found, answer
            token, binding = found[1], _end_point(cast(ssl.SSLSocket, peer.socket))
            peer.sends("</stream:stream>")
            peer.until_closed()
            data = b"ann\0" + hmac.digest(token, b"Initiator" + binding, hashlib.sha256)
            inner = "<fast xmlns='urn:xmpp:fast:0'/>" + bind2()
            peer, answer = self.says(authenticate(MECHANISM, data, inner) + "<presence/>" + PING)
            assert b"<authorization-identifier>ann@a.example/AwesomeXMPP/" in answer
            assert b"id='p1'" in peer.until(b"</iq>")
            peer.sends("</stream:stream>")
            peer.until_closed()

        await deferToThread(dialogue)
        await self.server.factory.when_empty()
        self.assertEqual(["presence", "iq"], [stanza.name for stanza in self.server.observer().seen])
        self.assertEqual(0, len(self.server.sessions))
