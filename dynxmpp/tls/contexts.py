"""TLS for listeners: options -> contexts -> connections, for STARTTLS (RFC 6120 5), direct TLS (XEP-0368) and HTTPS.

`ServerTLS` is what Twisted asks for a connection: give it to `transport.startTLS(tls.for_name(domain))` on the
server's side of a TCP connection, to `reactor.listenSSL` or to `TLSMemoryBIOFactory(tls, False, factory)`.

The protocol follows RFC 7590 (and RFC 9325, successor of the RFC 7525 it points to): TLS 1.2 and 1.3 only, no
compression, no renegotiation, forward-secret AEAD ciphers unless configured otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from dynxmpp.tls.certificates import CertificateFiles, CertificateStore, Credentials, ssl_reason
from dynxmpp.tls.stored import StoredCertificates, StoredContexts

ALPN_XMPP_CLIENT = b"xmpp-client"
ALPN_HTTP = b"http/1.1"

VERSIONS = {"tlsv1.2": SSL.TLS1_2_VERSION, "tlsv1.3": SSL.TLS1_3_VERSION}

# DHE is there for listeners with a `dhfile`; without one OpenSSL never chooses it.
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
# A configured list like "TLSv1.2" contains ciphers without authentication or without encryption: take them away.
_NEVER = "!aNULL:!eNULL"

# X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT of OpenSSL, which pyOpenSSL does not name.
_SELF_SIGNED_LEAF = 18

log = Logger()

_VerifyCallback = Callable[[SSL.Connection, X509, int, int, int], bool]


class VerifyMode(Enum):
    """What is asked of a client's certificate. Without `cacertfile` no client is asked for one at all."""

    NONE = "none"
    PEER = "peer"
    SELFSIGNED_PEER = "selfsigned_peer"


