"""Whether a certificate that somebody hands in can serve a domain; whoever does not see the log is told why not.

What is checked: it can be read, the key is the leaf's and works, each certificate is signed by the one behind it, all
are valid now, the leaf is for servers and for this domain, and clients of today accept its kind of key and signature.

Left out: whether a client trusts the issuer, and whether the certificate has been revoked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL, crypto

from dynxmpp.tls.certificates import CertificateError, server_name, ssl_reason
from dynxmpp.tls.names import CertificateNames

__all__ = ["CertificateFacts", "CheckedCertificate", "check_certificate", "facts_of", "leaf_of"]

#: Certificates of a chain; more make every handshake longer, and no client follows them.
MAX_CHAIN: Final = 10
MIN_RSA_BITS: Final = 2048
#: A handshake with more would take tens of milliseconds, in which nobody else is served.
MAX_RSA_BITS: Final = 4096
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_WEAK_HASHES: Final = ("md5", "sha1")
_SHOWN_NAMES: Final = 5

# What cryptography raises for content that it cannot make sense of, some of it only when a field is asked for.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class CheckedCertificate:
    """A certificate that was found good, PEM: `chain` leaf first, `key` not encrypted (PKCS #8)."""

    chain: str
    key: str = field(repr=False)
    not_after: datetime


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What people want to know of a leaf. Times are UTC, `fingerprint` is the SHA-256 of the DER in hexadecimal."""

    names: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime
    fingerprint: str


def check_certificate(chain: str, key: str, domain: str, *, now: datetime) -> CheckedCertificate:
    """What is to be kept of `chain` and `key`, both PEM. Raises CertificateError; its texts hold nothing secret."""
    certificates = _read_chain(chain)
    leaf = certificates[0]
    private_key = _read_key(key)
    _check_links(certificates)
    _check_pair(private_key, _sane(leaf))
    for certificate in certificates:
        _check_time(certificate, now)
    _check_purpose(leaf)
    _check_names(leaf, domain)
    _check_with_openssl(certificates, private_key)
    return CheckedCertificate(
        "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates),
        private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        leaf.not_valid_after_utc,
    )


def leaf_of(chain: str) -> x509.Certificate:
    """The first certificate of a chain that was checked once."""
    return x509.load_pem_x509_certificate(chain.encode())


def facts_of(leaf: x509.Certificate) -> CertificateFacts:
    """Raises what reading certificates raises (ValueError and others), though not of a leaf that was checked."""
    return CertificateFacts(
        CertificateNames.of(leaf).presented,
        leaf.issuer.rfc4514_string(),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        leaf.fingerprint(hashes.SHA256()).hex(),
    )


# -- reading


def _read_chain(pem: str) -> Sequence[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        for certificate in certificates:
            facts_of(certificate)
            _signature_hash(certificate)
    except _UNREADABLE as error:
        raise CertificateError("the chain has no certificate in PEM, or one that cannot be read") from error
    if len(certificates) > MAX_CHAIN:
        raise CertificateError(f"the chain has more than {MAX_CHAIN} certificates")
    return certificates


def _read_key(pem: str) -> Any:
    if "BEGIN ENCRYPTED " in pem or "4,ENCRYPTED" in pem:
        raise CertificateError("the key is encrypted; hand it in without a password")
    try:
        # The check that is skipped takes up to 0.1 s; that the key works is tried instead, once its size is known.
        return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except _UNREADABLE as error:
        raise CertificateError("the key is no private key in PEM") from error


# -- checking


def _sane(leaf: x509.Certificate) -> _PublicKey:
    """The leaf's public key, if clients take its kind and size."""
    try:
        key = leaf.public_key()
    except _UNREADABLE as error:
        raise CertificateError("the certificate's public key cannot be read") from error
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise CertificateError(
                f"the RSA key has {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
            )
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise CertificateError(f"the key's curve is {key.curve.name}; P-256, P-384 and P-521 are accepted")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise CertificateError("the certificate's key is neither RSA nor EC nor Ed25519")


def _check_pair(private_key: Any, public_key: _PublicKey) -> None:
    """By the public half, and by a signature: a private half may be damaged or of another key."""
    stranger = CertificateError("the key does not belong to the first certificate of the chain")
    try:
        if private_key.public_key() != public_key:
            raise stranger
        _sign_and_verify(private_key, public_key)
    except (InvalidSignature, InternalError, *_UNREADABLE) as error:
        raise stranger from error


def _sign_and_verify(private_key: Any, public_key: _PublicKey) -> None:
    text = b"the two halves of a key"
    if isinstance(public_key, rsa.RSAPublicKey):
        signature = private_key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        public_key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        public_key.verify(private_key.sign(text, ec.ECDSA(hashes.SHA256())), text, ec.ECDSA(hashes.SHA256()))
    else:
        public_key.verify(private_key.sign(text), text)


def _check_links(certificates: Sequence[x509.Certificate]) -> None:
    """RFC 8446 4.4.2: each certificate directly certifies the one before it. The last one's issuer may be missing."""
    for certificate, issuer in pairwise(certificates):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, *_UNREADABLE) as error:
            raise CertificateError(
                f"{_called(certificate)} is not signed by {_called(issuer)}, which follows it: the order is "
                "leaf, its issuer, the issuer of that one"
            ) from error
        key = issuer.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            raise CertificateError(
                f"the RSA key of {_called(issuer)} has {key.key_size} bits, fewer than {MIN_RSA_BITS}"
            )
    for certificate in certificates:
        # What a certificate says of itself is not looked at: who trusts it has it already.
        weak = _signature_hash(certificate)
        if weak in _WEAK_HASHES and certificate.issuer != certificate.subject:
            raise CertificateError(f"{_called(certificate)} is signed with {weak.upper()}, which clients refuse")


def _check_time(certificate: x509.Certificate, now: datetime) -> None:
    if certificate.not_valid_before_utc > now:
        since = certificate.not_valid_before_utc.isoformat()
        raise CertificateError(f"{_called(certificate)} is not valid before {since}")
    if certificate.not_valid_after_utc < now:
        raise CertificateError(f"{_called(certificate)} has expired: {certificate.not_valid_after_utc.isoformat()}")


def _check_purpose(leaf: x509.Certificate) -> None:
    """RFC 5280 4.2.1.12: without the extension it is for everything."""
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise CertificateError("the certificate is not for servers (extended key usage)")


def _check_names(leaf: x509.Certificate, domain: str) -> None:
    name = server_name(domain)
    if name is None:
        raise CertificateError("the domain has no name that clients can ask for in TLS")
    names = CertificateNames.of(leaf)
    if not names.covers(name):
        shown = ", ".join(names.presented[:_SHOWN_NAMES]) or "no name"
        more = ", ..." if len(names.presented) > _SHOWN_NAMES else ""
        raise CertificateError(f"the certificate is for {shown}{more} and not for {name}")


def _check_with_openssl(certificates: Sequence[x509.Certificate], key: Any) -> None:
    """As listeners will do it."""
    try:
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(certificates[0])
        for certificate in certificates[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        raise CertificateError(f"the TLS library refuses the certificate: {ssl_reason(error)}") from error


def _signature_hash(certificate: x509.Certificate) -> str:
    """Empty for signatures that have none of their own (Ed25519)."""
    algorithm = certificate.signature_hash_algorithm
    return "" if algorithm is None else algorithm.name


def _called(certificate: x509.Certificate) -> str:
    """A certificate's subject, for people."""
    return f"the certificate of {certificate.subject.rfc4514_string() or 'no subject'}"
