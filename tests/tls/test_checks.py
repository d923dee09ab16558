"""What is found of certificates that are handed in: each thing that can be wrong, and what is not wrong at all."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.trial.unittest import TestCase

from dynxmpp.tls.certificates import CertificateError
from dynxmpp.tls.checks import MAX_CHAIN, check_certificate, facts_of, leaf_of
from tests.fixtures.certs import NOW, Issued, authority, issue, issue_self_signed, make_authority
from tests.tls.odd_certs import (
    ID_ON_DNS_SRV,
    ID_ON_XMPP_ADDR,
    dns,
    intermediate,
    odd,
    other_name,
    srv,
    xmpp_addr,
)

AT = datetime.fromtimestamp(NOW, UTC)
NOT_THE_KEY = "the key does not belong to the first certificate of the chain"


def pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def traditional(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    """What `openssl genrsa -traditional` and `openssl ecparam -genkey` write."""
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption).decode()


def with_sha1(certificate: x509.Certificate) -> x509.Certificate:
    """One that says of its signature by RSA that it is with SHA-1. Nobody makes such signatures any more."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    return x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER).replace(sha256, sha1))


class ChecksCase(TestCase):
    def accepted(self, issued: Issued, domain: str = "a.example", *, at: datetime = AT) -> None:
        check_certificate(issued.certificate_pem.decode(), issued.key_pem().decode(), domain, now=at)

    def refused(self, issued: Issued, domain: str = "a.example", *, at: datetime = AT) -> str:
        return self.refused_text(issued.certificate_pem.decode(), issued.key_pem().decode(), domain, at=at)

    def refused_text(self, chain: str, key: str, domain: str = "a.example", *, at: datetime = AT) -> str:
        error = self.assertRaises(CertificateError, check_certificate, chain, key, domain, now=at)
        return str(error)


class TextTests(ChecksCase):
    def test_what_is_kept_is_the_certificates_and_the_key_and_nothing_else(self) -> None:
        issued = issue("a.example")
        noise = "Bag Attributes\n  friendlyName: \0 é\n"
        both = noise + issued.certificate_pem.decode() + issued.key_pem().decode()
        checked = check_certificate(both, both, "a.example", now=AT)
        self.assertEqual(checked.chain, issued.certificate_pem.decode())
        self.assertEqual(checked.key, issued.key_pem().decode())
        self.assertEqual(checked.not_after, issued.certificate.not_valid_after_utc)

    def test_other_spellings_of_the_same(self) -> None:
        issued = issue("a.example")
        chain, key = issued.certificate_pem.decode(), issued.key_pem().decode()
        rsa_key = rsa.generate_private_key(65537, 2048)
        with_rsa = authority().issue("a.example", key=rsa_key)
        assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
        parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        for spelt_chain, spelt_key in (
            (chain.replace("\n", "\r\n"), key.replace("\n", "\r\n")),
            (chain, parameters + traditional(issued.key)),
            (with_rsa.certificate_pem.decode(), traditional(rsa_key)),
        ):
            checked = check_certificate(spelt_chain, spelt_key, "a.example", now=AT)
            self.assertTrue(checked.key.startswith("-----BEGIN PRIVATE KEY-----\n"))

    def test_the_key_is_not_shown_by_accident(self) -> None:
        checked = check_certificate(
            issue("a.example").certificate_pem.decode(), issue("a.example").key_pem().decode(), "a.example", now=AT
        )
        self.assertNotIn("PRIVATE", repr(checked))

    def test_what_is_no_certificate(self) -> None:
        issued = issue("a.example")
        chain, key = issued.certificate_pem.decode(), issued.key_pem().decode()
        broken = base64.b64encode(b"\x30\x03\x02\x01\x01" * 40).decode()
        for text in (
            "",
            "x" * 60_000,
            "\0\ud7ff",
            key,
            chain[:-40],
            chain.replace("CERTIFICATE", "X509 CRL"),
            f"-----BEGIN CERTIFICATE-----\n{broken}\n-----END CERTIFICATE-----\n",
            chain + f"-----BEGIN CERTIFICATE-----\n{broken}\n-----END CERTIFICATE-----\n",
        ):
            found = self.refused_text(text, key)
            self.assertEqual(found, "the chain has no certificate in PEM, or one that cannot be read", text[:80])

    def test_what_is_no_key(self) -> None:
        issued = issue("a.example")
        chain, key = issued.certificate_pem.decode(), issued.key_pem().decode()
        public = issued.key.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        for text in ("", "x" * 60_000, "\0\ud7ff", chain, key[:-40], key[:60] + "AAAA" + key[64:], public.decode()):
            self.assertEqual(self.refused_text(chain, text), "the key is no private key in PEM", text[:80])

    def test_an_encrypted_key(self) -> None:
        issued = authority().issue("a.example", key=rsa.generate_private_key(65537, 2048))
        assert isinstance(issued.key, rsa.RSAPrivateKey)
        for text in (issued.key_pem("sesame").decode(), traditional(issued.key, b"sesame")):
            found = self.refused_text(issued.certificate_pem.decode(), text)
            self.assertEqual(found, "the key is encrypted; hand it in without a password")


