"""What clients sent, what they were told, what they got, what the archives have: the facts of a run, without judgement.

A conversation is one direction between two accounts. Its messages are numbered from 0, and a body says which one it is:
`c12 345 ...`. So every place where a message turns up says what was to be there before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

#: The start of a body.
_BODY = re.compile(r"(c\d+) (\d+) ").match


class Message:
    """What its sender knows of one message."""

    __slots__ = ("acknowledged", "again", "refused")

    def __init__(self) -> None:
        #: The server said that it has handled it (XEP-0198 4).
        self.acknowledged = False
        #: The server answered with an error: it promised nothing.
        self.refused = False
        #: Sent again on a new session, because the old one was lost: nobody could know whether it had arrived.
        self.again = False


@dataclass
class Conversation:
    name: str
    sender: str
    recipient: str
    messages: list[Message] = field(default_factory=list)

    def next(self) -> int:
        """The number of one more message."""
        self.messages.append(Message())
        return len(self.messages) - 1


class Name(NamedTuple):
    """Which message: the `number`-th of a conversation."""

    conversation: str
    number: int

    @property
    def id(self) -> str:
        """For the attribute `id` and the origin-id (XEP-0359)."""
        return f"{self.conversation}-{self.number}"


def body(name: Name, length: int) -> str:
    """The body of a message, filled up to `length` characters."""
    return f"{name.conversation} {name.number} ".ljust(length, "x")


def read_body(text: str) -> Name | None:
    """Which message has this body; None for one that is not ours."""
    found = _BODY(text)
    return None if found is None else Name(found[1], int(found[2]))


def read_id(text: str) -> Name | None:
    """Which message has this id."""
    conversation, _, number = text.rpartition("-")
    return Name(conversation, int(number)) if conversation and number.isdecimal() else None


class Arrival(NamedTuple):
    """A message that a client was given."""

    name: Name | None
    #: Counts the sessions of the client; one that was resumed goes on.
    session: int
    #: Of the recipient's own archive (XEP-0359 stanza-id), None without one.
    archive_id: str | None
    #: From offline storage (XEP-0203).
    delayed: bool


class Kept(NamedTuple):
    """A message in an archive, under its id there."""

    archive_id: str
    name: Name | None


@dataclass
class History:
    """A whole run; accounts are bare JIDs."""

    conversations: dict[str, Conversation] = field(default_factory=dict)
    arrivals: dict[str, list[Arrival]] = field(default_factory=dict)
    #: By account, as paging through with MAM showed them.
    archives: dict[str, list[Kept]] = field(default_factory=dict)
    #: The same out of the tables, or None when nobody looked.
    rows: dict[str, list[Kept]] | None = None
    #: What a client or the harness saw that must never be, by kind.
    faults: list[tuple[str, str]] = field(default_factory=list)

    def fault(self, kind: str, example: str) -> None:
        self.faults.append((kind, example))

    def converse(self, pairs: Iterable[tuple[str, str]]) -> list[Conversation]:
        """Both directions between the accounts of each pair."""
        made = []
        for one, other in pairs:
            for sender, recipient in ((one, other), (other, one)):
                conversation = Conversation(f"c{len(self.conversations)}", sender, recipient)
                self.conversations[conversation.name] = conversation
                made.append(conversation)
        return made