class TLSConfigError(ValueError):
    """An option cannot be used: `option` is its key, `reason` a text for the administrator."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"{option}: {reason}")
        self.option = option
        self.reason = reason


class NoApplicationProtocol(SSL.Error):
    """The client offers application protocols and none of ours (RFC 7301 3.2); Twisted ends the connection with it."""

    def __init__(self) -> None:
        super().__init__([("SSL routines", "", "no application protocol")])


@dataclass(frozen=True)
class TLSOptions:
    """The tls section of a listener, apart from its certificates. Defaults are ours, secure and interoperable.

    `versions`: of "tlsv1.2" and "tlsv1.3". `ciphers`: OpenSSL's notation for TLS 1.2, in the server's order of
    preference; names of TLS 1.3 suites (TLS_...) may be mixed in, and if there are only such, TLS 1.2 is off.
    `password`: of encrypted keys. `dhfile`: parameters for finite-field Diffie-Hellman under TLS 1.2.
    `cacertfile`: who may have signed client certificates. It asks every client for one; a client without any is
    served, one with a bad one is refused unless `disconnect_on_failure` is false. Kept small: each name's context
    loads it. `crl_files`: revocation lists of those CAs. `alpn`: protocols of this listener, preferred first; empty
    (STARTTLS): the extension is ignored. A client that offers others only is refused.
    `session_tickets`: stateless resumption. Off, because XMPP connections live long and a resumed session cannot
    tell which certificate its first handshake showed, so `tls-server-end-point` is not offered with it; never used
    where client certificates are asked for.
    """

    versions: tuple[str, ...] = ("tlsv1.2", "tlsv1.3")
    ciphers: str | None = None
    password: str | None = field(default=None, repr=False)
    dhfile: Path | None = None
    verify_mode: VerifyMode = VerifyMode.PEER
    cacertfile: Path | None = None
    crl_files: tuple[Path, ...] = ()
    disconnect_on_failure: bool = True
    session_tickets: bool = False
    alpn: tuple[bytes, ...] = ()

    @property
    def asks_for_certificate(self) -> bool:
        return self.cacertfile is not None and self.verify_mode is not VerifyMode.NONE

    @property
    def resumes(self) -> bool:
        return self.session_tickets and not self.asks_for_certificate


class ServerConnection(SSL.Connection):
    """A connection that knows what its handshake was about.

    It holds on to the context it began with: OpenSSL keeps calling into that one after a switch to another name's,
    and the Python side of those calls lives exactly as long as the Python context.
    `resumable`: session tickets are on. `peer_verified`: the client's certificate was checked in this handshake and
    found good; `peer_problem`: OpenSSL's code of the first objection to it.
    """

    def __init__(self, context: SSL.Context, resumable: bool) -> None:
        super().__init__(context, None)
        self.initial_context = context
        self.resumable = resumable
        self.peer_verified = False
        self.peer_problem: int | None = None


class ContextBuilder:
    """Makes contexts that are alike in all but the certificate. Raises TLSConfigError for options that don't work."""

    def __init__(self, options: TLSOptions, on_server_name: Callable[[SSL.Connection], None]) -> None:
        self._options = options
        self._on_server_name = on_server_name
        self._ciphers, self._suites = _split_ciphers(options.ciphers)
        self._versions = self._allowed_versions()

    def build(self, credentials: Credentials | None = None) -> SSL.Context:
        """A context presenting `credentials`; without them one that can only wait for a server name.

        Raises SSL.Error when OpenSSL refuses the certificate (a key too short), TLSConfigError when an option fails.
        """
        options = self._options
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(min(self._versions))
        context.set_max_proto_version(max(self._versions))
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        # Most connections are idle most of the time: 33 instead of 57 KiB for each of those (measured, OpenSSL 4.0).
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        self._set_ciphers(context)
        self._set_sessions(context)
        if options.asks_for_certificate and options.cacertfile is not None:
            self._ask_for_certificate(context, options.cacertfile)
        if options.alpn:
            context.set_alpn_select_callback(_alpn_chooser(options.alpn))
        context.set_tlsext_servername_callback(self._on_server_name)
        if credentials is not None:
            context.use_certificate(credentials.chain[0])
            for certificate in credentials.chain[1:]:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(credentials.key)
            context.check_privatekey()
        return context

    def _allowed_versions(self) -> list[int]:
        unknown = [version for version in self._options.versions if version not in VERSIONS]
        if unknown:
            known = ", ".join(VERSIONS)
            raise TLSConfigError("versions", f"{', '.join(unknown)} not supported, only {known}")
        allowed = [VERSIONS[version] for version in self._options.versions]
        if self._options.ciphers is not None and not self._ciphers:
            allowed = [version for version in allowed if version != SSL.TLS1_2_VERSION]
        if not allowed:
            raise TLSConfigError("versions", "no version of TLS is left")
        return allowed

    def _set_ciphers(self, context: SSL.Context) -> None:
        try:
            context.set_cipher_list(f"{self._ciphers or DEFAULT_CIPHERS}:{_NEVER}".encode())
            if self._suites:
                context.set_tls13_ciphersuites(self._suites.encode())
        except SSL.Error as error:
            raise TLSConfigError("ciphers", ssl_reason(error)) from error
        if self._options.ciphers is not None:
            # Our own list holds nothing weak, so there the client chooses: phones know whether they are fast at AES.
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        if self._options.dhfile is not None:
            try:
                context.load_tmp_dh(self._options.dhfile)
            except SSL.Error as error:
                raise TLSConfigError("dhfile", ssl_reason(error)) from error

    def _set_sessions(self, context: SSL.Context) -> None:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not self._options.resumes:
            context.set_options(SSL.OP_NO_TICKET)

    def _ask_for_certificate(self, context: SSL.Context, ca_file: Path) -> None:
        try:
            context.load_verify_locations(ca_file)
            context.load_client_ca(str(ca_file).encode())
        except SSL.Error as error:
            raise TLSConfigError("cacertfile", ssl_reason(error)) from error
        if self._options.crl_files:
            self._load_revocations(context, self._options.crl_files)
        context.set_verify(SSL.VERIFY_PEER, _verifier(self._options))

    def _load_revocations(self, context: SSL.Context, crl_files: Sequence[Path]) -> None:
        store = context.get_cert_store()
        assert store is not None, "every context that OpenSSL makes has a store"
        for path in crl_files:
            try:
                store.add_crl(x509.load_pem_x509_crl(path.read_bytes()))
            except OSError as error:
                raise TLSConfigError("crl_files", f"cannot read {path}: {error.strerror}") from error
            except ValueError as error:
                raise TLSConfigError("crl_files", f"no revocation list in {path}") from error
        store.set_flags(X509StoreFlags.CRL_CHECK)


def _split_ciphers(ciphers: str | None) -> tuple[str, str]:
    """(TLS 1.2 list, TLS 1.3 suites): two settings in OpenSSL, one key in the file."""
    names = [name.strip() for name in (ciphers or "").split(":")]
    # "TLSv1.3" stands in old files for "all suites of 1.3", which is OpenSSL's default; as a 1.2 cipher it is noise.
    names = [name for name in names if name and name != "TLSv1.3"]
    suites = [name for name in names if name.startswith("TLS_")]
    return ":".join(name for name in names if not name.startswith("TLS_")), ":".join(suites)