class KeyTests(ChecksCase):
    def test_kinds_and_sizes_that_clients_take(self) -> None:
        for key in (
            rsa.generate_private_key(65537, 2048),
            rsa.generate_private_key(65537, 4096),
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            self.accepted(odd(dns("a.example"), key=key))

    def test_kinds_and_sizes_that_they_do_not_take(self) -> None:
        for key, text in (
            (rsa.generate_private_key(65537, 1024), "the RSA key has 1024 bits; 2048 to 4096 are accepted"),
            (rsa.generate_private_key(65537, 4104), "the RSA key has 4104 bits; 2048 to 4096 are accepted"),
            (
                ec.generate_private_key(ec.SECP256K1()),
                "the key's curve is secp256k1; P-256, P-384 and P-521 are accepted",
            ),
            (ed448.Ed448PrivateKey.generate(), "the certificate's key is neither RSA nor EC nor Ed25519"),
            (dsa.generate_private_key(2048), "the certificate's key is neither RSA nor EC nor Ed25519"),
        ):
            self.assertEqual(self.refused(odd(dns("a.example"), key=key)), text)

    def test_the_key_of_another_certificate(self) -> None:
        chain = issue("a.example").certificate_pem.decode()
        self.assertEqual(self.refused_text(chain, issue("b.example").key_pem().decode()), NOT_THE_KEY)

    def test_a_key_of_another_kind(self) -> None:
        chain = issue("a.example").certificate_pem.decode()
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            x25519.X25519PrivateKey.generate(),
        ):
            text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            self.assertEqual(self.refused_text(chain, text), NOT_THE_KEY)

    def test_a_damaged_private_half(self) -> None:
        """Its public half is right, so that only a signature tells."""
        key = rsa.generate_private_key(65537, 2048)
        good, stranger = key.private_numbers(), rsa.generate_private_key(65537, 2048).private_numbers()
        damaged = rsa.RSAPrivateNumbers(
            good.p, good.q, stranger.d, stranger.dmp1, good.dmq1, good.iqmp, good.public_numbers
        ).private_key(unsafe_skip_rsa_key_validation=True)
        self.assertEqual(damaged.public_key(), key.public_key())
        chain = odd(dns("a.example"), key=key).certificate_pem.decode()
        self.assertEqual(self.refused_text(chain, traditional(damaged)), NOT_THE_KEY)


