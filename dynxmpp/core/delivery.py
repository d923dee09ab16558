"""Delivery to the sessions of an account: RFC 6121 8.5, and its table 1.

Where the RFC leaves the choice between an error and silence, the sender of a message is told. Not so of a headline to
a bare JID: with an account nobody uses it must end in silence, and the answer must not tell whether there is one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import CarbonCopies, Session
from dynxmpp.core.passage import Passage
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.session_table import SessionTable
from dynxmpp.protocol.carbon import RECEIVED, SENT, is_eligible
from dynxmpp.protocol.delay import Delay, delayed
from dynxmpp.protocol.stanza_id import stanza_id_by
from dynxmpp.wire.stanza import Stanza

#: RFC 6121 5.2.2: any other value counts as normal.
MESSAGE_TYPES = frozenset({"normal", "chat", "groupchat", "headline", "error"})

#: Messages that carry others: results of the archive (XEP-0313) and carbons (XEP-0280).
_COPIES = frozenset({"urn:xmpp:mam:1 result", "urn:xmpp:mam:2 result", RECEIVED, SENT})


def message_type(stanza: Stanza) -> str:
    """The type of a message, `normal` for none and for unknown ones."""
    type_ = stanza.attributes.get("type", "normal")
    return type_ if type_ in MESSAGE_TYPES else "normal"


@dataclass(frozen=True, slots=True)
class _Reached:
    """Where a message went, and when it was sent first if this was not the first time.

    Sessions by address and time of binding: who held them here would keep alive what they hold, this message for one.
    """

    sessions: frozenset[tuple[str, float]]
    sent_at: float | None = None

    def plus(self, sessions: list[Session], sent_at: float | None = None) -> "_Reached":
        return _Reached(self.sessions.union([(s.jid.full, s.bound_at) for s in sessions]), sent_at)

    def __contains__(self, session: Session) -> bool:
        return (session.jid.full, session.bound_at) in self.sessions


_NOBODY = _Reached(frozenset())


class Delivery:
    """Takes stanzas whose recipient's filters have passed to their sessions; one a node."""

    def __init__(self, sessions: SessionTable, passage: Passage) -> None:
        self._sessions = sessions
        self._passage = passage
        #: Of messages that are still kept somewhere. One that is not in here went to one session, and never before.
        self._reached: WeakKeyDictionary[Stanza, _Reached] = WeakKeyDictionary()

    def message(self, stanza: Stanza, context: RoutingContext) -> None:
        """RFC 6121 8.5.2.1.1, 8.5.2.2.1, 8.5.3.1, 8.5.3.2.1."""
        recipient = context.recipient
        type_ = message_type(stanza)
        if recipient.resource is not None:
            session = self._sessions.get(recipient)
            if session is not None:
                session.deliver(stanza, stanza.to_bytes())
                return
            if type_ in ("normal", "groupchat", "headline"):
                self._unavailable(stanza, context)
                return
            if type_ != "chat":
                return
        elif type_ == "headline" or (type_ == "groupchat" and context.from_room):
            self._to_all(stanza, context)
            return
        elif type_ == "groupchat":
            self._unavailable(stanza, context)
            return
        elif type_ == "error":
            return
        sessions = self._sessions.top(recipient.bare)
        if sessions:
            if len(sessions) > 1:
                self._reached[stanza] = _NOBODY.plus(sessions)
            data = stanza.to_bytes()
            for session in sessions:
                session.deliver(stanza, data)
        else:
            self.offline(stanza, context)

    def _to_all(self, stanza: Stanza, context: RoutingContext) -> None:
        """To every session that takes messages; in silence when there is none."""
        data = stanza.to_bytes()
        for session in self._sessions.available(context.recipient.bare):
            if session.priority >= 0:
                session.deliver(stanza, data)

    def presence(self, stanza: Stanza, context: RoutingContext) -> None:
        """RFC 6121 8.5.2.1.2, 8.5.3.1, 8.5.3.2.2: what is left of presence once subscriptions have been dealt with."""
        recipient = context.recipient
        if recipient.resource is not None:
            session = self._sessions.get(recipient)
            if session is not None:
                session.deliver(stanza, stanza.to_bytes())
        elif stanza.attributes.get("type") in (None, "unavailable"):
            data = stanza.to_bytes()
            for session in self._sessions.available(recipient.bare):
                session.deliver(stanza, data)

    def again(self, stanza: Stanza, context: RoutingContext) -> None:
        """A stanza that a session took, and whose client did not get it (XEP-0198 section 4).

        A message goes to other resources that have not seen it, else where messages go that nobody takes. What was
        archived is not bounced: the account has it.
        """
        if stanza.name == "iq":
            if stanza.attributes.get("type") in ("get", "set"):
                self._unavailable(stanza, context)
            return
        if stanza.name != "message" or message_type(stanza) not in ("chat", "normal") or _is_copy(stanza):
            return
        bare = context.recipient.bare
        reached = self._reached.get(stanza, _NOBODY)
        if reached.sent_at is not None:
            context.sent_at = reached.sent_at
        sessions = self._sessions.top(bare)
        if not sessions:
            self.offline(stanza, context)
            return
        sent_at = context.sent_at or 0.0
        new = [s for s in sessions if s not in reached and not self._has_copy(s, stanza, context)]
        if new:
            late = delayed(stanza, Delay(datetime.fromtimestamp(sent_at, UTC), context.recipient.domain))
            self._reached[late] = reached.plus(new, sent_at)
            data = late.to_bytes()
            for session in new:
                session.deliver(late, data)

    def _has_copy(self, session: Session, stanza: Stanza, context: RoutingContext) -> bool:
        """Has this session got a carbon of a message that went to another one?

        Carbons end with their session. So that of a client that is away counts only if the archive has the message.
        """
        copies = context.recipient_type.find(CarbonCopies)
        return (
            copies is not None
            and copies.enabled(session)
            and session.bound_at <= (context.sent_at or 0.0)
            and is_eligible(stanza, from_full_jid=context.sender.resource is not None)
            and (session.is_connected or stanza_id_by(stanza, context.recipient.bare) is not None)
        )

    def offline(self, stanza: Stanza, context: RoutingContext) -> None:
        """A message of type normal or chat that no session can take: kept by a module, or refused."""
        host_type: HostType = context.recipient_type
        recipient = context.recipient
        if not host_type.pipelines.offline["message"]:
            # What the account's archive has (XEP-0313) has reached it.
            if stanza_id_by(stanza, recipient.bare) is None:
                self._unavailable(stanza, context)
        elif host_type.accounts.known(recipient.domain, recipient.local or ""):
            self._keep(stanza, context)
        else:
            self._passage.later(stanza, context, self._keep_if_account(stanza, context))

    def _keep(self, stanza: Stanza, context: RoutingContext) -> None:
        pipeline = context.recipient_type.pipelines.offline["message"]
        self._passage.pass_on(pipeline, 0, stanza, context, self._unavailable)

    async def _keep_if_account(self, stanza: Stanza, context: RoutingContext) -> None:
        recipient = context.recipient
        try:
            exists = await context.recipient_type.accounts.exists(recipient.domain, recipient.local or "")
        except Exception as problem:  # noqa: BLE001 - border: one stanza's fault harms no other
            self._passage.refuse_exception(stanza, context, problem, "account look-up")
            return
        if not exists:
            self._unavailable(stanza, context)
        elif self._sessions.top(recipient.bare):
            # Somebody came online meanwhile.
            (self.message if context.sent_at is None else self.again)(stanza, context)
        else:
            self._keep(stanza, context)

    def _unavailable(self, stanza: Stanza, context: RoutingContext) -> None:
        self._passage.refuse(stanza, context, StanzaError("service-unavailable"))


def _is_copy(stanza: Stanza) -> bool:
    """Is it a copy of something that the account has anyway?"""
    return not _COPIES.isdisjoint(stanza.child_keys)
