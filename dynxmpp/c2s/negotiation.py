"""Negotiation of a client's stream (RFC 6120 4.3): header, TLS, SASL, binding; each step waits for the one before.

    header -> (starttls -> header) -> SASL -> header -> bind -> session
    header -> (starttls -> header) -> SASL 2 (-> bind) -> session

Every step has `state_timeout` to be taken. What comes at the wrong time ends the stream with the error that the RFC
names for it.
"""

import re
from enum import Enum
from typing import Any

from twisted.logger import Logger
from twisted.words.protocols.jabber.xmlstream import ListenAuthenticator
from twisted.words.xish import domish

from dynxmpp.c2s import bind
from dynxmpp.c2s.authentication import Authentication, Profile, Rfc6120Profile
from dynxmpp.c2s.context import C2SContext
from dynxmpp.c2s.registration import StreamRegistration
from dynxmpp.c2s.resumption import resume
from dynxmpp.c2s.sasl import SaslFailure
from dynxmpp.c2s.sasl2 import NS_SASL2, Sasl2Profile, failure
from dynxmpp.c2s.stream import LANG, C2SStream
from dynxmpp.c2s.stream_management import failed
from dynxmpp.core.domain_table import Served
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Registration
from dynxmpp.jid import JID, InvalidJID, prepare_domain
from dynxmpp.modules.sasl2 import Sasl2
from dynxmpp.modules.stream_management import NS_SM
from dynxmpp.tls import channel_bindings
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_CLIENT, NS_SASL, NS_SESSION, NS_STREAMS, NS_TLS
from dynxmpp.wire.stanza import Stanza

_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})").fullmatch
#: A tag of RFC 5646, roughly: it will be copied into each stanza, so it must not be long.
_LANGUAGE = re.compile(r"[A-Za-z0-9]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}").fullmatch
_STANZAS = frozenset({"message", "presence", "iq"})
_SESSION_FEATURE = f"<session xmlns='{NS_SESSION}'><optional/></session>".encode()

log = Logger()


class State(Enum):
    """What has been agreed on so far."""

    CONNECTED = "connected"  # nothing, perhaps TLS
    AUTHENTICATED = "authenticated"  # who the client is
    BOUND = "bound"  # a session reads the stream now


