"""TLS: certificates by name, contexts, channel binding. What the listeners need of it is named here."""

from dynxmpp.tls.certificates import CertificateError, CertificateFiles, CertificateStore
from dynxmpp.tls.channel_binding import channel_bindings, tls_exporter, tls_server_end_point
from dynxmpp.tls.contexts import (
    ALPN_HTTP,
    ALPN_XMPP_CLIENT,
    ServerTLS,
    TLSConfigError,
    TLSOptions,
    VerifyMode,
    verified_peer_certificate,
)
from dynxmpp.tls.self_signed import ensure_self_signed
from dynxmpp.tls.stored import StoredCertificates, StoredPem

__all__ = [
    "ALPN_HTTP",
    "ALPN_XMPP_CLIENT",
    "CertificateError",
    "CertificateFiles",
    "CertificateStore",
    "ServerTLS",
    "StoredCertificates",
    "StoredPem",
    "TLSConfigError",
    "TLSOptions",
    "VerifyMode",
    "channel_bindings",
    "ensure_self_signed",
    "tls_exporter",
    "tls_server_end_point",
    "verified_peer_certificate",
]
