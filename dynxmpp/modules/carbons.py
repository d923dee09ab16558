"""XEP-0280 Message Carbons, version 1.0.1: all devices of an account see both sides of its conversations.

A message is copied to those sessions of its sender and of its recipient that have asked for copies and do not get it
anyway, available or not. Section 6.1 says which messages; <private/> and the hint <no-copy/> are respected and left in
(section 9).
"""

from collections import deque
from collections.abc import Sequence

from twisted.words.xish import domish

from dynxmpp.config.modules import IqDisc
from dynxmpp.core.interfaces import CarbonCopies
from dynxmpp.module import (
    IQ,
    JID,
    Direction,
    Filter,
    Module,
    ModuleContext,
    Phase,
    RoutingContext,
    Section,
    Session,
    Stanza,
    StanzaError,
    Target,
    Verdict,
    Xep,
    bind_inline,
    iq_set,
    option,
    section,
)
from dynxmpp.protocol.carbon import NS_CARBONS, is_eligible, wrapper
from dynxmpp.protocol.stanza_id import with_stanza_id, without_stanza_ids

#: All rules of section 6.1 are kept.
NS_RULES = "urn:xmpp:carbons:rules:0"
#: Messages of a session's account whose errors will be copied to it.
REMEMBERED = 64


@section
class CarbonsConfig(Section):
    """[modules.mod_carboncopy]"""

    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class Carbons(Module):
    """Makes the copies. Provides CarbonCopies."""

    name = "mod_carboncopy"
    xep = Xep(280, "1.0.1")
    config_model = CarbonsConfig
    features = (NS_CARBONS, NS_RULES)
    account_features = (NS_CARBONS, NS_RULES)
    bind_features = (NS_CARBONS,)

    def __init__(self, context: ModuleContext, config: CarbonsConfig) -> None:
        super().__init__(context, config)
        self.host_type.provide(CarbonCopies, self)

    # -- who wants copies

    @iq_set(NS_CARBONS, "enable", at=Target.ACCOUNT)
    def on_enable(self, iq: IQ) -> None:
        self._enable(_asking(iq))

    @iq_set(NS_CARBONS, "disable", at=Target.ACCOUNT)
    def on_disable(self, iq: IQ) -> None:
        _asking(iq).slots.pop(Carbons, None)

    @bind_inline(NS_CARBONS, "enable")
    def on_bind(self, session: Session, element: domish.Element) -> None:
        """XEP-0386: there is nothing to answer."""
        self._enable(session)

    def _enable(self, session: Session) -> None:
        # Hashes of (contact, id) of messages: enough to know their errors, and of one size whatever the id.
        session.slots.setdefault(Carbons, deque(maxlen=REMEMBERED))

    def enabled(self, session: Session) -> bool:
        return Carbons in session.slots

    # -- what passes

    def filters(self) -> Sequence[Filter]:
        return (
            Filter(Direction.OUTGOING, Phase.COPY, self._on_outgoing),
            Filter(Direction.INCOMING, Phase.COPY, self._on_incoming),
        )

    def _on_outgoing(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        origin = context.origin
        sessions = self.sessions.of(context.sender.bare)
        if len(sessions) == 1 and sessions[0] is origin:  # by far the most frequent case
            return stanza
        others = [s for s in sessions if Carbons in s.slots and s is not origin]
        if others:
            self._copy_sent(stanza, context, others)
        return stanza

    def _on_incoming(self, stanza: Stanza, context: RoutingContext) -> Verdict:
        sessions = self.sessions.of(context.recipient.bare)
        if not sessions or (len(sessions) == 1 and Carbons not in sessions[0].slots):
            return stanza
        # What an account sends to itself has been copied on the way out; there is no second copy of it.
        if context.sender_type is None or not context.from_own_account:
            self._copy_received(stanza, context.sender, context.recipient)
        return stanza

    def refused(self, error: Stanza, sender: JID, recipient: JID) -> None:
        self._copy_received(error, sender, recipient)

    def _copy_sent(self, stanza: Stanza, context: RoutingContext, others: list[Session]) -> None:
        """Section 8: to the other sessions of the sender that have asked for copies."""
        sender, recipient = context.sender, context.recipient
        wanting = _wanting(stanza, recipient, others, from_full_jid=False)
        if sender.bare == recipient.bare:
            reached = self._reached(stanza, recipient)
            wanting = [session for session in wanting if session not in reached]
        if not wanting:
            return
        if "to" not in stanza.attributes:
            stanza = stanza.with_attributes({"to": recipient.full})
        if context.sent_as is not None:
            stanza = with_stanza_id(without_stanza_ids(stanza, sender.bare), sender.bare, context.sent_as)
        _copy(stanza, sender, wanting, sent=True)

    def _copy_received(self, stanza: Stanza, sender: JID, recipient: JID) -> None:
        """Section 7: to the sessions of the recipient that have asked for copies and are not reached anyway."""
        sessions = self.sessions.of(recipient.bare)
        enabled = [session for session in sessions if Carbons in session.slots]
        if not enabled:
            return
        reached = self._reached(stanza, recipient)
        if len(sessions) == 1 and sessions[0] in reached:  # by far the most frequent case
            return
        wanting = _wanting(stanza, sender, enabled, from_full_jid=sender.resource is not None)
        wanting = [session for session in wanting if session not in reached]
        if wanting:
            _copy(stanza, recipient, wanting, sent=False)

    def _reached(self, stanza: Stanza, recipient: JID) -> Sequence[Session]:
        """The sessions that will get the message itself: RFC 6121 8.5, for the types that are copied."""
        type_ = stanza.attributes.get("type")
        if recipient.resource is not None:
            session = self.sessions.get(recipient)
            if session is not None:
                return (session,)
            if type_ != "chat":
                return ()
        elif type_ == "error":
            return ()
        elif type_ == "headline":
            return [session for session in self.sessions.available(recipient.bare) if session.priority >= 0]
        return self.sessions.top(recipient.bare)


def _asking(iq: IQ) -> Session:
    """The session that asks for itself. Raises StanzaError (sections 4.1 and 5.1)."""
    session = iq.context.origin
    if session is None or not iq.from_own_account:
        raise StanzaError("not-allowed")
    return session


def _wanting(stanza: Stanza, contact: JID, enabled: list[Session], *, from_full_jid: bool) -> list[Session]:
    """Which of these sessions a message to or from `contact` is to be copied to.

    An error is copied where the message was that it answers: who got it, or a copy of it, had copies enabled then.
    """
    id_ = stanza.attributes.get("id")
    mark = None if id_ is None else hash((contact.bare, id_))
    if stanza.attributes.get("type") == "error":
        return [session for session in enabled if mark in session.slots[Carbons]]
    if not is_eligible(stanza, from_full_jid=from_full_jid):
        return []
    if mark is not None:
        for session in enabled:
            session.slots[Carbons].append(mark)
    return enabled


def _copy(stanza: Stanza, account: JID, sessions: Sequence[Session], *, sent: bool) -> None:
    """Sends copies that differ in their address only."""
    copy = wrapper(stanza, account.bare, sent=sent)
    for session in sessions:
        addressed = copy.with_attributes({"to": session.jid.full})
        session.deliver(addressed, addressed.to_bytes())
