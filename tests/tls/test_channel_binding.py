import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from dynxmpp.tls import ServerTLS, TLSOptions, channel_bindings, tls_exporter, tls_server_end_point
from tests.fixtures.certs import NOW, authority, issue, issue_self_signed
from tests.tls.handshake import FilesCase, Server, meet, meet_pyopenssl

# Signed with sha1WithRSAEncryption, which today's libraries read but no longer make.
SHA1_SIGNED = b"""-----BEGIN CERTIFICATE-----
MIICBDCCAW2gAwIBAgIUcpXA8u7RtlXigjl/dWdJuXjutQgwDQYJKoZIhvcNAQEF
BQAwFDESMBAGA1UEAwwJYS5leGFtcGxlMB4XDTI2MTEyMzE5MDkwNVoXDTM2MTEy
MDE5MDkwNVowFDESMBAGA1UEAwwJYS5leGFtcGxlMIGfMA0GCSqGSIb3DQEBAQUA
A4GNADCBiQKBgQDEPTkMq+HHU26Kt3FC1sdoK6zsCx7RBmRIp5V0BlEl0ks/+L/d
d2KaSY7BFTJeb1CAw5ZSw6BtMrqkOS3YGMPsS0OGa9u5EHjbFgvLVZ8WjUX3+rDw
llYGPXgwCir6x/VKhNG9JiGQIdBJRFHwzZXCG5kyLUyHePAts/mnNnovewIDAQAB
o1MwUTAdBgNVHQ4EFgQUCWyzCSm+Uaezk0WHdJ0df2njeykwHwYDVR0jBBgwFoAU
CWyzCSm+Uaezk0WHdJ0df2njeykwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0B
AQUFAAOBgQBbjHc48hkjLPfwTpQiEXQk/71d+xkkLCQXyHfH+uTcGtg2JziLNXc+
7mBTfojMxLmV0+kN/d/IK/reYZnt02SOXDhmrJ3ZfkfUYXJX45tC3JdAhoe+nbP7
imPB3jW8u/mEnVvCaiFSjHa+4Bgoes3vg3FsPbYTbMVND1wkAtGr9g==
-----END CERTIFICATE-----
"""


class ConnectionTests(FilesCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.directory = Path(self.mktemp())
        for name in ("a.example", "b.example"):
            issue(name).write(self.directory / name)

    def tls(self, options: TLSOptions | None = None) -> ServerTLS:
        return ServerTLS(options or TLSOptions(), clock=self.clock, directory=self.directory)

    def client(self, name: str) -> SSL.Connection:
        client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        client.set_tlsext_host_name(name.encode())
        return client

    def test_the_exporter_gives_the_same_on_both_ends(self) -> None:
        client = self.client("a.example")
        server = meet_pyopenssl(self.tls(), client)
        exported = tls_exporter(server.transport)
        # With the empty context of RFC 9266 4.2 spelt out, as a client may do it.
        self.assertEqual(exported, client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))
        self.assertEqual(channel_bindings(server.transport)["tls-exporter"], exported)
        assert exported is not None
        self.assertEqual(len(exported), 32)

    def test_the_exporter_differs_between_connections(self) -> None:
        tls = self.tls()
        one, two = (tls_exporter(meet(tls, "a.example").server.transport) for _ in range(2))
        self.assertNotEqual(one, two)

    def test_no_exporter_under_1_2(self) -> None:
        server = meet(self.tls(TLSOptions(versions=("tlsv1.2",))), "a.example").server
        self.assertIsNone(tls_exporter(server.transport))
        self.assertEqual(list(channel_bindings(server.transport)), ["tls-server-end-point"])

    def test_the_end_point_is_the_certificate_the_client_saw(self) -> None:
        for version in ("tlsv1.2", "tlsv1.3"):
            tls = self.tls(TLSOptions(versions=(version,)))
            for begun, asked in (("a.example", "b.example"), ("b.example", "a.example"), (None, "a.example")):
                met = meet(tls.for_name(begun), asked)
                computed_by_client = hashlib.sha256(met.der).digest()
                self.assertEqual(met.der, issue(asked).der)
                self.assertEqual(channel_bindings(met.server.transport)["tls-server-end-point"], computed_by_client)

    def test_the_end_point_follows_the_streams_name(self) -> None:
        met = meet(self.tls().for_name("b.example"), None)
        self.assertEqual(met.der, issue("b.example").der)
        bindings = channel_bindings(met.server.transport)
        self.assertEqual(bindings["tls-server-end-point"], hashlib.sha256(met.der).digest())

    def test_the_end_point_stays_when_the_certificate_is_replaced(self) -> None:
        tls = self.tls()
        met = meet(tls, "a.example")
        authority().issue("a.example").write(self.directory / "a.example")
        tls.reload()
        self.assertNotEqual(meet(tls, "a.example").der, met.der)
        bindings = channel_bindings(met.server.transport)
        self.assertEqual(bindings["tls-server-end-point"], hashlib.sha256(met.der).digest())

    def test_no_end_point_where_sessions_are_resumed(self) -> None:
        met = meet(self.tls(TLSOptions(session_tickets=True)), "a.example")
        self.assertEqual(list(channel_bindings(met.server.transport)), ["tls-exporter"])

    def test_the_best_comes_first(self) -> None:
        met = meet(self.tls(), "a.example")
        self.assertEqual(list(channel_bindings(met.server.transport)), ["tls-exporter", "tls-server-end-point"])

    def test_nothing_before_the_handshake_is_over(self) -> None:
        server = Server(self.tls().for_name("a.example"))
        self.assertEqual(channel_bindings(server.transport), {})
        self.assertIsNone(tls_exporter(server.transport))

    def test_nothing_between_hello_and_finished(self) -> None:
        server = Server(self.tls())
        client = self.client("a.example")
        client.set_connect_state()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        server.receive(client.bio_read(1 << 16))
        client.bio_write(server.sent())
        self.assertEqual(channel_bindings(server.transport), {})
        client.do_handshake()
        server.receive(client.bio_read(1 << 16))
        self.assertEqual(len(channel_bindings(server.transport)), 2)

    def test_nothing_without_tls(self) -> None:
        for transport in (StringTransport(), object(), None):
            self.assertEqual(channel_bindings(transport), {})
            self.assertIsNone(tls_exporter(transport))


class EndPointTests(TestCase):
    def test_the_hash_is_the_signatures(self) -> None:
        for algorithm, name in ((hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")):
            issued = authority().issue("a.example", hash_algorithm=algorithm)
            self.assertEqual(tls_server_end_point(issued.certificate), hashlib.new(name, issued.der).digest())

    def test_sha1_is_replaced(self) -> None:
        certificate = x509.load_pem_x509_certificate(SHA1_SIGNED)
        self.assertIsInstance(certificate.signature_hash_algorithm, hashes.SHA1)
        der = certificate.public_bytes(Encoding.DER)
        self.assertEqual(tls_server_end_point(certificate), hashlib.sha256(der).digest())

    def test_undefined_without_a_hash(self) -> None:
        issued = issue_self_signed("a.example", key=ed25519.Ed25519PrivateKey.generate())
        self.assertIsNone(tls_server_end_point(issued.certificate))
