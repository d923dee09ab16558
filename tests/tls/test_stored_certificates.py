"""Certificates that are in no file: before folders and the default, for SNI for a stream's `to`, new ones at once."""

import hashlib
import socket
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from dynxmpp.tls import ALPN_XMPP_CLIENT, CertificateFiles, ServerTLS, StoredPem, TLSOptions
from tests.fixtures.certs import NOW, Issued, authority, issue, issue_self_signed
from tests.tls.handshake import LogCase, client_context, meet, refusal
from tests.tls.test_loopback import Listeners

loop = cast(PosixReactorBase, reactor)


class Kept:
    """What is stored, by name; counts how often it was asked."""

    def __init__(self) -> None:
        self.pems: dict[str, StoredPem] = {}
        self.asked: list[str] = []

    def find(self, name: str) -> StoredPem | None:
        self.asked.append(name)
        return self.pems.get(name)

    def put(self, name: str, issued: Issued, *, also: str | None = None) -> None:
        pem = StoredPem(name, issued.certificate_pem.decode(), issued.key_pem().decode())
        self.pems[name] = pem
        if also is not None:
            self.pems[also] = pem


class StoredCase(LogCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.kept = Kept()
        self.directory = Path(self.mktemp())

    def tls(self, *defaults: CertificateFiles, directory: bool = True, **options: int) -> ServerTLS:
        return ServerTLS(
            TLSOptions(),
            clock=self.clock,
            directory=self.directory if directory else None,
            defaults=defaults,
            stored=self.kept,
            **options,
        )


class PrecedenceTests(StoredCase):
    def setUp(self) -> None:
        super().setUp()
        for folder in ("a.example", "*.b.example"):
            issue(folder.replace("*", "x")).write(self.directory / folder)
        self.default = issue("default.example").write(self.directory.parent / "default")
        self.own = issue_self_signed("a.example")
        self.kept.put("a.example", self.own)
        self.kept.put("x.b.example", self.own)

    def test_before_the_folder_and_the_wildcard_folder(self) -> None:
        tls = self.tls(self.default)
        for name in ("a.example", "x.b.example", "A.EXAMPLE"):
            self.assertEqual(meet(tls, name).der, self.own.der)
        self.assertEqual(meet(tls, "y.b.example").der, issue("x.b.example").der)
        self.assertEqual(meet(tls, "c.example").der, issue("default.example").der)

    def test_without_a_folder(self) -> None:
        tls = self.tls(self.default, directory=False)
        self.assertEqual(meet(tls, "a.example").der, self.own.der)
        self.assertEqual(meet(tls, "y.b.example").der, issue("default.example").der)

    def test_without_any_other(self) -> None:
        tls = self.tls(directory=False)
        self.assertEqual(meet(tls, "a.example").der, self.own.der)
        self.assertTrue(tls.has_certificate("a.example"))
        self.assertFalse(tls.has_certificate("c.example"))
        self.assertIn("handshake failure", refusal(tls, "c.example"))

    def test_by_the_streams_to(self) -> None:
        tls = self.tls(self.default)
        self.assertEqual(meet(tls.for_name("a.example"), None).der, self.own.der)
        self.assertEqual(meet(tls.for_name("c.example"), "a.example").der, self.own.der)
        # A name that has no certificate of its own changes nothing.
        self.assertEqual(meet(tls.for_name("a.example"), "srv7.hosting.example").der, self.own.der)
        self.assertEqual(meet(tls.for_name("a.example"), "y.b.example").der, issue("x.b.example").der)

    def test_when_it_is_gone_what_was_there_without_it(self) -> None:
        tls = self.tls(self.default)
        self.assertEqual(meet(tls, "a.example").der, self.own.der)
        self.kept.pems.clear()
        self.assertEqual(meet(tls, "a.example").der, issue("a.example").der)

    def test_a_listener_without_any(self) -> None:
        tls = ServerTLS(TLSOptions(), clock=self.clock, directory=self.directory)
        self.assertEqual(meet(tls, "a.example").der, issue("a.example").der)


class ContextTests(StoredCase):
    def test_whole_chains_and_keys_of_all_kinds(self) -> None:
        tls = self.tls()
        for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())):
            issued = authority().issue("a.example", key=key, chain=(authority().certificate,))
            self.kept.put("a.example", issued)
            met = meet(tls, "a.example", client_context())
            self.assertEqual(met.der, issued.der)

    def test_one_is_made_when_a_client_comes_and_kept_while_nothing_changes(self) -> None:
        self.kept.put("a.example", issue("a.example"), also="rooms.a.example")
        self.kept.put("b.example", issue("b.example"))
        tls = self.tls()
        made: list[SSL.Context] = []
        for name in ("a.example", "a.example", "rooms.a.example"):
            connection = meet(tls, name).server.transport.getHandle()
            made.append(connection.get_context())
        self.assertIs(made[0], made[1])
        self.assertIs(made[0], made[2])
        assert tls._stored is not None
        self.assertEqual(list(tls._stored._contexts), ["a.example"])

    def test_a_new_one_is_shown_to_the_next_client(self) -> None:
        tls = self.tls()
        for _ in range(3):
            issued = authority().issue("a.example")
            self.kept.put("a.example", issued)
            self.assertEqual(meet(tls, "a.example").der, issued.der)

    def test_who_is_connected_keeps_the_old_one(self) -> None:
        tls = self.tls()
        self.kept.put("a.example", issue("a.example"))
        met = meet(tls, "a.example")
        self.kept.pems.clear()
        met.say(b"still here")
        self.assertEqual(met.server.application.received, b"?still here")

    def test_only_the_most_recent_ones_are_kept_ready(self) -> None:
        tls = self.tls(max_contexts=2)
        names = ["a.example", "b.example", "c.example"]
        for name in names:
            self.kept.put(name, issue(name))
        for name in ["a.example", "b.example", "a.example", "c.example"]:
            self.assertEqual(meet(tls, name).der, issue(name).der)
        assert tls._stored is not None
        self.assertEqual(list(tls._stored._contexts), ["a.example", "c.example"])

    def test_one_that_cannot_be_used_is_told_of_once_and_passed_over(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        weak = authority().issue("a.example", key=rsa.generate_private_key(65537, 1024))
        good = issue("a.example")
        for chain, key in (
            (b"", good.key_pem()),
            (good.certificate_pem, b""),
            (good.certificate_pem, good.key_pem("sesame")),
            (good.certificate_pem, weak.key_pem()),
            (weak.certificate_pem, weak.key_pem()),
        ):
            self.events.clear()
            self.kept.pems["a.example"] = StoredPem("a.example", chain.decode(), key.decode())
            tls = self.tls()
            for _ in range(2):
                self.assertEqual(meet(tls, "a.example").der, good.der)
            told = self.logged("stored_certificate_unusable")
            self.assertEqual([event["domain"] for event in told], ["a.example"])
            self.assertNotIn("PRIVATE", str(told))

    def test_reload_makes_them_anew(self) -> None:
        self.kept.put("a.example", issue("a.example"))
        tls = self.tls()
        before = meet(tls, "a.example").server.transport.getHandle().get_context()
        tls.reload()
        after = meet(tls, "a.example").server.transport.getHandle().get_context()
        self.assertIsNot(before, after)

    def test_names_are_asked_for_as_hosts_are_written(self) -> None:
        tls = self.tls()
        tls.has_certificate("Bücher.example")
        tls.has_certificate("../a.example")
        tls.has_certificate(None)
        self.assertEqual(self.kept.asked, ["xn--bcher-kva.example"])

    def test_the_key_is_not_shown_by_accident(self) -> None:
        self.kept.put("a.example", issue("a.example"))
        self.assertNotIn("PRIVATE", repr(self.kept.pems))


class LoopbackTests(StoredCase):
    def setUp(self) -> None:
        super().setUp()
        self.starttls = self.tls()
        self.direct = ServerTLS(TLSOptions(alpn=(ALPN_XMPP_CLIENT,)), clock=self.clock, stored=self.kept)

    def number(self, port: IListeningPort) -> int:
        self.addCleanup(port.stopListening)
        return cast(IPv4Address, port.getHost()).port

    async def test_each_new_connection_and_its_channel_binding(self) -> None:
        plain = self.number(loop.listenTCP(0, Listeners(self.starttls), interface="127.0.0.1"))
        direct = self.number(loop.listenSSL(0, Listeners(self.direct), self.direct, interface="127.0.0.1"))

        def seen(port: int, sni: str | None, to: str | None) -> tuple[bytes | None, bytes]:
            context = client_context()
            context.check_hostname = False
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                if to is not None:
                    connection.sendall(b"STARTTLS " + to.encode() + b"\n")
                    assert connection.recv(100) == b"PROCEED\n"
                with context.wrap_socket(connection, server_hostname=sni) as secured:
                    secured.sendall(b"BINDINGS\n")
                    return secured.getpeercert(binary_form=True), secured.recv(1000)

        for _ in range(2):
            for name in ("a.example", "b.example"):
                issued = authority().issue(name)
                self.kept.put(name, issued)
                for port, sni, to in (
                    (direct, name, None),
                    (plain, None, name),
                    (plain, name, name),
                    (plain, "mail.hosting.example", name),
                ):
                    der, bindings = await deferToThread(seen, port, sni, to)
                    self.assertEqual(der, issued.der)
                    end_point = hashlib.sha256(issued.der).hexdigest()
                    self.assertIn(f"tls-server-end-point={end_point}", bindings.decode())
