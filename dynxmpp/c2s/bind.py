"""Resource binding (RFC 6120 section 7): from an authenticated stream to a session."""

from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.c2s.context import C2SContext, shaper_of
from dynxmpp.c2s.session import C2SSession
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.core import replies
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import DomainLimits
from dynxmpp.jid import JID, InvalidJID, prepare_resource
from dynxmpp.wire import escape
from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_BIND, NS_CLIENT
from dynxmpp.wire.stanza import Stanza, qualified

BIND_KEY = qualified(NS_BIND, "bind")
#: Sessions of one account when the access rule `max_user_sessions` says nothing.
DEFAULT_MAX_SESSIONS = 100
FEATURE = f"<bind xmlns='{NS_BIND}'/>".encode()

log = Logger()


def is_bind(stanza: Stanza) -> bool:
    """The one stanza that may come before a resource is bound."""
    return (
        stanza.name == "iq"
        and stanza.uri == NS_CLIENT
        and stanza.attributes.get("type") == "set"
        and stanza.child_keys == (BIND_KEY,)
    )


def bind(stream: C2SStream, context: C2SContext, account: JID, host_type: HostType, request: Stanza) -> bool:
    """Binds the resource that `request` asks for, or one of our choice; False when it was refused with an error.

    A session that has the resource already is ended with `conflict` (7.7.2.2: the newer one wins, since it is most
    often the same client whose old connection is dead); beyond `max_user_sessions` the oldest ones end.
    """
    try:
        jid = _address(context, account, request)
        check_access(context, host_type, jid)
        check_limits(context, host_type, jid)
    except StanzaError as problem:
        stream.write(replies.error(request, problem, account.domain, account.bare).to_bytes())
        return False
    session = establish(stream, context, host_type, jid)
    inner = f"<bind xmlns='{NS_BIND}'><jid>{escape.text(jid.full)}</jid></bind>".encode()
    reply = Stanza("iq", {"type": "result", "id": request.attributes.get("id", "")}, inner, (BIND_KEY,))
    stream.write(reply.to_bytes())
    introduce(session)
    return True


def establish(stream: C2SStream, context: C2SContext, host_type: HostType, jid: JID) -> C2SSession:
    """A session of `jid` on `stream`, in the table from now on; `introduce()` has to follow.

    A session that has the address already ends with `conflict`; beyond `max_user_sessions` the oldest ones end,
    those whose clients are away (XEP-0198) before others.
    """
    session = C2SSession(stream, jid, host_type, context.router)
    _make_room(context, host_type, jid)
    sessions = context.router.sessions
    old = sessions.get(jid)
    if old is not None:
        old.end(StreamError("conflict", "Replaced by a new connection"))
    sessions.add(session)
    stream.on_end = session.stream_ended
    stream.take_over(session.receive)
    stream.shaper = shaper_of(context, host_type, jid)
    return session


def introduce(session: C2SSession) -> None:
    """Tells the modules of a session. What answers the client's request has been written, or waits to be."""
    log.info("session_bound", jid=session.full, address=session.address, encrypted=session.encrypted)
    session.host_type.session_bound(session)


def _address(context: C2SContext, account: JID, request: Stanza) -> JID:
    """The full JID to bind. Raises StanzaError."""
    if "id" not in request.attributes:
        raise StanzaError("bad-request")
    payload = request.child(NS_BIND, "bind")
    wanted = None
    if payload is not None:
        wanted = next((str(e) for e in payload.elements(NS_BIND, "resource")), None)
    if not wanted:
        return account.with_resource(context.token())
    try:
        return account.with_resource(prepare_resource(wanted))
    except InvalidJID as problem:
        raise StanzaError("bad-request", text=str(problem)) from problem


def check_access(context: C2SContext, host_type: HostType, jid: JID) -> None:
    """The listener's access rule, asked about the address that would be bound. Raises StanzaError."""
    if host_type.access(context.config.access, jid, context.domains.__contains__) != "allow":
        raise StanzaError("not-allowed")


def check_limits(context: C2SContext, host_type: HostType, jid: JID) -> None:
    """The limits of the domain (`sessions`, `sessions_per_user`), with a session of `jid` that may be there already.

    Sessions of the same account whose clients are away (XEP-0198) give way, as far as needed. Raises StanzaError
    (RFC 6120 7.6.2.1).
    """
    limits = host_type.find(DomainLimits)
    if limits is None:
        return
    sessions = context.router.sessions
    own = sessions.of(jid.bare)
    others = [session for session in own if session.jid != jid]
    staying = sessions.count_domain(jid.domain) - len(own) + len(others)
    of_domain = staying + 1 - limits.limit(jid.domain, "sessions")
    of_user = len(others) + 1 - limits.limit(jid.domain, "sessions_per_user")
    away = [session for session in others if not session.is_connected]
    surplus = max(of_domain, of_user)
    if surplus > len(away):
        whose = "this account" if of_user > len(away) else "this domain"
        raise StanzaError("resource-constraint", text=f"Too many sessions of {whose}")
    for session in away[: int(max(0, surplus))]:
        session.end(StreamError("policy-violation", "Another client of this account has come"))


def _make_room(context: C2SContext, host_type: HostType, jid: JID) -> None:
    value = host_type.access("max_user_sessions", jid, context.domains.__contains__)
    limit = value if isinstance(value, int) and value > 0 else DEFAULT_MAX_SESSIONS
    if value == "infinity":
        return
    others = [s for s in context.router.sessions.of(jid.bare) if s.jid != jid]
    others.sort(key=lambda session: session.is_connected)  # those whose clients are away go first
    for session in others[: max(0, len(others) + 1 - limit)]:
        session.end(StreamError("policy-violation", "Too many sessions of this account"))
