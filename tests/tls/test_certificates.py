import errno
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.tls.certificates import (
    CertificateError,
    CertificateFiles,
    CertificateStore,
    Credentials,
    load_credentials,
    server_name,
)
from tests.fixtures.certs import NOW, Issued, authority, issue, issue_self_signed, make_authority
from tests.tls.handshake import FilesCase, LogCase


class StoreCase(LogCase):
    """A store whose contexts remember what they present, an own folder, a clock, and the log."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.made: list[SSL.Context] = []

    def store(self, *defaults: CertificateFiles, **options: int) -> CertificateStore:
        return CertificateStore(
            self.make, clock=self.clock, directory=self.directory, defaults=defaults, password="sesame", **options
        )

    def make(self, credentials: Credentials) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(credentials.chain[0])
        context.use_privatekey(credentials.key)
        context.set_app_data(credentials)
        self.made.append(context)
        return context

    def default(self) -> CertificateFiles:
        return issue("default.example").write(self.directory.parent / "default")

    def assertShows(self, context: SSL.Context | None, issued: Issued) -> None:
        assert context is not None, "no context"
        self.assertEqual(context.get_app_data().chain[0], issued.certificate)


class ServerNameTests(TestCase):
    def test_names_of_hosts_are_kept(self) -> None:
        for name in ("a.example", "localhost", "xn--mnchen-3ya.example", "a-b.c_d.example", "_dc.example", "127.0.0.1"):
            self.assertEqual(server_name(name), name)
            self.assertEqual(server_name(name.encode()), name)

    def test_case_and_final_dot_do_not_matter(self) -> None:
        self.assertEqual(server_name(b"A.Example."), "a.example")

    def test_u_labels_become_a_labels(self) -> None:
        self.assertEqual(server_name("münchen.example"), "xn--mnchen-3ya.example")

    def test_what_could_leave_the_directory_is_no_name(self) -> None:
        hostile = [
            "..",
            ".",
            "../a",
            "a/../b",
            "/etc",
            "a/b",
            "a\\b",
            "a\0b",
            "a.example\0",
            "a..b",
            ".a",
            "a\n",
            "a ",
            "",
        ]
        for name in hostile:
            self.assertIsNone(server_name(name), name)
            self.assertIsNone(server_name(name.encode()), name)

    def test_what_preparation_turns_into_dots_and_slashes_is_no_name(self) -> None:
        for name in ("．．", "a／b", "。。", "a。。b", "ａ／．．", "\ud800", "℀.example"):
            self.assertIsNone(server_name(name), name)

    def test_wildcard_folders_cannot_be_asked_for(self) -> None:
        for name in ("*.example", "_.example", "a._.example", "_", "*"):
            self.assertIsNone(server_name(name), name)

    def test_bytes_outside_ascii_are_no_name(self) -> None:
        self.assertIsNone(server_name("münchen.example".encode()))
        self.assertIsNone(server_name(b"\xff\xfe"))

    def test_lengths(self) -> None:
        label = "a" * 63
        longest = f"{label}.{label}.{label}.{'a' * 61}"
        self.assertEqual(server_name(longest), longest)
        self.assertEqual(server_name(longest + "."), longest)
        self.assertIsNone(server_name(longest + "a"))
        self.assertIsNone(server_name("a" * 64))
        self.assertIsNone(server_name("ü" * 60_000))
        self.assertIsNone(server_name(b"a" * 60_000))

    def test_no_name(self) -> None:
        self.assertIsNone(server_name(None))
        self.assertIsNone(server_name("[::1]"))


class LookUpTests(StoreCase):
    def test_the_exact_folder_comes_before_the_wildcard(self) -> None:
        exact, wildcard = issue("a.example"), issue("*.example")
        wildcard.write(self.directory / "*.example")
        exact.write(self.directory / "a.example")
        store = self.store(self.default())
        self.assertShows(store.context_for(b"a.example"), exact)
        self.assertShows(store.context_for(b"b.example"), wildcard)

    def test_either_spelling_of_a_wildcard_folder(self) -> None:
        star, underscore = issue("*.star.example"), issue("*.line.example")
        star.write(self.directory / "*.star.example")
        underscore.write(self.directory / "_.line.example")
        store = self.store()
        self.assertShows(store.own_context("a.star.example"), star)
        self.assertShows(store.own_context("a.line.example"), underscore)

    def test_a_wildcard_stands_for_one_label(self) -> None:
        issue("*.example").write(self.directory / "*.example")
        store = self.store()
        self.assertIsNone(store.context_for(b"a.b.example"))
        self.assertIsNone(store.context_for(b"example"))

    def test_unknown_names_and_no_name_get_the_default(self) -> None:
        store = self.store(self.default())
        for name in (b"unknown.example", None, b"../x", "[::1]"):
            self.assertShows(store.context_for(name), issue("default.example"))
            self.assertIsNone(store.own_context(name))

    def test_the_first_usable_default(self) -> None:
        second = issue("second.example").write(self.directory.parent / "second")
        store = self.store(CertificateFiles(self.directory / "missing.pem"), second)
        self.assertShows(store.context_for(None), issue("second.example"))
        self.assertEqual([event["domain"] for event in self.logged("certificate_unusable")], ["default"])

    def test_without_any_certificate(self) -> None:
        self.assertIsNone(self.store().context_for(b"a.example"))

    def test_without_a_directory(self) -> None:
        store = CertificateStore(self.make, clock=self.clock, defaults=[self.default()])
        self.assertShows(store.context_for(b"a.example"), issue("default.example"))

    def test_names_outside_the_directory_are_never_looked_at(self) -> None:
        inner = self.directory / "certificates"
        inner.mkdir()
        issue("a.example").write(self.directory / "secret")
        store = CertificateStore(self.make, clock=self.clock, directory=inner)
        with mock.patch("dynxmpp.tls.certificates.os.stat", side_effect=AssertionError("looked")):
            for name in (b"../secret", b"..", b"a/../../secret", "．．／secret"):
                self.assertIsNone(store.context_for(name))

    def test_a_u_label_finds_its_folder(self) -> None:
        issued = issue("xn--mnchen-3ya.example")
        issued.write(self.directory / "xn--mnchen-3ya.example")
        self.assertShows(self.store().own_context("münchen.example"), issued)

    def test_one_context_for_all_names_of_a_wildcard(self) -> None:
        issue("*.example").write(self.directory / "*.example")
        store = self.store()
        self.assertIs(store.context_for(b"a.example"), store.context_for(b"b.example"))

    def test_links_are_followed(self) -> None:
        issue("a.example").write(self.directory.parent / "archive")
        (self.directory / "a.example").symlink_to(self.directory.parent.absolute() / "archive")
        self.assertShows(self.store().own_context("a.example"), issue("a.example"))


class ChangeTests(StoreCase):
    def test_a_new_folder_is_noticed_after_a_second(self) -> None:
        store = self.store(self.default())
        self.assertShows(store.context_for(b"a.example"), issue("default.example"))
        issue("a.example").write(self.directory / "a.example")
        self.clock.advance(0.9)
        self.assertShows(store.context_for(b"a.example"), issue("default.example"))
        self.clock.advance(0.1)
        self.assertShows(store.context_for(b"a.example"), issue("a.example"))

    def test_within_the_second_nothing_is_looked_at(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store(self.default())
        names = (b"a.example", b"absent.example")
        known = [store.context_for(name) for name in names]
        with mock.patch("dynxmpp.tls.certificates.os.stat", side_effect=AssertionError("looked")):
            self.assertEqual([store.context_for(name) for name in names], known)

    def test_unchanged_files_are_not_read_again(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store()
        before = store.context_for(b"a.example")
        self.clock.advance(10)
        self.assertIs(store.context_for(b"a.example"), before)
        self.assertEqual(len(self.made), 1)

    def test_replaced_files_are_read(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store()
        store.context_for(b"a.example")
        renewed = authority().issue("a.example")
        renewed.write(self.directory / "a.example")
        self.clock.advance(1)
        self.assertShows(store.context_for(b"a.example"), renewed)
        self.assertEqual([event["domain"] for event in self.logged("certificate_replaced")], ["a.example"])

    def test_a_replaced_default_is_read(self) -> None:
        store = self.store(self.default())
        store.context_for(None)
        renewed = authority().issue("default.example")
        renewed.write(self.directory.parent / "default")
        self.clock.advance(1)
        self.assertShows(store.context_for(None), renewed)

    def test_half_a_renewal_keeps_the_certificate_in_use(self) -> None:
        files = issue("a.example").write(self.directory / "a.example")
        store = self.store(self.default())
        before = store.context_for(b"a.example")
        renewed = authority().issue("a.example")
        files.certificate.write_bytes(renewed.certificate_pem)
        self.clock.advance(1)
        self.assertIs(store.context_for(b"a.example"), before)
        renewed.write(self.directory / "a.example")
        self.clock.advance(1)
        self.assertShows(store.context_for(b"a.example"), renewed)

    def test_a_removed_folder_is_noticed(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store(self.default())
        store.context_for(b"a.example")
        shutil.rmtree(self.directory / "a.example")
        self.clock.advance(1)
        self.assertShows(store.context_for(b"a.example"), issue("default.example"))
        self.assertEqual([event["domain"] for event in self.logged("certificate_removed")], ["a.example"])

    def test_a_clock_set_back_does_not_freeze_the_answers(self) -> None:
        store = self.store()
        self.assertIsNone(store.context_for(b"a.example"))
        issue("a.example").write(self.directory / "a.example")
        self.clock.rightNow -= 3600
        self.assertShows(store.context_for(b"a.example"), issue("a.example"))

    def test_reload_forgets_at_once(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store(self.default())
        names = (b"a.example", b"b.example", None)
        before = [store.context_for(name) for name in names]
        issue("b.example").write(self.directory / "b.example")
        store.reload()
        self.assertShows(store.context_for(b"b.example"), issue("b.example"))
        self.assertIsNot(store.context_for(b"a.example"), before[0])
        self.assertIsNot(store.context_for(None), before[2])


class BoundTests(StoreCase):
    def test_the_least_recently_used_name_is_dropped(self) -> None:
        for letter in "abc":
            issue(f"{letter}.example").write(self.directory / f"{letter}.example")
        store = self.store(max_contexts=2)
        a = store.context_for(b"a.example")
        b = store.context_for(b"b.example")
        self.assertIs(store.context_for(b"a.example"), a)
        store.context_for(b"c.example")
        self.assertIs(store.context_for(b"a.example"), a)
        self.assertIsNot(store.context_for(b"b.example"), b)

    def test_absent_names_are_bounded_and_drop_nobody(self) -> None:
        issue("a.example").write(self.directory / "a.example")
        store = self.store(max_contexts=10)
        known = store.context_for(b"a.example")
        for number in range(100):
            store.context_for(f"n{number}.example".encode())
        self.assertIs(store.context_for(b"a.example"), known)
        self.assertEqual(len(store._absent), 10)


class UnusableTests(StoreCase):
    """Each sort of broken files: one line in the log, the next source answers, nothing is raised."""

    def setUp(self) -> None:
        super().setUp()
        self.files = issue("a.example").write(self.directory / "a.example")
        assert self.files.key is not None
        self.key = self.files.key
        self.fallback = self.store(self.default())

    def assertPassedOver(self, reason: str) -> None:
        for _ in range(3):
            self.assertShows(self.fallback.context_for(b"a.example"), issue("default.example"))
            self.clock.advance(1)
        lines = self.logged("certificate_unusable")
        self.assertEqual([event["domain"] for event in lines], ["a.example"])
        self.assertIn(reason, lines[0]["reason"])

    def test_certificate_is_no_pem(self) -> None:
        self.files.certificate.write_bytes(b"hello")
        self.assertPassedOver("no usable certificate")

    def test_certificate_is_cut_off(self) -> None:
        pem = self.files.certificate.read_bytes()
        self.files.certificate.write_bytes(pem[: len(pem) // 2])
        self.assertPassedOver("no usable certificate")

    def test_certificate_is_pem_around_nonsense(self) -> None:
        self.files.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n")
        self.assertPassedOver("no usable certificate")

    def test_key_is_no_pem(self) -> None:
        self.key.write_bytes(b"")
        self.assertPassedOver("no usable private key")

    def test_key_of_another_certificate(self) -> None:
        self.key.write_bytes(issue("b.example").key_pem())
        self.assertPassedOver("does not belong")

    def test_key_of_another_kind(self) -> None:
        self.key.write_bytes(rsa.generate_private_key(65537, 2048).private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))  # fmt: skip
        self.assertPassedOver("does not belong")

    def test_key_that_cannot_sign(self) -> None:
        self.key.write_bytes(
            x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self.assertPassedOver("of a kind that TLS cannot use")

    def test_key_with_another_password(self) -> None:
        self.key.write_bytes(issue("a.example").key_pem("open"))
        self.assertPassedOver("the password does not open the key")

    def test_key_is_missing(self) -> None:
        self.key.unlink()
        self.assertPassedOver("cannot read")

    def test_file_is_a_folder(self) -> None:
        self.key.unlink()
        self.key.mkdir()
        self.assertPassedOver("Is a directory")

    def test_links_in_a_circle(self) -> None:
        self.files.certificate.unlink()
        self.files.certificate.symlink_to(self.files.certificate.absolute())
        self.assertPassedOver("symbolic links")

    def test_files_that_may_not_be_read(self) -> None:
        # The run may be root's, whom no permission stops.
        denied = PermissionError(errno.EACCES, "Permission denied", str(self.key))
        with mock.patch("pathlib.Path.read_bytes", side_effect=denied):
            self.assertIsNone(self.fallback.own_context(b"a.example"))
        (event,) = self.logged("certificate_unusable")
        self.assertIn("Permission denied", event["reason"])

    def test_a_certificate_that_openssl_refuses(self) -> None:
        weak = authority().issue("a.example", key=rsa.generate_private_key(65537, 1024))
        weak.write(self.directory / "a.example")
        self.assertPassedOver("too small")

    def test_no_secret_is_logged(self) -> None:
        self.key.write_bytes(issue("a.example").key_pem("open"))
        self.assertPassedOver("password")
        self.assertNotIn("sesame", str(self.logged("certificate_unusable")))

    def test_repaired_files_are_used(self) -> None:
        self.key.write_bytes(b"")
        self.assertPassedOver("no usable private key")
        issue("a.example").write(self.directory / "a.example")
        self.clock.advance(1)
        self.assertShows(self.fallback.context_for(b"a.example"), issue("a.example"))

    def test_an_expired_certificate_is_served_with_a_warning(self) -> None:
        late = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
        expired = authority().issue("a.example", not_after=late)
        expired.write(self.directory / "a.example")
        for _ in range(3):
            self.assertShows(self.fallback.context_for(b"a.example"), expired)
            self.clock.advance(1)
        self.assertEqual([event["domain"] for event in self.logged("certificate_expired")], ["a.example"])


class LoadTests(FilesCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def test_chain_and_key(self) -> None:
        root = make_authority("Another")
        issued = authority().issue("a.example", chain=(authority().certificate, root.certificate))
        credentials = load_credentials(issued.write(self.folder))
        self.assertEqual(credentials.chain, (issued.certificate, authority().certificate, root.certificate))
        self.assertEqual(credentials.key.public_key(), issued.key.public_key())
        self.assertEqual(credentials.not_after, issued.certificate.not_valid_after_utc)

    def test_both_in_one_file_in_either_order(self) -> None:
        self.folder.mkdir()
        issued = authority().issue("a.example", chain=(authority().certificate,))
        for content in (issued.certificate_pem + issued.key_pem(), issued.key_pem() + issued.certificate_pem):
            one = self.folder / "both.pem"
            one.write_bytes(content)
            credentials = load_credentials(CertificateFiles(one))
            self.assertEqual(credentials.chain, (issued.certificate, authority().certificate))

    def test_encrypted_key(self) -> None:
        files = issue("a.example").write(self.folder, password="sesame")
        self.assertEqual(load_credentials(files, "sesame").chain[0], issue("a.example").certificate)
        with self.assertRaisesRegex(CertificateError, "no password is configured"):
            load_credentials(files)

    def test_encrypted_key_of_the_old_format(self) -> None:
        files = issue("a.example").write(self.folder)
        assert files.key is not None
        # OpenSSL's "traditional" encryption, marked in the PEM header instead of the PEM label.
        key = issue("a.example").key
        files.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"sesame"))
        )
        self.assertIn(b"4,ENCRYPTED", files.key.read_bytes())
        self.assertEqual(load_credentials(files, "sesame").chain[0], issue("a.example").certificate)

    def test_a_password_does_no_harm_to_an_open_key(self) -> None:
        files = issue("a.example").write(self.folder)
        self.assertEqual(load_credentials(files, "sesame").chain[0], issue("a.example").certificate)

    def test_a_key_file_that_begins_with_curve_parameters(self) -> None:
        files = issue("a.example").write(self.folder)
        assert files.key is not None
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        files.key.write_bytes(parameters + issue("a.example").key_pem())
        self.assertEqual(load_credentials(files).chain[0], issue("a.example").certificate)

    def test_kinds_of_keys(self) -> None:
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            issued = issue_self_signed("a.example", key=key)
            self.assertEqual(load_credentials(issued.write(self.folder)).chain[0], issued.certificate)

    def test_the_key_is_not_shown(self) -> None:
        self.assertNotIn("PrivateKey", repr(load_credentials(issue("a.example").write(self.folder))))
