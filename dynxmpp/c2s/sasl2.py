"""XEP-0388 Extensible SASL Profile, version 1.0.4, on a stream.

<authenticate/> says at once what else the client wants, and <success/> what it has got: a session resumed (XEP-0198),
or one bound (XEP-0386), and a token (XEP-0484). The stream is not restarted; what the client has sent behind is read by
its session.

Left out: <continue/> and tasks, which nothing here asks for.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from twisted.words.xish import domish

from dynxmpp.c2s import bind2, fast, sasl
from dynxmpp.c2s.authentication import Authentication, Profile
from dynxmpp.c2s.bind2 import NS_BIND2, BindRequest
from dynxmpp.c2s.context import C2SContext
from dynxmpp.c2s.fast import NS_FAST, Fast, FastRequest
from dynxmpp.c2s.resumption import Outcome, resume
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.core.host_type import HostType
from dynxmpp.jid import JID
from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.fast_auth_token import FastAuthToken
from dynxmpp.modules.stream_management import NS_SM, StreamManagement
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError, Unavailable
from dynxmpp.wire.ns import NS_SASL
from dynxmpp.wire.stanza import Stanza, qualified

NS_SASL2: Final = "urn:xmpp:sasl:2"

#: Longest <authenticate/>: a longest message of a mechanism in base64, and what else a client may want.
MAX_AUTHENTICATE_BYTES: Final = 32_768
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE).fullmatch

_RESPONSE: Final = qualified(NS_SASL2, "initial-response")
_USER_AGENT: Final = qualified(NS_SASL2, "user-agent")
_BIND: Final = qualified(NS_BIND2, "bind")
_RESUME: Final = qualified(NS_SM, "resume")
_FAST: Final = qualified(NS_FAST, "fast")
_REQUEST_TOKEN: Final = qualified(NS_FAST, "request-token")
_UNDERSTOOD: Final = (_RESPONSE, _USER_AGENT, _BIND, _RESUME, _FAST, _REQUEST_TOKEN)


class Negotiation(Protocol):
    """Whoever runs the stream, as far as it has to hear of success. Both give the stream features that follow it."""

    def authenticated(self, account: JID) -> bytes:
        """The client is `account`, and may bind."""

    def bound(self) -> bytes:
        """A session reads the stream now."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an <authenticate/> asks for. `agent`: the client's id, in lower case."""

    agent: str | None
    resume: domish.Element | None
    bind: BindRequest | None
    fast: FastRequest


