"""Resumption of a session on a new connection (XEP-0198, version 1.6.3, section 5).

It waits until all that the client had sent is committed: the `h` of <resumed/> decides what the client sends again, so
a stanza that it does not count must not take effect any more.
"""

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger
from twisted.words.xish import domish

from dynxmpp.c2s.context import C2SContext, shaper_of
from dynxmpp.c2s.session import C2SSession
from dynxmpp.c2s.stream import C2SStream
from dynxmpp.c2s.stream_management import count, failed
from dynxmpp.core.host_type import HostType
from dynxmpp.jid import JID
from dynxmpp.modules.stream_management import NS_SM, StreamManagement
from dynxmpp.wire import escape

log = Logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What answers <resume/>, to be sent before anything else; then `take_over`, None when it has failed."""

    answer: bytes
    take_over: Callable[[], None] | None = None


async def resume(
    stream: C2SStream, context: C2SContext, account: JID, host_type: HostType, element: domish.Element
) -> Outcome:
    """<resume/> on an authenticated stream without a session. Raises StreamError for an impossible `h`.

    Between the return of this and `take_over` nothing may be waited for.
    """
    service = host_type.find(StreamManagement)
    if service is None:
        return Outcome(failed("feature-not-implemented"))
    previous = element.getAttribute("previd")
    if not previous:
        return Outcome(failed("bad-request"))
    h = count(element)
    session = service.find_session(previous, account.bare)
    # What of another account, or of a host type that the domain no longer has, is not there for this client.
    if not isinstance(session, C2SSession) or session.manager is None or session.host_type is not host_type:
        return Outcome(failed("item-not-found", service.stale_h(previous, account.bare)))
    manager = session.manager
    if not manager.is_possible(h):
        manager.acknowledge(h)  # raises
    session.claim(stream)
    await manager.when_settled()
    if not session.is_claimed_by(stream):
        return Outcome(failed("item-not-found", service.stale_h(previous, account.bare)))
    attributes: dict[escape.AttributeName, str] = {"previd": previous, "h": str(manager.handled)}
    answer = escape.open_tag("resumed", attributes, {}, NS_SM, "/>").encode()

    def take_over() -> None:
        session.attach(stream, h)
        stream.shaper = shaper_of(context, host_type, session.jid)
        log.info("session_resumed", jid=session.full, address=session.address)
        host_type.session_resumed(session)

    return Outcome(answer, take_over)
