"""XEP-0386 Bind 2, version 1.1.0, on a stream: a resource is bound, and features are switched on, by one request.

From the moment when the session is in the table it may be sent stanzas, which must come after <success/>: they are held
until that is written.

Left out: offline messages are not cleared, since there may be no archive that has them; they come after presence.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish import domish

from dynxmpp.c2s.bind import check_access, check_limits, establish, introduce
from dynxmpp.c2s.context import C2SContext
from dynxmpp.c2s.sasl import SaslFailure
from dynxmpp.c2s.session import C2SSession
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.c2s.stream_management import enable
from dynxmpp.core.host_type import HostType
from dynxmpp.jid import JID, InvalidJID, prepare_resource
from dynxmpp.modules.stream_management import NS_SM
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError, Unavailable
from dynxmpp.wire.stanza import Stanza, qualified

NS_BIND2: Final = "urn:xmpp:bind:0"

_TAG: Final = qualified(NS_BIND2, "tag")
_ENABLE: Final = qualified(NS_SM, "enable")
#: Hexadecimal digits of the part of a resource that is ours.
_IDENTIFIER_DIGITS: Final = 24

log = Logger()


@dataclass(frozen=True, slots=True)
class UserAgent:
    """The client that a session belongs to (a slot of the session). Nobody else may learn the id (XEP-0388 2.3)."""

    id: str


@dataclass(frozen=True, slots=True)
class BindRequest:
    """A <bind/>: the tag, "" for none, and the features that are asked for, by qualified name."""

    tag: str
    inlines: dict[str, domish.Element]


@dataclass(frozen=True, slots=True)
class Bound:
    """What goes into <success/>, and `release`, to be called once that is written, or will never be."""

    element: bytes
    release: Callable[[], None]


def feature(host_type: HostType) -> str:
    """For <inline/> of XEP-0388."""
    names = sorted({name for module in host_type for name in getattr(module, "bind_features", ())})
    features = "".join(f"<feature var='{escape.attribute(name)}'/>" for name in names)
    return f"<bind xmlns='{NS_BIND2}'><inline>{features}</inline></bind>" if features else f"<bind xmlns='{NS_BIND2}'/>"


def read(element: domish.Element) -> BindRequest:
    """Raises SaslFailure."""
    inlines: dict[str, domish.Element] = {}
    tag = ""
    for child in element.elements():
        key = qualified(child.uri or "", child.name)
        if key == _TAG:
            tag = str(child)
        elif key in inlines:
            raise SaslFailure("malformed-request", f"<{child.name}/> twice in <bind/>")
        else:
            inlines[key] = child
    return BindRequest(tag, inlines)


def address(context: C2SContext, host_type: HostType, account: JID, request: BindRequest, agent: str | None) -> JID:
    """The full JID to bind: the client's tag, and a part that is the same each time for a client with an id.

    That part tells nobody the id, and cannot be guessed without it. Raises SaslFailure.
    """
    identifier = context.token() if agent is None else _stable(agent, account, request.tag)
    try:
        resource = prepare_resource(f"{request.tag}/{identifier}" if request.tag else identifier)
    except InvalidJID as problem:
        raise SaslFailure("malformed-request", f"tag: {problem}") from problem
    jid = account.with_resource(resource)
    try:
        check_access(context, host_type, jid)
    except StanzaError as problem:
        raise SaslFailure("not-authorized", "Not allowed here") from problem
    return jid


def admit(context: C2SContext, host_type: HostType, jid: JID) -> None:
    """The limits of the domain, right before a session is made. Raises SaslFailure.

    Neither XEP-0386 nor XEP-0388 has an error for it: the client is told to come later.
    """
    try:
        check_limits(context, host_type, jid)
    except StanzaError as problem:
        raise SaslFailure("temporary-auth-failure", problem.text or "") from problem


def _stable(agent: str, account: JID, tag: str) -> str:
    digest = hmac.digest(agent.encode(), f"{account.bare}\0{tag}".encode(), hashlib.sha256)
    return digest.hex()[:_IDENTIFIER_DIGITS]


async def bind(
    stream: C2SStream, context: C2SContext, host_type: HostType, jid: JID, request: BindRequest, agent: str | None
) -> Bound:
    """Makes the session and gives <bound/>. Nothing is written to the client before `release` is called.

    Earlier sessions of the same client end. Raises StreamError.
    """
    session = establish(stream, context, host_type, jid)
    held: list[tuple[Stanza, bytes]] = []

    def hold(stanza: Stanza, data: bytes) -> bool:
        held.append((stanza, data))
        return True

    # A feature may put a gate of its own here, which then comes second.
    session.gate = hold
    if agent is not None:
        session.slots[UserAgent] = UserAgent(agent)
        _end_earlier(context, session, agent)
    introduce(session)
    parts = _switch_on(session, request)
    gate, session.gate = (None if session.gate is hold else session.gate), hold

    def release() -> None:
        session.gate = gate
        for stanza, data in held:
            session.deliver(stanza, data)

    try:
        # The archive is looked at last: what comes from now on is delivered, or in it, or both.
        parts += [await _metadata(module.bound(session)) for module in _with_metadata(host_type)]
    except BaseException:
        release()
        raise
    inner = b"".join(parts)
    element = b"<bound xmlns='%b'>%b</bound>" if inner else b"<bound xmlns='%b'/>%b"
    return Bound(element % (NS_BIND2.encode(), inner), release)


def _end_earlier(context: C2SContext, session: C2SSession, agent: str) -> None:
    for other in context.router.sessions.of(session.jid.bare):
        if other is not session and other.slots.get(UserAgent) == UserAgent(agent):
            other.end(StreamError("conflict", "Replaced by a new connection"))


def _switch_on(session: C2SSession, request: BindRequest) -> list[bytes]:
    """Answers of the features that were asked for; what is unknown is passed over."""
    answers = []
    handlers = session.host_type.bind_inlines
    for key, element in request.inlines.items():
        if key == _ENABLE:
            answers.append(enable(session, element))
        elif key in handlers:
            answers.append(handlers[key](session, element) or b"")
    return answers


def _with_metadata(host_type: HostType) -> list[Any]:
    """Modules that have something to say about the account's state: `async def bound(session) -> bytes`."""
    return [module for module in host_type if callable(getattr(type(module), "bound", None))]


async def _metadata(pending: Awaitable[bytes]) -> bytes:
    """It is a SHOULD: a database that is away keeps nobody from logging in."""
    try:
        return await pending
    except Unavailable as problem:
        log.warn("bound_without_metadata", reason=str(problem))
        return b""
