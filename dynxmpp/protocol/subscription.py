"""Presence subscriptions as a state machine: RFC 6121 3 and Appendix A. Pure: states in, transitions out.

A state is what one side knows of the subscriptions between it and one contact. "Outbound" is a stanza that this side
sends to the contact, "inbound" one that it gets from there.

Left out: pre-approval (RFC 6121 3.4, optional): `subscribed` without a request changes nothing and goes nowhere.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

#: The presence stanzas that are about subscriptions (RFC 6121 4.7.1).
SUBSCRIPTION_TYPES = frozenset({"subscribe", "subscribed", "unsubscribe", "unsubscribed"})


class Facts(NamedTuple):
    """What a state consists of, seen from this side."""

    #: This side gets the contact's presence.
    to: bool = False
    #: The contact gets this side's presence.
    from_: bool = False
    #: This side has asked, and was not answered yet.
    pending_out: bool = False
    #: The contact has asked, and was not answered yet.
    pending_in: bool = False


class State(Enum):
    """The nine states of RFC 6121 A.1."""

    NONE = Facts()
    NONE_PENDING_OUT = Facts(pending_out=True)
    NONE_PENDING_IN = Facts(pending_in=True)
    NONE_PENDING_OUT_IN = Facts(pending_out=True, pending_in=True)
    TO = Facts(to=True)
    TO_PENDING_IN = Facts(to=True, pending_in=True)
    FROM = Facts(from_=True)
    FROM_PENDING_OUT = Facts(from_=True, pending_out=True)
    BOTH = Facts(to=True, from_=True)

    @property
    def subscription(self) -> str:
        """The attribute of that name of a roster item (RFC 6121 2.1.2.5)."""
        facts = self.value
        if facts.to:
            return "both" if facts.from_ else "to"
        return "from" if facts.from_ else "none"

    @property
    def ask(self) -> bool:
        """Has the roster item ask='subscribe' (RFC 6121 2.1.2.2)?"""
        return self.value.pending_out

    @property
    def visible(self) -> bool:
        """Is there anything that a roster shows? A contact that has only asked is not in the roster (RFC 6121 A.1)."""
        return self.value.to or self.value.from_ or self.value.pending_out

    @staticmethod
    def of(subscription: str, *, ask: bool, pending_in: bool) -> "State":
        """The state that the attributes of an item and a pending request mean. ValueError for what is none."""
        to, from_ = subscription in ("to", "both"), subscription in ("from", "both")
        if not (to or from_) and subscription != "none":
            raise ValueError(f"no subscription: {subscription!r}")
        return State(Facts(to, from_, ask, pending_in))


@dataclass(frozen=True, slots=True)
class Transition:
    """What a stanza of one type does in one state."""

    state: State
    #: Outbound: is it routed to the contact? Inbound: is it delivered to the user?
    passes: bool
    #: Has the roster item changed, so that it is pushed?
    pushes: bool
    #: Inbound: the type of the stanza that the server answers with on its own.
    answer: str | None = None


def _transition(old: State, new: Facts, passes: bool, answer: str | None = None) -> Transition:
    facts = old.value
    return Transition(State(new), passes, new[:3] != facts[:3], answer)


def outbound(state: State, type_: str) -> Transition:
    """The user sends a stanza of this type to the contact (RFC 6121 A.2)."""
    facts = state.value
    if type_ == "subscribe":
        return _transition(state, facts._replace(pending_out=not facts.to), passes=True)
    if type_ == "unsubscribe":
        return _transition(state, facts._replace(to=False, pending_out=False), passes=True)
    if type_ == "subscribed":
        approved = facts.from_ or facts.pending_in
        return _transition(state, facts._replace(from_=approved, pending_in=False), passes=facts.pending_in)
    if type_ == "unsubscribed":
        ended = facts.from_ or facts.pending_in
        return _transition(state, facts._replace(from_=False, pending_in=False), passes=ended)
    raise ValueError(f"not about subscriptions: {type_}")


def inbound(state: State, type_: str) -> Transition:
    """The contact sends a stanza of this type to the user (RFC 6121 A.3)."""
    facts = state.value
    if type_ == "subscribe":
        if facts.from_:
            # RFC 6121 3.1.3, 2: approved already, so the user is not asked again.
            return _transition(state, facts, passes=False, answer="subscribed")
        return _transition(state, facts._replace(pending_in=True), passes=not facts.pending_in)
    if type_ == "unsubscribe":
        ended = facts.from_ or facts.pending_in
        return _transition(state, facts._replace(from_=False, pending_in=False), passes=ended)
    if type_ == "subscribed":
        granted = facts.to or facts.pending_out
        return _transition(state, facts._replace(to=granted, pending_out=False), passes=facts.pending_out)
    if type_ == "unsubscribed":
        ended = facts.to or facts.pending_out
        return _transition(state, facts._replace(to=False, pending_out=False), passes=ended)
    raise ValueError(f"not about subscriptions: {type_}")
