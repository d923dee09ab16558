"""What binds a SASL exchange to the TLS connection below it (RFC 5056), for SCRAM-...-PLUS and XEP-0440.

tls-exporter (RFC 9266) and tls-server-end-point (RFC 5929 4). Left out: tls-unique, which TLS 1.3 does not have and
which the triple handshake attack broke in TLS 1.2.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from OpenSSL import SSL

from dynxmpp.tls.contexts import ServerConnection

TLS_EXPORTER = "tls-exporter"
TLS_SERVER_END_POINT = "tls-server-end-point"

# RFC 9266 2: the label; no context, which in TLS 1.3 is the same as an empty one (RFC 8446 7.5); 32 bytes.
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_LENGTH = 32

# RFC 5929 4.1: certificates signed with these are hashed with SHA-256.
_REPLACED = (hashes.MD5, hashes.SHA1)


def channel_bindings(transport: object) -> dict[str, bytes]:
    """Type -> data of each channel binding this connection can offer, best first; empty without TLS.

    `transport` is what Twisted hands to a protocol, after STARTTLS as well as on a TLS port; everything is read from
    the live connection, so the certificate is the one that was shown, whatever has been reloaded since. Empty before
    the handshake is over. tls-server-end-point is missing where sessions may be resumed (the client remembers the
    certificate of its first handshake, and we may have another by now) and where it is undefined.
    """
    bindings: dict[str, bytes] = {}
    connection = _finished_connection(transport)
    if connection is None:
        return bindings
    exported = _export(connection)
    if exported is not None:
        bindings[TLS_EXPORTER] = exported
    resumable = isinstance(connection, ServerConnection) and connection.resumable
    certificate = None if resumable else connection.get_certificate(as_cryptography=True)
    if certificate is not None:
        digest = tls_server_end_point(certificate)
        if digest is not None:
            bindings[TLS_SERVER_END_POINT] = digest
    return bindings


def tls_exporter(transport: object) -> bytes | None:
    """RFC 9266. None without TLS, before the end of the handshake, and below TLS 1.3.

    TLS 1.2 has it only with the extended master secret (RFC 7627), and pyOpenSSL does not tell whether that is on.
    """
    connection = _finished_connection(transport)
    return None if connection is None else _export(connection)


def tls_server_end_point(certificate: x509.Certificate) -> bytes | None:
    """RFC 5929 4.1: the certificate, hashed by its signature's hash function. None: the signature has none (EdDSA)."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    digest = hashes.Hash(hashes.SHA256() if isinstance(algorithm, _REPLACED) else algorithm)
    digest.update(certificate.public_bytes(serialization.Encoding.DER))
    return digest.finalize()


def _finished_connection(transport: object) -> SSL.Connection | None:
    """The OpenSSL connection below `transport` once both Finished messages are through. A plain one has a socket."""
    handle = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(handle, SSL.Connection) or handle.get_peer_finished() is None:
        return None
    return handle


def _export(connection: SSL.Connection) -> bytes | None:
    if connection.get_protocol_version() != SSL.TLS1_3_VERSION:
        return None
    return connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_LENGTH)
