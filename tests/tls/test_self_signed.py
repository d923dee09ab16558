import os
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.task import Clock

from dynxmpp.tls import ServerTLS, TLSOptions, ensure_self_signed
from dynxmpp.tls import self_signed as module
from dynxmpp.tls.certificates import load_credentials
from tests.fixtures.certs import NOW, issue
from tests.tls.handshake import FilesCase, client_context, meet


class SelfSignedTests(FilesCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.parent = Path(self.mktemp())
        self.folder = self.parent / "self-signed"

    def make(self, *names: str) -> x509.Certificate:
        return load_credentials(ensure_self_signed(self.folder, names, clock=self.clock)).chain[0]

    def alternatives(self, certificate: x509.Certificate) -> x509.SubjectAlternativeName:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    def test_a_client_that_trusts_it_is_served(self) -> None:
        self.clock.advance(datetime.now(UTC).timestamp() - NOW)
        files = ensure_self_signed(self.folder, ["chat.example", "*.chat.example"], clock=self.clock)
        tls = ServerTLS(TLSOptions(), clock=self.clock, defaults=[files])
        client = client_context(files.certificate.read_bytes())
        for name in ("chat.example", "rooms.chat.example"):
            self.assertEqual(meet(tls, name, client).server.application.received, b"?")

    def test_contents(self) -> None:
        certificate = self.make("chat.example", "*.chat.example", "münchen.example", "127.0.0.1", "[::1]")
        names = self.alternatives(certificate)
        self.assertEqual(
            names.get_values_for_type(x509.DNSName), ["chat.example", "*.chat.example", "xn--mnchen-3ya.example"]
        )
        self.assertEqual(names.get_values_for_type(x509.IPAddress), [IPv4Address("127.0.0.1"), IPv6Address("::1")])
        (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(common_name.value, "chat.example")
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [ExtendedKeyUsageOID.SERVER_AUTH])

    def test_validity_is_what_apple_accepts(self) -> None:
        certificate = self.make("chat.example")
        now = datetime.fromtimestamp(NOW, UTC)
        self.assertLess(certificate.not_valid_before_utc, now)
        both_ends = certificate.not_valid_after_utc - certificate.not_valid_before_utc + timedelta(seconds=1)
        self.assertEqual(both_ends, timedelta(days=825))

    def test_a_name_too_long_for_a_subject(self) -> None:
        name = f"{'a' * 60}.example"
        certificate = self.make(name)
        self.assertEqual(list(certificate.subject), [])
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.assertTrue(extension.critical)
        self.assertEqual(extension.value.get_values_for_type(x509.DNSName), [name])

    def test_rights_whatever_the_umask(self) -> None:
        for umask in (0o000, 0o077):
            before = os.umask(umask)
            try:
                files = ensure_self_signed(self.parent / f"{umask:o}", ["a.example"], clock=self.clock)
            finally:
                os.umask(before)
            assert files.key is not None
            self.assertEqual(stat.S_IMODE(files.key.stat().st_mode), 0o600)
            self.assertEqual(stat.S_IMODE(files.certificate.stat().st_mode), 0o644)
            self.assertEqual(stat.S_IMODE(files.certificate.parent.stat().st_mode), 0o755)

    def test_the_second_start_finds_the_first_ones(self) -> None:
        self.assertEqual(self.make("a.example"), self.make("b.example"))

    def test_an_expired_one_is_not_overwritten(self) -> None:
        first = self.make("a.example")
        self.clock.advance(10 * 365 * 86400)
        self.assertEqual(self.make("a.example"), first)

    def test_a_folder_with_something_else_in_it_is_not_touched(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "privkey.pem").write_bytes(b"precious")
        self.assertRaises(OSError, ensure_self_signed, self.folder, ["a.example"], clock=self.clock)
        self.assertEqual((self.folder / "privkey.pem").read_bytes(), b"precious")
        self.assertEqual([path.name for path in self.parent.iterdir()], ["self-signed"])

    def test_somebody_faster_wins(self) -> None:
        make = module.make_self_signed

        def make_slowly(*arguments: object) -> tuple[bytes, bytes]:
            issue("a.example").write(self.folder)
            return make(*arguments)  # type: ignore[arg-type]

        with mock.patch.object(module, "make_self_signed", make_slowly):
            self.assertEqual(self.make("a.example"), issue("a.example").certificate)
        self.assertEqual([path.name for path in self.parent.iterdir()], ["self-signed"])

    def test_a_failed_write_leaves_nothing(self) -> None:
        with mock.patch("dynxmpp.tls.self_signed.os.fsync", side_effect=OSError(28, "No space left on device")):
            self.assertRaises(OSError, ensure_self_signed, self.folder, ["a.example"], clock=self.clock)
        self.assertEqual(list(self.parent.iterdir()), [])

    def test_names_that_are_none(self) -> None:
        for names in ([], ["a..b"], ["*"], ["a/b"], ["*.*.example"]):
            self.assertRaises(ValueError, ensure_self_signed, self.folder, names, clock=self.clock)
        self.assertFalse(self.parent.exists())
