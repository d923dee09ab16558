import gc
import ssl
import warnings
import weakref
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.task import Clock

from dynxmpp.tls import (
    ALPN_HTTP,
    ALPN_XMPP_CLIENT,
    CertificateFiles,
    ServerTLS,
    TLSConfigError,
    TLSOptions,
    VerifyMode,
    verified_peer_certificate,
)
from tests.fixtures.certs import NOW, Issued, authority, issue, issue_self_signed, make_authority
from tests.tls.handshake import (
    FilesCase,
    LogCase,
    Met,
    client_context,
    meet,
    meet_pyopenssl,
    refusal,
    unverifying_context,
)

# RFC 7919 A.1, ffdhe2048: making parameters of our own would take seconds.
FFDHE2048 = """-----BEGIN X9.42 DH PARAMETERS-----
MIICDAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAgKCAQB//////////9b8KixRXaVN
V+4rEBOennjsXOLB5xabStTwmyCKMhn95knO5xJNn3y+l/GxsYY67HtA2QFXYjC9
ae+Paur+srCSGfqPr4M3aEKxsqqe9o152quJrz+r5JrMJ4Y4cHNFu/FTRO159/Q5
DvisUJtW85qYVmUnpB08vV4FWMFZkn2w6IRUpdlkcf3ctW1bsGv6NA6noVHvHKb6
Vyt287G5XYyFg9PkdwU2uE8BfnDm+/F2YBoCZpQaF7DIuX9OdMLB/8cniRl3eUDB
4f8djaY31rmd2v5eF2EQAuLHeMG+i0HZY3mlE2DZd/1ENaEcMJQuS///////////
-----END X9.42 DH PARAMETERS-----
"""


