"""The way of a stanza, top to bottom: address, sender's filters, domain, recipient's filters, destination.

Nothing here waits. A stanza that needs what is not in memory goes on in the slow lane (core/passage.py), from the step
where it left.
"""

from collections.abc import Awaitable

from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish import domish

from dynxmpp.commit import CommitTicket
from dynxmpp.core import replies
from dynxmpp.core.answering import Answering
from dynxmpp.core.delivery import Delivery
from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Session
from dynxmpp.core.iq_registry import Target
from dynxmpp.core.passage import Passage
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.session_table import SessionTable
from dynxmpp.core.slow_lane import SlowLane
from dynxmpp.core.usage import UsageCounters
from dynxmpp.jid import JID, InvalidJID
from dynxmpp.wire.stanza import Stanza

PRESENCE_TYPES = frozenset({"unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "error"})


class Router:
    """One a node."""

    log = Logger()

    def __init__(self, domains: DomainTable[HostType], sessions: SessionTable, slow_lane: SlowLane) -> None:
        self.domains = domains
        self.sessions = sessions
        self.slow_lane = slow_lane
        #: Stanzas of all sessions whose effects are not committed yet; kept by the sessions.
        self.uncommitted = 0
        self.usage = UsageCounters()
        self._tallies = self.usage.tallies
        self.passage = Passage(slow_lane, self.route)
        self.delivery = Delivery(sessions, self.passage)
        self.answering = Answering(self.passage)

    # -- in

    def from_session(self, stanza: Stanza, session: Session, host_type: HostType) -> RoutingContext:
        """A message, presence or iq that a bound resource sent; `from` is stamped already.

        The context says what the stanza wrote: its ticket must be committed before the stanza is acknowledged.
        """
        if stanza.name == "message":
            tally = self._tallies.get(session.jid.domain) or self.usage.open(session.jid.domain, host_type)
            tally.messages += 1
            tally.bytes += len(stanza.inner())
            if tally.rate is not None:
                tally.rate.passed(session)
        to = stanza.attributes.get("to")
        try:
            recipient = session.jid.to_bare() if to is None else JID.parse(to)
        except InvalidJID:
            context = RoutingContext(session.jid, session.jid.to_domain(), session, host_type)
            self.passage.refuse(stanza, context, StanzaError("jid-malformed"))
            return context
        context = RoutingContext(session.jid, recipient, session, host_type)
        if not self.slow_lane or not self.passage.line_up(stanza, context, self._leave):
            self._leave(stanza, context)
        return context

    def route(self, stanza: Stanza, sender: JID, recipient: JID, origin: Session | None = None) -> None:
        """A stanza of the server's own making, or one that a filter sends on: the recipient's half of the way.

        The addresses are those in the stanza's attributes.
        """
        context = RoutingContext(sender, recipient, origin)
        if not self.slow_lane or not self.passage.line_up(stanza, context, self._arrive):
            self._arrive(stanza, context)

    def to_member(self, stanza: Stanza, sender: JID, member: JID, ticket: CommitTicket) -> None:
        """A message of a room (`sender` or the room it is in) for one of its members, with all who are online.

        `ticket` is that of what the message was made of: it collects what is written for this member too. Whoever is
        not online finds it in the archive of the room: no error comes back.
        """
        context = RoutingContext(sender, member)
        context.from_room, context.ticket = True, ticket
        if not self.slow_lane or not self.passage.line_up(stanza, context, self._arrive):
            self._arrive(stanza, context)

    def redeliver(self, stanza: Stanza, account: JID, host_type: HostType, sent_at: float) -> None:
        """What a session was sent and its client did not get before the session ended (XEP-0198 section 4).

        Its filters have been passed. `account` is the session's address, `sent_at` seconds of the clock.
        """
        served = self.domains.get(account.domain)
        if served is None or served.host_type is not host_type:
            return
        try:
            sender = JID.parse(stanza.attributes.get("from", account.bare))
            recipient = JID.parse(stanza.attributes.get("to", account.bare))
        except InvalidJID:
            return
        if recipient.bare != account.bare:
            recipient = account
        context = RoutingContext(sender, recipient)
        context.recipient_type, context.sent_at = host_type, sent_at
        try:
            self.delivery.again(stanza, context)
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self.passage.refuse_exception(stanza, context, problem, "redelivery")

    def send(self, element: domish.Element) -> None:
        """As `route`, for what a wokkel handler sends: it knows addresses as texts only."""
        stanza = Stanza.from_element(element)
        try:
            sender = JID.parse(stanza.attributes.get("from", ""))
            recipient = JID.parse(stanza.attributes.get("to", ""))
        except InvalidJID as problem:
            self.log.error("handler_sent_unaddressed_stanza", stanza_name=stanza.name, reason=str(problem))
            return
        self.route(stanza, sender, recipient)

    def earlier(self, context: RoutingContext) -> Awaitable[None]:
        """For the answer to a request, which has to wait anyway: comes when what its sender sent before is dealt with.

        Only stanzas of one pair are in order by themselves.
        """
        return self.passage.earlier(context)

    # -- the sender's half

    def _leave(self, stanza: Stanza, context: RoutingContext) -> None:
        name = stanza.name
        if name != "message" and not (_valid_iq(stanza) if name == "iq" else _valid_presence(stanza)):
            self.passage.refuse(stanza, context, StanzaError("bad-request"))
            return
        pipeline = context.sender_type.pipelines.outgoing[name]
        if pipeline:
            self.passage.pass_on(pipeline, 0, stanza, context, self._arrive)
        else:
            self._arrive(stanza, context)

    # -- the recipient's half

    def _arrive(self, stanza: Stanza, context: RoutingContext) -> None:
        domain = context.recipient.domain
        served = self.domains.get(domain)
        if served is not None:
            context.recipient_type = served.host_type
            pipeline = served.host_type.pipelines.incoming[stanza.name]
            if pipeline:
                self.passage.pass_on(pipeline, 0, stanza, context, self._reach)
            else:
                self._reach(stanza, context)
            return
        subdomain = self.domains.find_subdomain(domain)
        if subdomain is None:
            self._nobody(stanza, context, StanzaError("remote-server-not-found"))
            return
        context.recipient_type, context.subdomain = subdomain.host_type, subdomain
        pipeline = subdomain.host_type.pipelines.incoming[stanza.name]
        self.passage.pass_on(pipeline, 0, stanza, context, self._reach_service)

    def _reach(self, stanza: Stanza, context: RoutingContext) -> None:
        """All filters passed: the stanza is for a domain, an account or a resource."""
        try:
            if stanza.name == "iq":
                self._reach_iq(stanza, context)
            elif context.recipient.local is None:
                self._reach_domain(stanza, context)
            elif stanza.name == "message":
                self.delivery.message(stanza, context)
            else:
                self.delivery.presence(stanza, context)
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self.passage.refuse_exception(stanza, context, problem, "delivery")

    def _reach_iq(self, stanza: Stanza, context: RoutingContext) -> None:
        recipient = context.recipient
        if recipient.local is not None and recipient.resource is not None:
            session = self.sessions.get(recipient)
            if session is not None:
                session.deliver(stanza, stanza.to_bytes())
                return
        elif recipient.resource is None and stanza.attributes["type"] in ("get", "set"):
            place = Target.DOMAIN if recipient.local is None else Target.ACCOUNT
            self.answering.ask(place, stanza, context)
            return
        self.passage.refuse(stanza, context, StanzaError("service-unavailable"))

    def _reach_domain(self, stanza: Stanza, context: RoutingContext) -> None:
        """A message or presence for the domain itself: a wokkel handler may want it, else nobody is there."""
        if not self.answering.show_to_handlers(stanza, context):
            self._nobody(stanza, context, StanzaError("service-unavailable"))

    def _reach_service(self, stanza: Stanza, context: RoutingContext) -> None:
        if not self.answering.hand_to_service(stanza, context):
            self._nobody(stanza, context, StanzaError("service-unavailable"))

    def _nobody(self, stanza: Stanza, context: RoutingContext, condition: StanzaError) -> None:
        """Nothing takes this stanza. Presence is not worth an answer, but for a request that waits for one."""
        if stanza.name != "presence" or stanza.attributes.get("type") == "subscribe":
            self.passage.refuse(stanza, context, condition)


def _valid_iq(stanza: Stanza) -> bool:
    """RFC 6120 8.2.3: an id, a known type, exactly one child in a request, at most one in a result."""
    attributes = stanza.attributes
    children = len(stanza.child_keys)
    type_ = attributes.get("type")
    if "id" not in attributes:
        return False
    if type_ in ("get", "set"):
        return children == 1
    if type_ == "result":
        return children <= 1
    return type_ == "error" and replies.ERROR_KEY in stanza.child_keys


def _valid_presence(stanza: Stanza) -> bool:
    """RFC 6121 4.7.1: presence of a type that there is none of."""
    type_ = stanza.attributes.get("type")
    return type_ is None or type_ in PRESENCE_TYPES
