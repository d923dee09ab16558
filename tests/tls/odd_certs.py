"""Certificates that nobody should hand in, and some that look odd and are right."""

from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fixtures.certs import NOT_AFTER, NOT_BEFORE, Authority, Issued, authority

ID_ON_DNS_SRV = "1.3.6.1.5.5.7.8.7"
ID_ON_XMPP_ADDR = "1.3.6.1.5.5.7.8.5"


def dns(name: str) -> x509.GeneralName:
    return x509.DNSName(name)


def srv(name: str) -> x509.GeneralName:
    """An SRVName (RFC 4985)."""
    return x509.OtherName(x509.ObjectIdentifier(ID_ON_DNS_SRV), _der(0x16, name.encode()))


def xmpp_addr(name: str) -> x509.GeneralName:
    """An XmppAddr (RFC 6120 13.7.1.4)."""
    return x509.OtherName(x509.ObjectIdentifier(ID_ON_XMPP_ADDR), _der(0x0C, name.encode()))


def other_name(oid: str, der: bytes) -> x509.GeneralName:
    return x509.OtherName(x509.ObjectIdentifier(oid), der)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x81, size]) if size < 0x100 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + content


def odd(
    *names: x509.GeneralName,
    key: Any = None,
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
    usage: list[x509.ObjectIdentifier] | None = None,
    issuer: Authority | None = None,
) -> Issued:
    """A leaf of the test authority, or of `issuer`, for anything; its common name is a.example."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    issuer = issuer or authority()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return Issued(builder.sign(issuer.key, hashes.SHA256()), key)


def intermediate(name: str, issuer: Authority, *, key: Any = None, not_after: datetime = NOT_AFTER) -> Authority:
    """An authority that another one has signed."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    return Authority(certificate, key)