class ServerCase(FilesCase):
    """A listener's TLS with folders a.example, b.example, *.wild.example and a default certificate."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.directory = Path(self.mktemp())
        for folder in ("a.example", "b.example", "*.wild.example"):
            issue(folder).write(self.directory / folder)
        self.default = issue("default.example").write(Path(self.mktemp()))

    def tls(self, options: TLSOptions | None = None, *, defaults: bool = True, max_contexts: int = 100) -> ServerTLS:
        return ServerTLS(
            options or TLSOptions(),
            clock=self.clock,
            directory=self.directory,
            defaults=[self.default] if defaults else [],
            max_contexts=max_contexts,
        )

    def assertShown(self, met: Met, issued: Issued) -> None:
        self.assertEqual(met.der, issued.der)
        self.assertEqual(met.server.application.received, b"?")


class NameTests(ServerCase):
    def test_the_name_sent_decides(self) -> None:
        tls = self.tls()
        self.assertShown(meet(tls, "a.example", client_context()), issue("a.example"))
        self.assertShown(meet(tls, "B.example", client_context()), issue("b.example"))
        self.assertShown(meet(tls, "x.wild.example", client_context()), issue("*.wild.example"))

    def test_in_every_version(self) -> None:
        for version in ("tlsv1.2", "tlsv1.3"):
            tls = self.tls(TLSOptions(versions=(version,)))
            met = meet(tls, "a.example", client_context())
            self.assertShown(met, issue("a.example"))
            self.assertEqual((met.client.version() or "").lower(), version)

    def test_unknown_names_and_none_get_the_default(self) -> None:
        tls = self.tls()
        self.assertShown(meet(tls, "unknown.example"), issue("default.example"))
        self.assertShown(meet(tls, None), issue("default.example"))

    def test_names_that_are_no_names_get_the_default(self) -> None:
        issue("secret.example").write(self.directory.parent / "secret")
        # Python's ssl refuses to send such names.
        for name in (b"../secret", b"..", b"a..b", b"_.wild.example", b"*.wild.example", b"\xff", b"a" * 255, b"/etc"):
            client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
            client.set_tlsext_host_name(name)
            meet_pyopenssl(self.tls(), client)
            shown = client.get_peer_certificate(as_cryptography=True)
            self.assertEqual(shown, issue("default.example").certificate, name)

    def test_without_any_certificate_the_client_gets_an_alert(self) -> None:
        tls = self.tls(defaults=False)
        self.assertIn("handshake failure", refusal(tls, "unknown.example"))
        self.assertIn("handshake failure", refusal(tls, None))
        self.assertShown(meet(tls, "a.example"), issue("a.example"))

    def test_a_folder_made_later_is_used(self) -> None:
        tls = self.tls()
        self.assertShown(meet(tls, "new.example"), issue("default.example"))
        issue("new.example").write(self.directory / "new.example")
        self.clock.advance(1)
        self.assertShown(meet(tls, "new.example", client_context()), issue("new.example"))

    def test_the_chain_is_sent(self) -> None:
        chained = authority().issue("chained.example", chain=(authority().certificate,))
        chained.write(self.directory / "chained.example")
        client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        client.set_tlsext_host_name(b"chained.example")
        meet_pyopenssl(self.tls(), client)
        sent = client.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual(sent, [chained.certificate, authority().certificate])

    def test_a_connection_survives_the_end_of_its_contexts(self) -> None:
        tls = self.tls(max_contexts=1)
        met = meet(tls.for_name("a.example"), "b.example")
        connection = met.server.transport.getHandle()
        first, second = weakref.ref(connection.initial_context), weakref.ref(connection.get_context())
        del connection
        self.assertIsNot(first(), second())
        tls.reload()
        gc.collect()
        met.say(b"still here")
        self.assertEqual(met.server.application.received, b"?still here")
        self.assertIsNotNone(first())
        del met
        gc.collect()
        self.assertIsNone(first())
        self.assertIsNone(second())

    def test_has_certificate(self) -> None:
        tls = self.tls(defaults=False)
        self.assertTrue(tls.has_certificate("a.example"))
        self.assertTrue(tls.has_certificate("x.wild.example"))
        self.assertFalse(tls.has_certificate("unknown.example"))
        self.assertTrue(self.tls().has_certificate("unknown.example"))


class DefaultNameTests(ServerCase):
    """STARTTLS: the stream header named a domain already."""

    def test_without_a_name_from_tls_the_streams_name_decides(self) -> None:
        tls = self.tls()
        self.assertShown(meet(tls.for_name("a.example")), issue("a.example"))
        self.assertShown(meet(tls.for_name("x.wild.example")), issue("*.wild.example"))
        self.assertShown(meet(tls.for_name("unknown.example")), issue("default.example"))
        self.assertShown(meet(tls.for_name(None)), issue("default.example"))

    def test_a_name_from_tls_with_a_certificate_of_its_own_wins(self) -> None:
        self.assertShown(meet(self.tls().for_name("a.example"), "b.example"), issue("b.example"))

    def test_a_name_from_tls_without_one_changes_nothing(self) -> None:
        self.assertShown(meet(self.tls().for_name("a.example"), "host7.provider.example"), issue("a.example"))

    def test_without_a_default_certificate_a_name_from_tls_is_enough(self) -> None:
        tls = self.tls(defaults=False)
        self.assertShown(meet(tls.for_name("unknown.example"), "a.example"), issue("a.example"))


class AlpnTests(ServerCase):
    def client(self, *protocols: str) -> ssl.SSLContext:
        context = unverifying_context()
        context.set_alpn_protocols(list(protocols))
        return context

    def direct(self) -> ServerTLS:
        return self.tls(TLSOptions(alpn=(ALPN_XMPP_CLIENT,)))

    def test_xmpp_client_is_chosen(self) -> None:
        met = meet(self.direct(), "a.example", self.client("h2", "xmpp-client"))
        self.assertEqual(met.client.selected_alpn_protocol(), "xmpp-client")
        self.assertEqual(met.server.transport.negotiatedProtocol, b"xmpp-client")

    def test_a_client_without_alpn_is_served(self) -> None:
        met = meet(self.direct(), "a.example")
        self.assertIsNone(met.client.selected_alpn_protocol())

    def test_no_overlap_is_refused_with_its_alert(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.client("xmpp-server", "h2")
            client.maximum_version = version
            for name in ("a.example", "unknown.example", None):
                self.assertIn("no application protocol", refusal(self.direct(), name, client))

    def test_a_refusal_does_not_hit_the_next_client(self) -> None:
        tls = self.direct()
        refusal(tls, "a.example", self.client("h2"))
        self.assertShown(meet(tls, "a.example", self.client("xmpp-client")), issue("a.example"))

    def test_our_preference_counts(self) -> None:
        tls = self.tls(TLSOptions(alpn=(ALPN_HTTP, ALPN_XMPP_CLIENT)))
        met = meet(tls, "a.example", self.client("xmpp-client", "http/1.1"))
        self.assertEqual(met.client.selected_alpn_protocol(), "http/1.1")

    def test_http(self) -> None:
        met = meet(self.tls(TLSOptions(alpn=(ALPN_HTTP,))), "a.example", self.client("h2", "http/1.1"))
        self.assertEqual(met.client.selected_alpn_protocol(), "http/1.1")

    def test_starttls_ignores_it(self) -> None:
        met = meet(self.tls().for_name("a.example"), None, self.client("h2"))
        self.assertIsNone(met.client.selected_alpn_protocol())


class VersionTests(ServerCase):
    def client(self, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> ssl.SSLContext:
        context = unverifying_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = lowest
            context.maximum_version = highest
        return context

    def test_tls_1_1_is_refused(self) -> None:
        client = self.client(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
        self.assertIn("protocol version", refusal(self.tls(), "a.example", client))

    def test_only_1_3(self) -> None:
        client = self.client(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
        self.assertIn("protocol version", refusal(self.tls(TLSOptions(versions=("tlsv1.3",))), "a.example", client))
        self.assertEqual(meet(self.tls(), "a.example", client).client.version(), "TLSv1.2")

    def test_only_1_2(self) -> None:
        met = meet(self.tls(TLSOptions(versions=("tlsv1.2",))), "a.example")
        self.assertEqual(met.client.version(), "TLSv1.2")

    def test_a_client_cannot_renegotiate(self) -> None:
        client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        server = meet_pyopenssl(self.tls(TLSOptions(versions=("tlsv1.2",))), client)
        client.renegotiate()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        server.receive(client.bio_read(1 << 16))
        client.bio_write(server.sent())
        refused = self.assertRaises(SSL.Error, client.do_handshake)
        self.assertIn("no renegotiation", str(refused))

    def test_old_and_unknown_versions_are_no_option(self) -> None:
        for versions in (("tlsv1.1", "tlsv1.2"), ("sslv3",), ()):
            with self.assertRaises(TLSConfigError) as caught:
                self.tls(TLSOptions(versions=versions))
            self.assertEqual(caught.exception.option, "versions")


class CipherTests(ServerCase):
    def only_1_2(self) -> ssl.SSLContext:
        context = unverifying_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ALL:eNULL:@SECLEVEL=0")
        return context

    def offered(self, options: TLSOptions) -> list[str]:
        return self.tls(options).connection("a.example").get_cipher_list()

    def test_the_configured_cipher_is_used_under_1_2(self) -> None:
        tls = self.tls(TLSOptions(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"))
        met = meet(tls, "a.example", self.only_1_2())
        self.assertEqual(met.client.cipher(), ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2", 128))
        self.assertEqual(meet(tls, "a.example").client.version(), "TLSv1.3")

    def test_the_configured_order_counts(self) -> None:
        names = ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"]
        for order in (names, names[::-1]):
            met = meet(self.tls(TLSOptions(ciphers=":".join(order))), "a.example", self.only_1_2())
            self.assertEqual((met.client.cipher() or ("",))[0], order[0])

    def test_default_ciphers_are_forward_secret_aead(self) -> None:
        for name in self.offered(TLSOptions()):
            self.assertTrue(name.startswith(("TLS_", "ECDHE-", "DHE-")), name)
            self.assertTrue("GCM" in name or "CHACHA20" in name, name)

    def test_no_list_brings_ciphers_without_encryption_or_authentication(self) -> None:
        # The default of the reference server's 5.0 file; the second is all that OpenSSL has.
        for ciphers in ("TLSv1.2:TLSv1.3", "ALL:eNULL:aNULL"):
            offered = self.offered(TLSOptions(ciphers=ciphers))
            self.assertIn("ECDHE-ECDSA-AES128-GCM-SHA256", offered)
            self.assertEqual([name for name in offered if "NULL" in name or name.startswith(("ADH", "AECDH"))], [])

    def test_suites_of_1_3_alone_allow_nothing_older(self) -> None:
        tls = self.tls(TLSOptions(ciphers="TLS_AES_128_GCM_SHA256"))
        self.assertEqual((meet(tls, "a.example").client.cipher() or ("",))[0], "TLS_AES_128_GCM_SHA256")
        self.assertIn("protocol version", refusal(tls, "a.example", self.only_1_2()))

    def test_unknown_ciphers_are_no_option(self) -> None:
        for ciphers in ("nonsense", "TLS_NONSENSE", "ECDHE+AESGCM:TLS_NONSENSE"):
            with self.assertRaises(TLSConfigError) as caught:
                self.tls(TLSOptions(ciphers=ciphers))
            self.assertEqual(caught.exception.option, "ciphers")

    def test_dhfile(self) -> None:
        path = Path(self.mktemp())
        path.write_text(FFDHE2048)
        client = self.only_1_2()
        client.set_ciphers("DHE-RSA-AES128-GCM-SHA256")
        authority().issue("rsa.example", key=rsa.generate_private_key(65537, 2048)).write(
            self.directory / "rsa.example"
        )
        met = meet(self.tls(TLSOptions(dhfile=path)), "rsa.example", client)
        self.assertEqual((met.client.cipher() or ("",))[0], "DHE-RSA-AES128-GCM-SHA256")
        self.assertIn("handshake failure", refusal(self.tls(), "rsa.example", client))

    def test_a_bad_dhfile_is_no_option(self) -> None:
        missing, bad = Path(self.mktemp()), Path(self.mktemp())
        bad.write_text("hello")
        for path in (missing, bad):
            with self.assertRaises(TLSConfigError) as caught:
                self.tls(TLSOptions(dhfile=path))
            self.assertEqual(caught.exception.option, "dhfile")


class ClientCertificateTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = make_authority("Clients' authority")
        self.ca_file = Path(self.mktemp())
        self.ca_file.write_bytes(self.authority.pem)

    def client(self, issued: Issued | None = None) -> ssl.SSLContext:
        context = unverifying_context()
        if issued is not None:
            files = issued.write(Path(self.mktemp()))
            context.load_cert_chain(files.certificate, files.key)
        return context

    def presented(self, options: TLSOptions, issued: Issued | None) -> object:
        """What the server takes from a client with this certificate: (sent, verified)."""
        # Over a name's context too: the check must not depend on the one the connection began with.
        met = meet(self.tls(options), "a.example", self.client(issued))
        sent = met.server.transport.getHandle().get_peer_certificate(as_cryptography=True)
        return sent, verified_peer_certificate(met.server.transport)

    def test_without_a_ca_file_no_client_is_asked(self) -> None:
        for mode in VerifyMode:
            found = self.presented(TLSOptions(verify_mode=mode), self.authority.issue("ann"))
            self.assertEqual(found, (None, None))

    def test_mode_none_asks_nobody(self) -> None:
        options = TLSOptions(verify_mode=VerifyMode.NONE, cacertfile=self.ca_file)
        self.assertEqual(self.presented(options, self.authority.issue("ann")), (None, None))

    def test_peer(self) -> None:
        ann = self.authority.issue("ann")
        for versions in (("tlsv1.2",), ("tlsv1.3",)):
            options = TLSOptions(cacertfile=self.ca_file, versions=versions)
            self.assertEqual(self.presented(options, ann), (ann.certificate, ann.certificate))

    def test_a_client_without_a_certificate_is_served(self) -> None:
        self.assertEqual(self.presented(TLSOptions(cacertfile=self.ca_file), None), (None, None))

    def test_certificates_of_others_are_refused(self) -> None:
        tls = self.tls(TLSOptions(cacertfile=self.ca_file))
        self.assertIn("unknown ca", refusal(tls, "a.example", self.client(make_authority("Other").issue("ann"))))
        self.assertIn("unknown ca", refusal(tls, "a.example", self.client(issue_self_signed("ann"))))

    def test_or_served_as_unverified(self) -> None:
        options = TLSOptions(cacertfile=self.ca_file, disconnect_on_failure=False)
        stranger = make_authority("Other").issue("ann")
        self.assertEqual(self.presented(options, stranger), (stranger.certificate, None))
        ann = self.authority.issue("ann")
        self.assertEqual(self.presented(options, ann), (ann.certificate, ann.certificate))

    def test_selfsigned_peer(self) -> None:
        options = TLSOptions(cacertfile=self.ca_file, verify_mode=VerifyMode.SELFSIGNED_PEER)
        self_signed, ann = issue_self_signed("ann"), self.authority.issue("ann")
        self.assertEqual(self.presented(options, self_signed), (self_signed.certificate, self_signed.certificate))
        self.assertEqual(self.presented(options, ann), (ann.certificate, ann.certificate))
        stranger = self.client(make_authority("Other").issue("ann"))
        self.assertIn("unknown ca", refusal(self.tls(options), "a.example", stranger))

    def test_revoked_certificates_are_refused(self) -> None:
        ann, bob = self.authority.issue("ann"), self.authority.issue("bob")
        crl = Path(self.mktemp())
        crl.write_bytes(self.authority.revoke(bob))
        options = TLSOptions(cacertfile=self.ca_file, crl_files=(crl,))
        self.assertEqual(self.presented(options, ann), (ann.certificate, ann.certificate))
        self.assertIn("revoked", refusal(self.tls(options), "a.example", self.client(bob)))

    def test_bad_files_are_no_option(self) -> None:
        missing, bad = Path(self.mktemp()), Path(self.mktemp())
        bad.write_text("hello")
        for path in (missing, bad):
            with self.assertRaises(TLSConfigError) as caught:
                self.tls(TLSOptions(cacertfile=path))
            self.assertEqual(caught.exception.option, "cacertfile")
            with self.assertRaises(TLSConfigError) as caught:
                self.tls(TLSOptions(cacertfile=self.ca_file, crl_files=(path,)))
            self.assertEqual(caught.exception.option, "crl_files")

    def test_sessions_are_not_resumed_where_certificates_are_asked_for(self) -> None:
        tls = self.tls(TLSOptions(cacertfile=self.ca_file, session_tickets=True))
        self.assertFalse(ResumptionTests.resumes(tls, self.client(self.authority.issue("ann")), "a.example"))


class ResumptionTests(ServerCase):
    @staticmethod
    def resumes(tls: ServerTLS, client: ssl.SSLContext, name: str | None) -> bool:
        """Whether a second handshake of the same client is an abbreviated one."""
        first = meet(tls, name, client)
        # Tickets of TLS 1.3 come after the handshake: answer, so that the client reads.
        first.server.transport.write(b"!")
        first.until(lambda: first.client.read(1))
        session = first.client.session
        return bool(meet(tls, name, client, session).client.session_reused)

    def test_off_unless_configured(self) -> None:
        for version in ("tlsv1.2", "tlsv1.3"):
            off = self.tls(TLSOptions(versions=(version,)))
            on = self.tls(TLSOptions(versions=(version,), session_tickets=True))
            for name in ("a.example", None):
                self.assertFalse(self.resumes(off, unverifying_context(), name), (version, name))
                self.assertTrue(self.resumes(on, unverifying_context(), name), (version, name))


class ReloadTests(LogCase, ServerCase):
    def test_new_certificates_at_once(self) -> None:
        tls = self.tls()
        meet(tls, "a.example")
        renewed = authority().issue("a.example")
        renewed.write(self.directory / "a.example")
        self.assertShown(meet(tls, "a.example"), issue("a.example"))
        tls.reload()
        self.assertShown(meet(tls, "a.example"), renewed)

    def test_an_option_gone_bad_changes_nothing(self) -> None:
        ca_file = Path(self.mktemp())
        ca_file.write_bytes(authority().pem)
        tls = self.tls(TLSOptions(cacertfile=ca_file))
        meet(tls, "a.example")
        ca_file.unlink()
        tls.reload()
        self.assertShown(meet(tls, "a.example"), issue("a.example"))
        self.assertEqual([event["option"] for event in self.logged("tls_reload_refused")], ["cacertfile"])

    def test_an_option_gone_bad_meets_new_names_without_an_exception(self) -> None:
        ca_file = Path(self.mktemp())
        ca_file.write_bytes(authority().pem)
        tls = self.tls(TLSOptions(cacertfile=ca_file))
        meet(tls, None)
        ca_file.unlink()
        self.assertShown(meet(tls, "a.example"), issue("default.example"))


class OptionTests(FilesCase):
    def test_the_password_is_not_shown(self) -> None:
        self.assertNotIn("sesame", repr(TLSOptions(password="sesame")))

    def test_the_password_opens_keys(self) -> None:
        folder = Path(self.mktemp())
        files = issue("a.example").write(folder, password="sesame")
        tls = ServerTLS(TLSOptions(password="sesame"), clock=Clock(), defaults=[files])
        self.assertEqual(meet(tls).der, issue("a.example").der)

    def test_one_file_for_both(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(issue("a.example").certificate_pem + issue("a.example").key_pem())
        tls = ServerTLS(TLSOptions(), clock=Clock(), defaults=[CertificateFiles(path)])
        self.assertEqual(meet(tls).der, issue("a.example").der)

    def test_a_plain_transport_has_no_verified_certificate(self) -> None:
        self.assertIsNone(verified_peer_certificate(object()))
