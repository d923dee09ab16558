"""Delivery to the sessions of an account: RFC 6121 8.5, and its table 1.

Where the RFC leaves the choice between an error and silence, the sender of a message is told. Not so of a headline to
a bare JID: with an account nobody uses it must end in silence, and the answer must not tell whether there is one.
"""

from datetime import UTC, datetime

from twisted.words.protocols.jabber.error import StanzaError

from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import CarbonCopies
from dynxmpp.core.passage import Passage
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.core.session_table import SessionTable
from dynxmpp.protocol.delay import Delay, delayed
from dynxmpp.wire.stanza import Stanza, qualified

#: RFC 6121 5.2.2: any other value counts as normal.
MESSAGE_TYPES = frozenset({"normal", "chat", "groupchat", "headline", "error"})

#: What the archive leaves on a message that it keeps (XEP-0359).
STANZA_ID_KEY = qualified("urn:xmpp:sid:0", "stanza-id")
#: Messages that carry others: results of the archive (XEP-0313) and carbons (XEP-0280).
_COPIES = ("urn:xmpp:mam:1 ", "urn:xmpp:mam:2 ", "urn:xmpp:carbons:2 ")


def message_type(stanza: Stanza) -> str:
    """The type of a message, `normal` for none and for unknown ones."""
    type_ = stanza.attributes.get("type", "normal")
    return type_ if type_ in MESSAGE_TYPES else "normal"


class Delivery:
    """Takes stanzas whose recipient's filters have passed to their sessions; one a node."""

    def __init__(self, sessions: SessionTable, passage: Passage) -> None:
        self._sessions = sessions
        self._passage = passage

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
        elif type_ == "groupchat":
            self._unavailable(stanza, context)
            return
        elif type_ == "headline":
            self._headline(stanza, context)
            return
        elif type_ == "error":
            return
        sessions = self._sessions.top(recipient.bare)
        if sessions:
            data = stanza.to_bytes()
            for session in sessions:
                session.deliver(stanza, data)
        else:
            self.offline(stanza, context)

    def _headline(self, stanza: Stanza, context: RoutingContext) -> None:
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
        sessions = self._sessions.top(bare)
        if not sessions:
            host_type: HostType = context.recipient_type
            if host_type.pipelines.offline["message"] or not stanza.has_child(STANZA_ID_KEY):
                self.offline(stanza, context)
            return
        sent_at = context.sent_at or 0.0
        late = delayed(stanza, Delay(datetime.fromtimestamp(sent_at, UTC), context.recipient.domain))
        data = late.to_bytes()
        copies = context.recipient_type.find(CarbonCopies)
        for session in sessions:
            # Who was there has seen it: a message for the bare JID itself, of others the carbon.
            has_copy = context.recipient.resource is None or (copies is not None and copies.enabled(session))
            if session.bound_at > sent_at or not has_copy:
                session.deliver(late, data)

    def offline(self, stanza: Stanza, context: RoutingContext) -> None:
        """A message of type normal or chat that no session can take: kept by a module, or refused."""
        host_type: HostType = context.recipient_type
        recipient = context.recipient
        if not host_type.pipelines.offline["message"]:
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
            self.message(stanza, context)  # somebody came online meanwhile
        else:
            self._keep(stanza, context)

    def _unavailable(self, stanza: Stanza, context: RoutingContext) -> None:
        self._passage.refuse(stanza, context, StanzaError("service-unavailable"))


def _is_copy(stanza: Stanza) -> bool:
    """Is it a copy of something that the account has anyway?"""
    return any(key.startswith(_COPIES) for key in stanza.child_keys)