class C2SNegotiation(ListenAuthenticator):
    """The authenticator of a C2SStream; one a connection, over all restarts of its stream."""

    namespace = NS_CLIENT
    xmlstream: C2SStream

    def __init__(self, context: C2SContext) -> None:
        super().__init__()
        self.context = context
        self.state = State.CONNECTED
        self.encrypted = context.tls_mode == "tls"
        self.domain: str | None = None
        self.account: JID | None = None
        self._host_type: HostType | None = None
        self._sender: str | None = None  # who the client says it is in its header, a bare JID
        self._sasl: Rfc6120Profile | None = None
        self._sasl2: Sasl2Profile | None = None
        self._authentication: Authentication | None = None
        self._registration: StreamRegistration | None = None
        self._peer = ""
        self._failed_resumptions = 0
        self._timeout: Any = None
        self._address: str | None = None
        self._is_client = False  # has sent a header that only an XMPP client sends

    # -- the connection

    def connectionMade(self) -> None:
        peer = self.xmlstream.transport.getPeer()
        self._peer = self._address = address = str(getattr(peer, "host", "local"))
        context = self.context
        context.connections += 1
        self.xmlstream.bound_send_queue(context.config.max_send_queue)
        half_open = context.half_open[address] = context.half_open.get(address, 0) + 1
        self._restart_timeout()
        if half_open > context.config.max_unauthenticated or context.connections > context.config.max_connections:
            log.warn("connection_refused", address=address, half_open=half_open, connections=context.connections)
            self.xmlstream.fail(StreamError("resource-constraint", "Too many connections"))

    def connectionLost(self) -> None:
        self._stop_timeout()
        self._no_longer_half_open()
        self.context.connections -= 1

    def _no_longer_half_open(self) -> None:
        address, self._address = self._address, None
        if address is None:
            return
        half_open = self.context.half_open
        half_open[address] -= 1
        if not half_open[address]:
            del half_open[address]

    def _restart_timeout(self) -> None:
        self._stop_timeout()
        timeout_ms = self.context.config.state_timeout
        if timeout_ms not in (0, float("inf")):
            self._timeout = self.context.clock.callLater(timeout_ms / 1000, self._timed_out)

    def _stop_timeout(self) -> None:
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        self._timeout = None

    def _timed_out(self) -> None:
        self.xmlstream.fail(StreamError("connection-timeout", "Negotiation took too long"))

    # -- the header (RFC 6120 4.7)

    def streamStarted(self, rootElement: domish.Element) -> None:
        try:
            self._check_namespaces(rootElement)
            self._is_client = True
            domain, served = self._served(rootElement)
        except StreamError as error:
            self.xmlstream.fail(error)
            return
        sender = self._sender = _bare(rootElement.attributes.get("from"))
        self.xmlstream.send_header(domain, sender, self.context.token())
        try:
            self._check_header(rootElement, domain, served.host_type)
        except StreamError as error:
            self.xmlstream.fail(error)
            return
        self.domain, self._host_type = domain, served.host_type
        self.xmlstream.peer_language = _language(rootElement)
        self._restart_timeout()
        self._send_features()

    def _check_namespaces(self, root: domish.Element) -> None:
        if root.uri != NS_STREAMS:
            raise StreamError("invalid-namespace", "The stream namespace is not the one of RFC 6120")
        if root.name != "stream":
            raise StreamError("bad-format", "The root element is not a stream")
        if root.defaultUri != NS_CLIENT:
            raise StreamError("invalid-namespace", "The content namespace is not jabber:client")

    def _served(self, root: domish.Element) -> tuple[str, Served[HostType]]:
        """The domain that the client asks for. Subdomains and host types are none (RFC 6120 4.9.3.6)."""
        to = root.attributes.get("to")
        if to is None:
            raise StreamError("improper-addressing", "The stream header has no 'to'")
        try:
            domain = prepare_domain(to)
        except InvalidJID as problem:
            raise StreamError("improper-addressing", "The 'to' of the stream header is no domain") from problem
        served = self.context.domains.get(domain)
        if served is None:
            raise StreamError("host-gone" if domain == self.domain else "host-unknown")
        return domain, served

    def _check_header(self, root: domish.Element, domain: str, host_type: HostType) -> None:
        if _version(root.attributes.get("version")) < (1, 0):
            raise StreamError("unsupported-version")
        if self.domain is not None and (domain != self.domain or host_type is not self._host_type):
            # What was agreed on before the restart, a certificate or an account, was this domain's.
            raise StreamError("not-authorized", "The stream began with another domain")
        sender = root.attributes.get("from")
        if self.account is not None and sender is not None and self._sender != self.account.bare:
            raise StreamError("invalid-from")
        if self._sender is not None and self._sender.partition("@")[2] not in ("", domain) and _has_sasl2(host_type):
            raise StreamError("invalid-from")  # XEP-0388 2.1

    def send_default_header(self) -> bool:
        """Our header where the client's was no use: from the default domain, which need not be served.

        False when nothing may be sent: with `hide_service_name`, who does not speak XMPP does not learn what we are.
        """
        if self.context.hide_service_name and not self._is_client:
            return False
        self.xmlstream.send_header(self.domain or self.context.default_domain, None, self.context.token())
        return True

    # -- features (RFC 6120 4.3.2)

    def _send_features(self) -> None:
        self.xmlstream.write(self._stream_features())

    def _stream_features(self) -> bytes:
        return b"<stream:features>%b</stream:features>" % b"".join(self._features())

    def _features(self) -> list[bytes]:
        assert self._host_type is not None and self.domain is not None
        if self.state is State.BOUND:
            return _features_of_modules(self._host_type)
        if self.state is State.AUTHENTICATED:
            offered = [bind.FEATURE, *_features_of_modules(self._host_type)]
            if self.context.config.backwards_compatible_session:
                offered.append(_SESSION_FEATURE)
            return offered
        offered = []
        if self._may_start_tls():
            required = self.context.tls_mode == "starttls_required"
            offered.append(f"<starttls xmlns='{NS_TLS}'>{'<required/>' if required else ''}</starttls>".encode())
            if required:
                return offered
        authentication = self._authentication = Authentication(
            self.xmlstream,
            self.context,
            self.domain,
            self._host_type,
            channel_bindings(self.xmlstream.transport) if self.encrypted else {},
        )
        self._sasl = Rfc6120Profile(self.xmlstream, authentication, self._authenticated)
        offered.append(self._sasl.features())
        if self._may_sasl2():
            self._sasl2 = Sasl2Profile(
                self.xmlstream,
                self.context,
                self._host_type,
                authentication,
                self,
                sender=self._sender,
                encrypted=self.encrypted,
            )
            offered.append(self._sasl2.features())
        registration = self._host_type.find(Registration)
        # As with PLAIN: a stream that could be encrypted must be, before a password goes over it.
        if registration is not None and not self._may_start_tls():
            self._registration = StreamRegistration(self.xmlstream, registration, self.domain, self._peer)
            offered.append(registration.stream_feature)
        return offered

    def _may_start_tls(self) -> bool:
        tls = self.context.tls
        return tls is not None and not self.encrypted and self.state is State.CONNECTED

    def _may_sasl2(self) -> bool:
        """XEP-0388 3: after TLS, unless the administrator wants none; as with PLAIN."""
        assert self._host_type is not None
        return _has_sasl2(self._host_type) and (self.encrypted or self.context.tls_mode is None)

    # -- elements before a session

    def elementReceived(self, element: Stanza) -> None:
        """What comes while no resource is bound."""
        if element.uri == NS_TLS and element.name == "starttls":
            self._start_tls()
        elif element.uri == NS_SASL:
            self._authenticate(self._sasl, element)
        elif element.uri == NS_SASL2:
            self._authenticate(self._sasl2, element)
        elif element.uri == NS_SM:
            self._manage(element)
        elif element.uri == NS_CLIENT and element.name in _STANZAS:
            self._stanza(element)
        else:
            self.xmlstream.fail(StreamError("unsupported-stanza-type"))

    def _start_tls(self) -> None:
        """RFC 6120 5.4.2."""
        stream, tls = self.xmlstream, self.context.tls
        if not self._may_start_tls() or tls is None:
            stream.write(f"<failure xmlns='{NS_TLS}'/>".encode())
            stream.close()
            return
        if stream.stream.has_unread:
            # Sent before TLS and to be read after it: an injection (RFC 6120 5.3.3), never a slow client.
            stream.fail(StreamError("policy-violation", "Data after <starttls/>"))
            return
        stream.write(f"<proceed xmlns='{NS_TLS}'/>".encode())
        self.encrypted = True
        stream.start_tls(tls.for_name(self.domain), self.context.config.max_send_queue)
        self._restart_timeout()

    def _authenticate(self, profile: Profile | None, nonza: Stanza) -> None:
        """An element of SASL; `profile` is None when this one is not offered."""
        if self.state is not State.CONNECTED:
            self.xmlstream.fail(StreamError("policy-violation", "Authenticated already"))
        elif profile is not None and self._authentication is not None:
            self._restart_timeout()
            self._authentication.receive(profile, nonza)
        elif nonza.uri == NS_SASL:  # TLS is required first
            self.xmlstream.write(f"<failure xmlns='{NS_SASL}'><encryption-required/></failure>".encode())
        elif self._host_type is not None and _has_sasl2(self._host_type):
            self.xmlstream.write(failure(SaslFailure("encryption-required")))
        else:
            self.xmlstream.fail(StreamError("unsupported-stanza-type"))

    def _authenticated(self, username: str) -> None:
        """SASL has succeeded: a header comes next (RFC 6120 6.4.6)."""
        assert self.domain is not None
        self._set_account(JID.of(username, self.domain))
        self.xmlstream.restart()

    def authenticated(self, account: JID) -> bytes:
        """SASL 2 has succeeded: the stream goes on, with these features."""
        self._set_account(account)
        return self._stream_features()

    def _set_account(self, account: JID) -> None:
        self.account = account
        self.state = State.AUTHENTICATED
        self._authentication = self._sasl = self._sasl2 = self._registration = None
        self._restart_timeout()

    def bound(self) -> bytes:
        """A session came with SASL 2; the features of its stream."""
        self._bound()
        return self._stream_features()

    def _manage(self, element: Stanza) -> None:
        """XEP-0198 before a resource is bound: a session may be resumed; everything else is too early (section 3)."""
        if element.name != "resume":
            self.xmlstream.write(failed("unexpected-request"))
        elif self.state is not State.AUTHENTICATED:
            self.xmlstream.fail(StreamError("not-authorized"))
        else:
            self._restart_timeout()
            self.xmlstream.pause()
            self.xmlstream.stream.suspend()
            self.context.spawn("resumption_failed", self._resume(element))

    async def _resume(self, element: Stanza) -> None:
        """What comes meanwhile waits for the session."""
        stream = self.xmlstream
        assert self.account is not None and self._host_type is not None
        try:
            outcome = await resume(stream, self.context, self.account, self._host_type, element)
            stream.write(outcome.answer)
            if outcome.take_over is not None:
                outcome.take_over()
                self._bound()
            else:
                self._count_failed_resumption()
        except StreamError as error:
            stream.fail(error)
        except Exception:
            stream.fail(StreamError("internal-server-error"))
            raise
        stream.unpause()
        stream.resume()

    def _count_failed_resumption(self) -> None:
        self._failed_resumptions += 1
        if self._failed_resumptions >= self.context.config.auth_attempts:
            self.xmlstream.fail(StreamError("policy-violation", "Too many failed attempts"))

    def _bound(self) -> None:
        """A session reads the stream from now on."""
        self.state = State.BOUND
        self._stop_timeout()
        self._no_longer_half_open()

    def _stanza(self, stanza: Stanza) -> None:
        if self._registration is not None and StreamRegistration.is_request(stanza):
            self._restart_timeout()
            self.context.spawn("registration_failed", self._register(self._registration, stanza))
            return
        if self.state is not State.AUTHENTICATED or not bind.is_bind(stanza):
            self.xmlstream.fail(StreamError("not-authorized"))
            return
        assert self.account is not None and self._host_type is not None
        served = self.context.domains.get(self.account.domain)
        if served is None or served.host_type is not self._host_type:
            # Removed meanwhile, perhaps inserted anew with another host type, where the account may be somebody else's.
            self.xmlstream.fail(StreamError("host-gone"))
        elif bind.bind(self.xmlstream, self.context, self.account, served.host_type, stanza):
            self._bound()

    async def _register(self, registration: StreamRegistration, request: Stanza) -> None:
        """What comes meanwhile waits: the client may log in with the account in its next breath."""
        stream = self.xmlstream
        stream.pause()
        stream.stream.suspend()
        await registration.receive(request)
        stream.unpause()
        stream.resume()


def _version(text: str | None) -> tuple[int, int]:
    """RFC 6120 4.7.5; (0, 0) for none and for what is no version."""
    match = _VERSION(text or "")
    return (0, 0) if match is None else (int(match[1]), int(match[2]))


def _bare(sender: str | None) -> str | None:
    """Who a client says it is, as a bare JID (RFC 6120 4.7.2); None for what is no address."""
    try:
        return None if sender is None else JID.parse(sender).bare
    except InvalidJID:
        return None


def _language(root: domish.Element) -> str | None:
    """The language of what the client sends (RFC 6120 4.7.4), if it names one."""
    language = root.attributes.get(LANG)
    return language if language is not None and _LANGUAGE(language) else None


def _has_sasl2(host_type: HostType) -> bool:
    return host_type.find(Sasl2) is not None


def _features_of_modules(host_type: HostType) -> list[bytes]:
    """What modules announce to a client that may bind now."""
    return [feature for module in host_type for feature in getattr(module, "stream_features", ())]
