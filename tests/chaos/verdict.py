"""Judges a history: pure functions, so that a forged one shows whether they can see.

The numbers under `violations` have to be 0; those under `figures` say what happened besides.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import Arrival, Conversation, History, Kept, Name

#: Of each kind of violation, how many are told in words.
EXAMPLES = 5

VIOLATIONS = (
    "acknowledged, not in the sender's archive",
    "acknowledged, not in the recipient's archive",
    "acknowledged, neither received nor in the recipient's archive",
    "received twice in one session",
    "received out of order",
    "archived out of order",
    "archived twice, never sent again",
    "archived, never sent",
    "received, never sent",
    "received under an id that the archive does not have",
    "archive read by MAM differs from its table",
    "archive not in the order of its ids",
)


@dataclass
class Verdict:
    violations: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(VIOLATIONS, 0)))
    examples: dict[str, list[str]] = field(default_factory=dict)
    figures: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return not any(self.violations.values())

    def violated(self, kind: str, example: str) -> None:
        self.violations[kind] += 1
        told = self.examples.setdefault(kind, [])
        if len(told) < EXAMPLES:
            told.append(example)


def examine(history: History) -> Verdict:
    verdict = Verdict()
    for kind, example in history.faults:
        verdict.violated(kind, example)
    archives = {account: _Archive(account, kept, verdict) for account, kept in history.archives.items()}
    for account, kept in history.archives.items():
        _examine_archive(account, kept, history, verdict)
    for account, arrivals in history.arrivals.items():
        _examine_arrivals(account, arrivals, history, verdict)
    for conversation in history.conversations.values():
        _examine_conversation(conversation, archives, history, verdict)
    return verdict


class _Archive:
    """Which ids a message has in one archive."""

    def __init__(self, account: str, kept: Sequence[Kept], verdict: Verdict) -> None:
        self.ids: dict[Name, list[str]] = {}
        for archive_id, name in kept:
            if name is not None:
                self.ids.setdefault(name, []).append(archive_id)


def _examine_archive(account: str, kept: Sequence[Kept], history: History, verdict: Verdict) -> None:
    numbers = [_number(entry.archive_id) for entry in kept]
    for before, after, entry in zip(numbers, numbers[1:], kept[1:], strict=False):
        if after <= before:
            verdict.violated("archive not in the order of its ids", f"{account}: {entry}")
    if history.rows is not None and list(kept) != history.rows.get(account, []):
        rows = history.rows.get(account, [])
        unlike = list(set(kept) ^ set(rows))[:EXAMPLES]
        example = f"{account}: {len(kept)} read, {len(rows)} rows, unlike: {unlike}"
        verdict.violated("archive read by MAM differs from its table", example)
    for entry in kept:
        if not _was_sent(entry.name, account, history):
            verdict.violated("archived, never sent", f"{account}: {entry}")
    for late, first in _out_of_order(entry.name for entry in kept):
        verdict.violated("archived out of order", f"{account}: {late.id} after {first.id}")


def _examine_arrivals(account: str, arrivals: Sequence[Arrival], history: History, verdict: Verdict) -> None:
    seen: set[tuple[int, str]] = set()
    got: dict[Name, list[Arrival]] = {}
    for arrival in arrivals:
        if not _was_sent(arrival.name, account, history):
            verdict.violated("received, never sent", f"{account}: {arrival}")
            continue
        assert arrival.name is not None
        got.setdefault(arrival.name, []).append(arrival)
        if arrival.archive_id is not None:
            key = (arrival.session, arrival.archive_id)
            if key in seen:
                verdict.violated("received twice in one session", f"{account}: {arrival}")
            seen.add(key)
    for name, several in got.items():
        again = history.conversations[name.conversation].messages[name.number].again
        if len({arrival.session for arrival in several}) < len(several):
            without_id = any(arrival.archive_id is None for arrival in several)
            distinct = len({arrival.archive_id for arrival in several}) == len(several)
            if not again and (distinct or without_id):
                verdict.violated("received twice in one session", f"{account}: {several}, never sent again")
        verdict.figures["received again in a later session"] += len({arrival.session for arrival in several}) - 1
    for delayed in (False, True):
        firsts = {name: several[0] for name, several in got.items() if several[0].delayed == delayed}
        for name, before in _out_of_order(firsts):
            if history.conversations[name.conversation].messages[name.number].again:
                # No proof of a fault: the first copy may have been on its way into offline storage when it was lost.
                verdict.figures["received after later ones, having been sent again"] += 1
            else:
                verdict.violated("received out of order", f"{account}: {firsts[name]} after {firsts[before]}")
    for arrival, before_it in _ids_out_of_order(arrivals):
        verdict.violated("received out of order", f"{account}: {arrival} after {before_it}")
    overtaken = len(list(_out_of_order(got)))
    verdict.figures["from offline storage, after later ones"] += overtaken
    verdict.figures["received"] += len(got)
    verdict.figures["from offline storage"] += sum(arrival.delayed for arrival in arrivals)


def _examine_conversation(
    conversation: Conversation, archives: dict[str, _Archive], history: History, verdict: Verdict
) -> None:
    figures = verdict.figures
    sent, own = archives[conversation.sender].ids, archives[conversation.recipient].ids
    arrived: dict[int, list[Arrival]] = {}
    for arrival in history.arrivals.get(conversation.recipient, ()):
        if arrival.name is not None and arrival.name.conversation == conversation.name:
            arrived.setdefault(arrival.name.number, []).append(arrival)
    for number, message in enumerate(conversation.messages):
        name = Name(conversation.name, number)
        figures["sent"] += 1
        figures["sent again after a lost session"] += message.again
        figures["refused with an error"] += message.refused
        twice = max(len(sent.get(name, ())), len(own.get(name, ()))) > 1
        if twice and message.again:
            figures["archived twice, having been sent again"] += 1
        elif twice:
            where = f"{name.id} ({sent.get(name)} and {own.get(name)})"
            verdict.violated("archived twice, never sent again", where)
        if not message.acknowledged:
            figures["never acknowledged"] += not message.refused
            continue
        if message.refused:
            figures["refused with an error, and archived all the same"] += name in own
            continue
        figures["acknowledged"] += 1
        if name not in sent:
            verdict.violated("acknowledged, not in the sender's archive", name.id)
        if name not in own:
            verdict.violated("acknowledged, not in the recipient's archive", name.id)
            if number not in arrived:
                verdict.violated("acknowledged, neither received nor in the recipient's archive", name.id)
        if number not in arrived:
            figures["acknowledged, only in the archive"] += 1
        elif not message.again:
            for arrival in arrived[number]:
                if arrival.archive_id is not None and arrival.archive_id not in own.get(name, ()):
                    text = f"{name.id}: {arrival.archive_id}, archived as {own.get(name)}"
                    verdict.violated("received under an id that the archive does not have", text)


def _was_sent(name: Name | None, account: str, history: History) -> bool:
    """Is there such a message, and has the account to do with it?"""
    conversation = None if name is None else history.conversations.get(name.conversation)
    if name is None or conversation is None or name.number >= len(conversation.messages):
        return False
    return account in (conversation.sender, conversation.recipient)


def _ids_out_of_order(arrivals: Iterable[Arrival]) -> Iterable[tuple[Arrival, Arrival]]:
    """Live messages of one session that came after one with a higher id in the archive, each with that one.

    This holds for what was sent again too: ids say in which order the server took the messages.
    """
    highest: dict[tuple[int, str], Arrival] = {}
    seen: set[tuple[int, str | None]] = set()
    for arrival in arrivals:
        key = (arrival.session, arrival.archive_id)
        if arrival.name is None or arrival.archive_id is None or arrival.delayed or key in seen:
            continue
        seen.add(key)
        place = (arrival.session, arrival.name.conversation)
        top = highest.get(place)
        if top is None or _number(arrival.archive_id) > _number(top.archive_id):
            highest[place] = arrival
        else:
            yield arrival, top


def _number(archive_id: str | None) -> int:
    """The id as a number; -1 for what is none."""
    try:
        return int(archive_id or "-1", 32)
    except ValueError:
        return -1


def _out_of_order(names: Iterable[Name | None]) -> Iterable[tuple[Name, Name]]:
    """Those whose first occurrence comes after that of a later one, each with that one.

    A message that was sent again may turn up again: only where it is seen first counts.
    """
    highest: dict[str, int] = {}
    seen: set[Name] = set()
    for name in names:
        if name is None or name in seen:
            continue
        seen.add(name)
        top = highest.get(name.conversation, -1)
        if name.number < top:
            yield name, Name(name.conversation, top)
        else:
            highest[name.conversation] = name.number
