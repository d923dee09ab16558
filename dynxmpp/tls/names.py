"""The names that a server's certificate is for, as XMPP compares them (RFC 6120 13.7.1.2, RFC 9525 6.3).

Left out: the common name of the subject, which RFC 9525 no longer lets count, and IP addresses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509

from dynxmpp.tls.certificates import server_name

__all__ = ["CertificateNames"]

_ID_ON_DNS_SRV = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7")
_ID_ON_XMPP_ADDR = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5")
#: What a client looks for in an SRVName; also where TLS comes first (XEP-0368 2).
_SERVICE = "_xmpp-client."
_WILDCARD = "*."
_IA5_STRING, _UTF8_STRING = 0x16, 0x0C


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """Names of hosts as `server_name` gives them: `exact` ones, and the parents of `wildcards`.

    `presented`: as they stand in the certificate, for people.
    """

    exact: frozenset[str]
    wildcards: frozenset[str]
    presented: tuple[str, ...]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "CertificateNames":
        """Raises ValueError when the extensions cannot be read; names of other kinds are passed over."""
        presented = list(_presented(certificate))
        exact, wildcards = set[str](), set[str]()
        for _, host, is_wildcard in presented:
            name = server_name(host)
            if name is not None:
                (wildcards if is_wildcard else exact).add(name)
        return cls(frozenset(exact), frozenset(wildcards), tuple(dict.fromkeys(text for text, _, _ in presented)))

    def covers(self, name: str) -> bool:
        """Whether the certificate is for `name`, which `server_name` has prepared. "*" is one label, the first."""
        _, _, parent = name.partition(".")
        return name in self.exact or parent in self.wildcards


def _presented(certificate: x509.Certificate) -> Iterator[tuple[str, str, bool]]:
    """The names as they stand there, the host that each is about, and whether it is a wildcard's parent."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from error
    for name in names:
        if isinstance(name, x509.DNSName):
            yield name.value, name.value.removeprefix(_WILDCARD), name.value.startswith(_WILDCARD)
        elif isinstance(name, x509.OtherName):
            yield from _other(name)


def _other(name: x509.OtherName) -> Iterator[tuple[str, str, bool]]:
    """An SRVName (RFC 4985) of ours, or an XmppAddr (RFC 6120 13.7.1.4)."""
    if name.type_id == _ID_ON_XMPP_ADDR:
        address = _string(name.value, _UTF8_STRING)
        if address is not None:
            yield address, address, False
    elif name.type_id == _ID_ON_DNS_SRV:
        service = _string(name.value, _IA5_STRING)
        if service is not None and service.lower().startswith(_SERVICE):
            yield service, service[len(_SERVICE) :], False


def _string(der: bytes, tag: int) -> str | None:
    """The text of a DER string, if that is its tag and it has at most 255 bytes; that it is DER was found before."""
    if der[0] != tag or der[1] > 0x81:
        return None
    try:
        return der[3 if der[1] == 0x81 else 2 :].decode("utf-8" if tag == _UTF8_STRING else "ascii")
    except UnicodeDecodeError:
        return None
