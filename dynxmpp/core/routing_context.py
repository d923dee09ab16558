"""What is learnt about a stanza while it travels, beside the stanza and never in it."""

from typing import Any

from dynxmpp.commit import CommitTicket
from dynxmpp.core.interfaces import Session
from dynxmpp.jid import JID
from dynxmpp.wire.stanza import Stanza


class RoutingContext:
    """One passage of one stanza from `sender` to `recipient`.

    `origin` is the session that sent it, None for stanzas of the server's own making. `sender_type` and
    `recipient_type` are the host types of both ends as far as they are known and local. `ticket` collects the writes
    that must be durable before the stanza may be acknowledged; None until something is written, the common case.
    """

    __slots__ = (
        "from_room",
        "in_lane",
        "origin",
        "printed",
        "recipient",
        "recipient_type",
        "sender",
        "sender_type",
        "sent_as",
        "sent_at",
        "subdomain",
        "ticket",
    )

    def __init__(self, sender: JID, recipient: JID, origin: Session | None = None, sender_type: Any = None) -> None:
        self.sender = sender
        self.recipient = recipient
        self.origin = origin
        self.sender_type = sender_type
        self.recipient_type: Any = None
        #: The computed name that the stanza is for, when it is for one (core.domain_table.Subdomain).
        self.subdomain: Any = None
        self.ticket: CommitTicket | None = None
        #: The id under which the sender's own archive keeps the message (XEP-0359), once it does.
        self.sent_as: str | None = None
        #: When the stanza was first delivered, in seconds of the clock, if that was in vain; None for now.
        self.sent_at: float | None = None
        #: A stanza on this way and its bytes as they stand inside another element, for those who come to need them too.
        self.printed: tuple[Stanza, bytes] | None = None
        #: Is it a message of a room to one of its members?
        self.from_room = False
        #: Does it travel in the slow lane? Then it goes on there before anything that has lined up behind it.
        self.in_lane = False

    def open_ticket(self) -> CommitTicket:
        """The ticket of this stanza, made when the first write needs it."""
        if self.ticket is None:
            self.ticket = CommitTicket()
        return self.ticket

    def embedded(self, stanza: Stanza) -> bytes:
        """The bytes of `stanza` as they stand inside another element (XEP-0297), printed once for all who ask."""
        printed = self.printed
        if printed is None or printed[0] is not stanza:
            printed = self.printed = (stanza, stanza.to_bytes(embedded=True))
        return printed[1]

    @property
    def from_own_account(self) -> bool:
        """Did a resource of the recipient's own account send it?"""
        return self.sender.bare == self.recipient.bare
