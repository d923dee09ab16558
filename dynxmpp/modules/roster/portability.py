"""Rosters on their way to another server and from there: XEP-0227, "Rosters" and "Incoming Subscription Requests"."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, Imported, InvalidJID, NotImported, Stanza
from dynxmpp.modules.roster.items import MAX_GROUPS, MAX_NAME, AccountRoster, RosterItem
from dynxmpp.modules.roster.store import Rosters
from dynxmpp.modules.roster.subscriptions import kept
from dynxmpp.protocol.subscription import Facts, State
from dynxmpp.wire.ns import NS_CLIENT, NS_ROSTER
from dynxmpp.wire.parse import parse_stanza

IMPORTED: Final = (
    Imported.of(NS_ROSTER, "query", "contacts", in_parts=True),
    Imported.of(NS_CLIENT, "presence", "requests"),
)


async def printed_roster(rosters: Rosters, account: JID) -> AsyncIterator[bytes]:
    """The items as a client gets them, then the requests that wait for an answer."""
    yield f"<query xmlns='{NS_ROSTER}'>\n".encode()
    async for items in rosters.pages(account, requests=False):
        yield "".join(item.to_xml() + "\n" for item in items).encode()
    yield b"</query>\n"
    async for items in rosters.pages(account, requests=True):
        requests = [parse_stanza(item.request) for item in items if item.request is not None]
        yield b"".join(request.to_bytes(embedded=True) + b"\n" for request in requests)


class Merging:
    """What an element adds to a roster: contacts that are not there, and subscriptions that are not."""

    def __init__(self, account: JID, max_items: int, max_requests: int) -> None:
        self._account = account
        self._max_items = max_items
        self._max_requests = max_requests
        self._misread: list[str] = []
        self._refused: list[str] = []
        self.wanted: list[RosterItem] = []

    def read(self, element: domish.Element) -> bool:
        """Takes an element in; False if it is neither a roster nor a request."""
        if element.uri == NS_ROSTER:
            for item in element.elements():
                self._read(item)
        elif element.getAttribute("type") == "subscribe":
            self._read_request(element)
        else:
            return False
        return True

    def check(self) -> None:
        """Raises NotImported for what was left out."""
        if problems := self._misread + self._refused:
            raise NotImported(*problems)

    def _read(self, item: domish.Element) -> None:
        address = item.getAttribute("jid", "")
        try:
            self.wanted.append(_item(self._contact(address), item))
        except InvalidJID as error:
            self._misread.append(f"contact {address[:60]!r}: {error}")
        except ValueError as error:
            self._misread.append(f"contact {address[:60]}: {error}")

    def _read_request(self, presence: domish.Element) -> None:
        address = presence.getAttribute("from", "")
        try:
            contact = self._contact(address)
        except ValueError as error:
            self._misread.append(f"request of {address[:60]!r}: {error}")
            return
        addresses = {"from": contact.full, "to": self._account.bare}
        request = kept(Stanza.from_element(presence).with_attributes(addresses))
        self.wanted.append(RosterItem(contact, state=State.NONE_PENDING_IN, request=request))

    def _contact(self, address: str) -> JID:
        contact = JID.parse(address).to_bare()
        if contact == self._account:
            raise ValueError("nobody is a contact of himself")
        return contact

    def changes(self, roster: AccountRoster) -> list[RosterItem]:
        """The items that are to be written, each contact once."""
        self._refused = []
        changed: dict[str, RosterItem] = {}
        room = _Room(self._max_items - len(roster.listed), self._max_requests - len(roster.requests))
        for wanted in self.wanted:
            before = changed.get(wanted.contact.full) or roster.get(wanted.contact)
            after = merged(before, wanted)
            if after == before:
                continue
            reason = room.take(before, after)
            if reason:
                self._refused.append(f"contact {wanted.contact.full}: {reason}")
            else:
                changed[wanted.contact.full] = after
        return list(changed.values())


@dataclass
class _Room:
    """How many more items and requests a roster may have."""

    items: int
    requests: int

    def take(self, before: RosterItem, after: RosterItem) -> str:
        """Makes room for a change; gives the reason why there is none, or ""."""
        item = after.listed and not before.listed
        request = after.request is not None and before.request is None
        if item and self.items <= 0:
            return "more contacts than an account may have"
        if request and self.requests <= 0:
            return "more requests than an account may have"
        self.items -= item
        self.requests -= request
        return ""


def merged(before: RosterItem, wanted: RosterItem) -> RosterItem:
    """What both say. A contact that is in the roster keeps its name and groups."""
    one, other = before.state.value, wanted.state.value
    to, from_ = one.to or other.to, one.from_ or other.from_
    request = None if from_ else before.request or wanted.request
    state = State(Facts(to, from_, (one.pending_out or other.pending_out) and not to, request is not None))
    shown = before if before.listed else wanted
    return replace(
        before,
        name=shown.name,
        groups=shown.groups,
        state=state,
        listed=before.listed or wanted.listed,
        request=request,
    )


def _item(contact: JID, item: domish.Element) -> RosterItem:
    """Raises ValueError for what cannot be an item."""
    if item.name != "item" or item.uri != NS_ROSTER:
        raise ValueError(f"{item.name} is no item")
    name = item.getAttribute("name", "")
    groups = tuple(dict.fromkeys(str(child) for child in item.elements() if child.name == "group" and str(child)))
    if len(name) > MAX_NAME or len(groups) > MAX_GROUPS or any(len(group) > MAX_NAME for group in groups):
        raise ValueError("a name that is too long, or too many groups")
    subscription = item.getAttribute("subscription", "none")
    ask = item.getAttribute("ask") == "subscribe" and subscription not in ("to", "both")
    state = State.of(subscription, ask=ask, pending_in=False)
    return RosterItem(contact, name, groups, state, listed=True)