class Sasl2Profile(Profile):
    """The profile on one stream of one domain."""

    opening = "authenticate"
    is_strict = True

    def __init__(
        self,
        stream: C2SStream,
        context: C2SContext,
        host_type: HostType,
        authentication: Authentication,
        negotiation: Negotiation,
        *,
        sender: str | None,
        encrypted: bool,
    ) -> None:
        """`sender`: who the client says it is in its stream header: a bare JID, or a domain, which says nothing."""
        self._stream = stream
        self._context = context
        self._host_type = host_type
        self._authentication = authentication
        self._negotiation = negotiation
        self._sender = sender
        self._has_bind2 = host_type.find(Bind2) is not None
        self._fast: Fast | None = None
        tokens = host_type.find(FastAuthToken)
        if tokens is not None and encrypted:
            self._fast = Fast(tokens, authentication.accounts, authentication.domain, authentication.channel_bindings)
        self._request = _NOTHING
        self._mechanism: sasl.Mechanism | None = None

    def features(self) -> bytes:
        """The stream feature (section 2.1)."""
        offered = self._authentication.offered
        if not offered:
            return b""
        names = "".join(f"<mechanism>{name}</mechanism>" for name in offered)
        inline = f"<sm xmlns='{NS_SM}'/>" if self._host_type.find(StreamManagement) is not None else ""
        if self._has_bind2:
            inline += bind2.feature(self._host_type)
        if self._fast is not None:
            inline += self._fast.feature()
        if inline:
            inline = f"<inline>{inline}</inline>"
        return f"<authentication xmlns='{NS_SASL2}'>{names}{inline}</authentication>".encode()

    # -- the exchange

    def open(self, element: Stanza) -> tuple[sasl.Mechanism, bytes | None]:
        if len(element.inner()) > MAX_AUTHENTICATE_BYTES:
            raise sasl.SaslFailure("malformed-request", f"longer than {MAX_AUTHENTICATE_BYTES} bytes")
        children = _children(element)
        self._request = request = self._read(children)
        name = element.attributes.get("mechanism", "")
        if self._fast is not None and name in self._fast.offered:
            mechanism: sasl.Mechanism = self._fast.mechanism(name, request.fast)
        else:
            mechanism = self._authentication.mechanism(name)
            if request.fast.is_used:
                raise sasl.SaslFailure("malformed-request", "<fast/> needs a mechanism that takes tokens")
        self._mechanism = mechanism
        response = children.get(_RESPONSE)
        return mechanism, None if response is None else sasl.from_base64(_text(response))

    def _read(self, children: dict[str, domish.Element]) -> Request:
        """Raises SaslFailure."""
        agent = _agent(children.get(_USER_AGENT))
        bind = children.get(_BIND) if self._has_bind2 else None
        if self._fast is None:
            tokens = FastRequest(agent)
        else:
            tokens = fast.read(agent, children.get(_FAST), children.get(_REQUEST_TOKEN))
        return Request(agent, children.get(_RESUME), None if bind is None else bind2.read(bind), tokens)

    def decode(self, text: str) -> bytes:
        return sasl.from_base64(text)

    def challenge(self, data: bytes) -> bytes:
        return f"<challenge xmlns='{NS_SASL2}'>{sasl.to_base64(data)}</challenge>".encode()

    def failure(self, problem: sasl.SaslFailure) -> bytes:
        return failure(problem)

    # -- success

    async def succeed(self, success: sasl.Success) -> None:
        """Section 2.6.1. What needs the database comes first: once the session is there, its client must hear of it."""
        request = self._request
        account = JID.of(success.username, self._authentication.domain)
        if self._sender not in (None, account.domain, account.bare):
            raise sasl.SaslFailure("invalid-authzid", "The stream header names somebody else")
        self._check_served(account)
        jid = account
        if request.bind is not None:
            jid = bind2.address(self._context, self._host_type, account, request.bind, request.agent)
        token = await self._token(account, request)
        outcome = Outcome(b"")
        if request.resume is not None and not self._stream.ended:
            outcome = await resume(self._stream, self._context, account, self._host_type, request.resume)
        if self._stream.ended:
            return
        self._check_served(account)
        if request.bind is not None and outcome.take_over is None:
            bind2.admit(self._context, self._host_type, jid)
        features = self._negotiation.authenticated(account)
        if outcome.take_over is not None:
            # The stream goes on where it was: no features (XEP-0198 9.2).
            self._write(success, account, outcome.answer + token)
            outcome.take_over()
            self._negotiation.bound()
        elif request.bind is None:
            self._write(success, account, outcome.answer + token, features)
        else:
            await self._bind(success, jid, request.bind, outcome.answer, token)

    async def _bind(self, success: sasl.Success, jid: JID, request: BindRequest, before: bytes, after: bytes) -> None:
        bound = await bind2.bind(self._stream, self._context, self._host_type, jid, request, self._request.agent)
        try:
            if not self._stream.ended:
                features = self._negotiation.bound()
                self._write(success, jid, before + bound.element + after, features)
        finally:
            bound.release()

    async def _token(self, account: JID, request: Request) -> bytes:
        """Raises SaslFailure."""
        if self._fast is None or self._mechanism is None:
            return b""
        try:
            return await self._fast.token(account, request.fast, self._mechanism)
        except Unavailable as problem:
            raise sasl.SaslFailure("temporary-auth-failure", "Please try again later") from problem

    def _check_served(self, account: JID) -> None:
        """A domain that was removed meanwhile may be there again, with accounts of other people. Raises StreamError."""
        served = self._context.domains.get(account.domain)
        if served is None or served.host_type is not self._host_type:
            raise StreamError("host-gone")

    def _write(self, success: sasl.Success, jid: JID, inlines: bytes, features: bytes = b"") -> None:
        data = "" if success.data is None else sasl.to_base64(success.data)
        additional = "" if success.data is None else f"<additional-data>{data}</additional-data>"
        identifier = f"<authorization-identifier>{escape.text(jid.full)}</authorization-identifier>"
        self._stream.write(
            f"<success xmlns='{NS_SASL2}'>{additional}{identifier}".encode() + inlines + b"</success>" + features
        )


def failure(problem: sasl.SaslFailure) -> bytes:
    """<failure/> (section 2.6.2)."""
    text = f"<text>{escape.text(problem.text)}</text>" if problem.text else ""
    return f"<failure xmlns='{NS_SASL2}'><{problem.condition} xmlns='{NS_SASL}'/>{text}</failure>".encode()


def _children(element: Stanza) -> dict[str, domish.Element]:
    """The child elements that are understood; each may be there once. Raises SaslFailure."""
    found: dict[str, domish.Element] = {}
    for child in element.child_elements():
        key = qualified(child.uri or "", child.name)
        if key in found:
            raise sasl.SaslFailure("malformed-request", f"<{child.name}/> twice")
        if key in _UNDERSTOOD:
            found[key] = child
    return found


def _agent(element: domish.Element | None) -> str | None:
    """The client's id. Raises SaslFailure for one that is no UUID v4."""
    agent = None if element is None else element.getAttribute("id")
    if agent is None:
        return None
    if not _UUID4(agent):
        raise sasl.SaslFailure("malformed-request", "The id of a user-agent must be a UUID v4")
    return str(agent.lower())


def _text(element: domish.Element) -> str:
    return "".join(child for child in element.children if isinstance(child, str))


_NOTHING: Final = Request(None, None, None, FastRequest(None))