class ChainTests(ChecksCase):
    def setUp(self) -> None:
        self.root = make_authority("Root")
        self.upper = intermediate("Upper", self.root)
        self.lower = intermediate("Lower", self.upper)
        self.leaf = self.lower.issue("a.example")

    def chain(self, *authorities: x509.Certificate) -> str:
        return pem(self.leaf.certificate, *authorities)

    def found(self, chain: str) -> str:
        return self.refused_text(chain, self.leaf.key_pem().decode())

    def test_the_root_may_be_there_or_not(self) -> None:
        whole = (self.lower.certificate, self.upper.certificate, self.root.certificate)
        for length in range(4):
            chain = self.chain(*whole[:length])
            checked = check_certificate(chain, self.leaf.key_pem().decode(), "a.example", now=AT)
            self.assertEqual(checked.chain, chain)

    def test_one_that_has_signed_itself(self) -> None:
        self.accepted(issue_self_signed("a.example"))

    def test_wrong_orders(self) -> None:
        lower, upper, root = self.lower.certificate, self.upper.certificate, self.root.certificate
        order = "which follows it: the order is leaf, its issuer, the issuer of that one"
        for chain, one, other in (
            (self.chain(upper, lower, root), "a.example", "Upper"),
            (self.chain(lower, root, upper), "Lower", "Root"),
            (pem(root, upper, lower, self.leaf.certificate), "Root", "Upper"),
            (self.chain(self.leaf.certificate), "a.example", "a.example"),
            (self.chain(lower, lower), "Lower", "Lower"),
        ):
            text = f"the certificate of CN={one} is not signed by the certificate of CN={other}, {order}"
            self.assertEqual(self.found(chain), text)

    def test_an_issuer_of_the_same_name_with_another_key(self) -> None:
        impostor = intermediate("Lower", self.upper)
        self.assertIn("CN=a.example is not signed by", self.found(self.chain(impostor.certificate)))

    def test_the_leaf_is_first(self) -> None:
        self.assertEqual(self.found(pem(self.lower.certificate, self.upper.certificate)), NOT_THE_KEY)

    def test_too_many(self) -> None:
        self.assertEqual(
            self.found(pem(*[self.leaf.certificate] * (MAX_CHAIN + 1))),
            f"the chain has more than {MAX_CHAIN} certificates",
        )

    def test_a_weak_issuer(self) -> None:
        weak = intermediate("Weak", self.root, key=rsa.generate_private_key(65537, 1024))
        self.assertEqual(
            self.refused(replace(odd(dns("a.example"), issuer=weak), chain=(weak.certificate,))),
            "the RSA key of the certificate of CN=Weak has 1024 bits, fewer than 2048",
        )

    def test_an_expired_issuer(self) -> None:
        expired = intermediate("Expired", self.root, not_after=AT - timedelta(days=1))
        leaf = expired.issue("a.example", chain=(expired.certificate,))
        self.assertEqual(self.refused(leaf), "the certificate of CN=Expired has expired: 2025-12-31T00:00:00+00:00")

    def test_a_signature_that_clients_refuse(self) -> None:
        root = intermediate("RSA", self.root, key=rsa.generate_private_key(65537, 2048))
        leaf = root.issue("a.example")
        text = self.refused_text(pem(with_sha1(leaf.certificate)), leaf.key_pem().decode())
        self.assertEqual(text, "the certificate of CN=a.example is signed with SHA1, which clients refuse")

    def test_a_root_may_have_signed_itself_with_anything(self) -> None:
        issued = issue_self_signed("a.example", key=rsa.generate_private_key(65537, 2048))
        check_certificate(pem(with_sha1(issued.certificate)), issued.key_pem().decode(), "a.example", now=AT)


class LibraryTests(ChecksCase):
    def test_what_listeners_could_not_use_is_refused(self) -> None:
        error = SSL.Error([("x509 certificate routines", "", "key values mismatch")])
        with mock.patch.object(SSL.Context, "check_privatekey", side_effect=error):
            found = self.refused(issue("a.example"))
        self.assertEqual(found, "the TLS library refuses the certificate: key values mismatch")


class TimeTests(ChecksCase):
    def test_both_ends_count(self) -> None:
        issued = odd(dns("a.example"), not_before=AT, not_after=AT + timedelta(days=90))
        for at in (AT, AT + timedelta(days=90)):
            self.accepted(issued, at=at)
        early, late = AT - timedelta(seconds=1), AT + timedelta(days=90, seconds=1)
        self.assertEqual(
            self.refused(issued, at=early),
            "the certificate of CN=a.example is not valid before 2026-01-01T00:00:00+00:00",
        )
        self.assertEqual(
            self.refused(issued, at=late), "the certificate of CN=a.example has expired: 2026-04-01T00:00:00+00:00"
        )


class PurposeTests(ChecksCase):
    def test_for_servers_or_for_all_or_unsaid(self) -> None:
        server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
        for usage in (None, [server], [client, server], [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]):
            self.accepted(odd(dns("a.example"), usage=usage))
        self.assertEqual(
            self.refused(odd(dns("a.example"), usage=[client])),
            "the certificate is not for servers (extended key usage)",
        )


