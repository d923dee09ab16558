"""Certificates that are in no file: somebody has their texts in memory, and here contexts are made of them."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from weakref import ref

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.logger import Logger

from dynxmpp.tls.certificates import Credentials, PrivateKey, ssl_reason

__all__ = ["StoredCertificates", "StoredContexts", "StoredPem"]

log = Logger()


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class StoredPem:
    """The certificate of `domain` (as `server_name` gives it): `chain` leaf first, `key` not encrypted, both PEM.

    A changed one is another object.
    """

    domain: str
    chain: str
    key: str = field(repr=False)


class StoredCertificates(Protocol):
    """Who knows them."""

    def find(self, name: str) -> StoredPem | None:
        """The certificate that answers for `name`, which `server_name` has prepared. Never waits, never raises."""


class StoredContexts:
    """Contexts of stored certificates, made when a client first needs one, and gone when nobody stores them any more.

    `max_contexts` as in CertificateStore. No look-up raises: what cannot be used is logged once and passed over.
    """

    def __init__(
        self,
        certificates: StoredCertificates,
        make_context: Callable[[Credentials], SSL.Context],
        max_contexts: int,
    ) -> None:
        self._certificates = certificates
        self._make_context = make_context
        self._max_contexts = max_contexts
        self._contexts: OrderedDict[str, tuple[ref[StoredPem], SSL.Context | None]] = OrderedDict()

    def forget(self) -> None:
        """Makes all of them again when they are next needed."""
        self._contexts.clear()

    def context_for(self, name: str) -> SSL.Context | None:
        """The context of what is stored for `name`, which `server_name` has prepared."""
        pem = self._certificates.find(name)
        if pem is None:
            return None
        made = self._contexts.get(pem.domain)
        if made is None or made[0]() is not pem:
            made = self._contexts[pem.domain] = self._reference(pem), self._make(pem)
            if len(self._contexts) > self._max_contexts:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(pem.domain)
        return made[1]

    def _reference(self, pem: StoredPem) -> ref[StoredPem]:
        """One that takes the context along: no key stays here that is stored nowhere."""
        domain = pem.domain
        return ref(pem, lambda _: self._contexts.pop(domain, None))

    def _make(self, pem: StoredPem) -> SSL.Context | None:
        try:
            return self._make_context(_credentials(pem))
        except (SSL.Error, crypto.Error) as error:
            reason = ssl_reason(error)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            reason = str(error)
        log.warn("stored_certificate_unusable", domain=pem.domain, reason=reason)
        return None


def _credentials(pem: StoredPem) -> Credentials:
    """It was checked before it was stored, so no more is looked at than has to be."""
    chain = tuple(x509.load_pem_x509_certificates(pem.chain.encode()))
    key = load_pem_private_key(pem.key.encode(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, PrivateKey):
        raise ValueError("the key is of a kind that TLS cannot use")
    return Credentials(chain, key, chain[0].not_valid_after_utc)