def _alpn_chooser(ours: Sequence[bytes]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in offered:
                return protocol
        # The documented way to refuse (an empty answer) sends the alert internal_error; an exception sends
        # no_application_protocol, and Twisted treats this one like any other failed handshake.
        raise NoApplicationProtocol

    return choose


def _verifier(options: TLSOptions) -> _VerifyCallback:
    """OpenSSL asks once for each objection, then with ok=1 for each certificate down to the leaf (depth 0)."""
    accept_self_signed = options.verify_mode is VerifyMode.SELFSIGNED_PEER

    def verify(connection: SSL.Connection, _certificate: X509, problem: int, depth: int, ok: int) -> bool:
        assert isinstance(connection, ServerConnection)
        if not ok:
            if accept_self_signed and problem == _SELF_SIGNED_LEAF:
                return True
            if connection.peer_problem is None:
                connection.peer_problem = problem
            return not options.disconnect_on_failure
        if depth == 0:
            connection.peer_verified = connection.peer_problem is None
        return True

    return verify


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The TLS of one listener. `stored`, `directory`, `defaults`: the certificates, see dynxmpp.tls.certificates.

    Raises TLSConfigError when the options don't work; certificates that don't are logged when they are wanted.
    Used as it is, a connection shows the certificate of the name the client sends (SNI), else a default one.
    """

    def __init__(
        self,
        options: TLSOptions,
        *,
        clock: IReactorTime,
        directory: Path | None = None,
        defaults: Sequence[CertificateFiles] = (),
        max_contexts: int = 4096,
        stored: StoredCertificates | None = None,
    ) -> None:
        self._options = options
        self._builder = ContextBuilder(options, self._on_server_name)
        self._without_certificate = self._builder.build()
        self._stored = None if stored is None else StoredContexts(stored, self._builder.build, max_contexts)
        self._certificates = CertificateStore(
            self._builder.build,
            clock=clock,
            directory=directory,
            defaults=defaults,
            password=options.password,
            max_contexts=max_contexts,
            stored=None if self._stored is None else self._stored.context_for,
        )

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """For Twisted: the OpenSSL side of a new connection."""
        return self.connection(None)

    def for_name(self, name: str | None) -> "NamedServerTLS":
        """For STARTTLS: shows `name`'s certificate (the stream header's `to`) to clients that send no server name.

        A client that sends a name which has a certificate of its own gets that one; any other name changes nothing.
        """
        return NamedServerTLS(self, name)

    def connection(self, default_name: str | None) -> ServerConnection:
        """A connection that begins with the certificate of `default_name`."""
        context = self._certificates.context_for(default_name) or self._without_certificate
        return ServerConnection(context, self._options.resumes)

    def has_certificate(self, name: str | None) -> bool:
        """Whether a handshake for `name` can succeed; STARTTLS need not be offered otherwise."""
        return self._certificates.context_for(name) is not None

    def reload(self) -> None:
        """Read every file again when next needed (SIGHUP). If an option's file is bad now, all stays as it was."""
        try:
            self._without_certificate = self._builder.build()
        except TLSConfigError as error:
            log.error("tls_reload_refused", option=error.option, reason=error.reason)
            return
        if self._stored is not None:
            self._stored.forget()
        self._certificates.reload()

    def _on_server_name(self, connection: SSL.Connection) -> None:
        # An exception here would go past every log to stderr; the store promises none.
        context = self._certificates.own_context(connection.get_servername())
        if context is not None and context is not connection.get_context():
            connection.set_context(context)


@implementer(IOpenSSLServerConnectionCreator)
class NamedServerTLS:
    """A ServerTLS for one connection whose name is known already."""

    __slots__ = ("_name", "_tls")

    def __init__(self, tls: ServerTLS, name: str | None) -> None:
        self._tls = tls
        self._name = name

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """For Twisted: the OpenSSL side of a new connection."""
        return self._tls.connection(self._name)


def verified_peer_certificate(transport: object) -> x509.Certificate | None:
    """The client's certificate, if it sent one and it was found good in this very handshake (SASL EXTERNAL)."""
    handle = getattr(transport, "getHandle", lambda: None)()
    if isinstance(handle, ServerConnection) and handle.peer_verified:
        return handle.get_peer_certificate(as_cryptography=True)
    return None