class NameTests(ChecksCase):
    def test_names_that_cover_the_domain(self) -> None:
        for domain, name in (
            ("chat.a.example", dns("chat.a.example")),
            ("chat.a.example", dns("CHAT.a.Example.")),
            ("chat.a.example", dns("*.a.example")),
            ("chat.a.example", srv("_xmpp-client.chat.a.example")),
            ("chat.a.example", srv("_XMPP-Client.Chat.a.example")),
            ("chat.a.example", xmpp_addr("chat.a.example")),
            ("bücher.example", dns("xn--bcher-kva.example")),
            ("bücher.example", xmpp_addr("Bücher.example")),
            ("bücher.example", dns("*.example")),
            (f"{'a' * 60}.{'b' * 60}.example", xmpp_addr(f"{'a' * 60}.{'b' * 60}.example")),
        ):
            self.accepted(odd(dns("other.example"), name), domain)

    def test_names_that_do_not(self) -> None:
        for name in (
            dns("a.example"),
            dns("x.chat.a.example"),
            dns("*.example"),
            dns("*.chat.a.example"),
            dns("*"),
            dns("*.*.example"),
            dns("c*.a.example"),
            dns("chat.*.example"),
            dns("_xmpp-client.chat.a.example"),
            srv("_xmpp-server.chat.a.example"),
            srv("_xmpp-client.*.a.example"),
            srv("chat.a.example"),
            xmpp_addr("*.a.example"),
            xmpp_addr("alice@chat.a.example"),
            x509.UniformResourceIdentifier("xmpp:chat.a.example"),
            x509.RFC822Name("chat.a.example"),
            other_name("1.2.3.4", b"\x0c\x0echat.a.example"),
        ):
            self.assertTrue(self.refused(odd(name), "chat.a.example").endswith(" and not for chat.a.example"), name)

    def test_names_that_are_no_names(self) -> None:
        for name in (
            other_name(ID_ON_XMPP_ADDR, b"\x16\x09a.example"),
            other_name(ID_ON_XMPP_ADDR, b"\x0c\x02\xff\xfe"),
            other_name(ID_ON_XMPP_ADDR, b"\x05\x00"),
            other_name(ID_ON_DNS_SRV, b"\x0c\x16_xmpp-client.a.example"),
            other_name(ID_ON_DNS_SRV, b"\x16\x02\xc3\xbc"),
            srv("_xmpp-client."),
            xmpp_addr(""),
            xmpp_addr("a" * 300),
            dns(""),
        ):
            self.assertIn("and not for a.example", self.refused(odd(name)), name)

    def test_the_common_name_does_not_count(self) -> None:
        self.assertEqual(self.refused(odd()), "the certificate is for no name and not for a.example")

    def test_what_it_is_for_is_told_but_not_without_end(self) -> None:
        names = [f"n{number}.example" for number in range(50)]
        self.assertEqual(
            self.refused(authority().issue(*names)),
            "the certificate is for n0.example, n1.example, n2.example, n3.example, n4.example, ... "
            "and not for a.example",
        )

    def test_a_domain_that_tls_cannot_ask_for(self) -> None:
        for domain in ("[::1]", "_.example"):
            found = self.refused(issue("a.example"), domain)
            self.assertEqual(found, "the domain has no name that clients can ask for in TLS")


class FactsTests(TestCase):
    def test_of_a_stored_leaf(self) -> None:
        issued = odd(dns("*.a.example"), dns("a.example"), srv("_xmpp-client.a.example"), xmpp_addr("bücher.example"))
        facts = facts_of(leaf_of(issued.certificate_pem.decode() + authority().pem.decode()))
        self.assertEqual(facts.names, ("*.a.example", "a.example", "_xmpp-client.a.example", "bücher.example"))
        self.assertEqual(facts.issuer, "CN=Test authority")
        self.assertEqual(facts.fingerprint, issued.certificate.fingerprint(hashes.SHA256()).hex())
        self.assertEqual(facts.not_after, issued.certificate.not_valid_after_utc)
