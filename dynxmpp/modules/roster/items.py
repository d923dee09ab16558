"""Roster items in memory and as XML: RFC 6121 2.1, and what a client may ask for (2.3.3)."""

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.words.xish import domish

from dynxmpp.module import JID, InvalidJID, StanzaError
from dynxmpp.protocol.subscription import State
from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_ROSTER

#: Characters of a name, and of a group's name; groups of one item. RFC 6121 2.3.3 leaves the numbers to the server.
MAX_NAME = 1023
MAX_GROUPS = 100


@dataclass(frozen=True, slots=True)
class RosterItem:
    """What an account knows of one contact."""

    #: A bare JID.
    contact: JID
    name: str = ""
    groups: tuple[str, ...] = ()
    state: State = State.NONE
    #: Is it in the roster that clients see? A contact that has only asked for a subscription is not.
    listed: bool = False
    #: The stanza by which the contact has asked, as long as it is not answered; printed with its addresses.
    request: bytes | None = None
    #: The roster's version when this item changed last.
    version: int = 0

    def to_xml(self) -> str:
        """The <item/>, to stand inside a <query/> of jabber:iq:roster."""
        attributes: dict[escape.AttributeName, str] = {"jid": self.contact.full}
        if self.name:
            attributes["name"] = self.name
        attributes["subscription"] = self.state.subscription
        if self.state.ask:
            attributes["ask"] = "subscribe"
        if not self.groups:
            return escape.open_tag("item", attributes, {}, end="/>")
        groups = "".join(f"<group>{escape.text(group)}</group>" for group in self.groups)
        return f"{escape.open_tag('item', attributes, {})}{groups}</item>"


class AccountRoster:
    """The roster of one account, as it is committed. Changed by its store only."""

    __slots__ = ("_subscribed_to", "_subscribers", "account", "items", "removed", "version")

    def __init__(self, account: JID, version: int, removed: int, items: Iterable[RosterItem]) -> None:
        """`version` is 0 for a roster that was never written; `removed` is that of the last removal, or the first."""
        self.account = account
        self.version = version
        self.removed = removed
        self.items = {item.contact.full: item for item in items}
        self._subscribers: tuple[JID, ...] | None = None
        self._subscribed_to: tuple[JID, ...] | None = None

    def get(self, contact: JID) -> RosterItem:
        """What is known of a contact's bare JID; an item that is not listed when there is nothing."""
        return self.items.get(contact.bare) or RosterItem(contact.to_bare())

    def put(self, item: RosterItem, removed: int) -> None:
        """Takes in an item that was written."""
        self.items[item.contact.full] = item
        self._move_on(item.version, removed)

    def remove(self, item: RosterItem, version: int, removed: int) -> None:
        """Takes out an item that was erased."""
        self.items.pop(item.contact.full, None)
        self._move_on(version, removed)

    def _move_on(self, version: int, removed: int) -> None:
        self.version, self.removed = version, removed
        self._subscribers = self._subscribed_to = None

    @property
    def listed(self) -> list[RosterItem]:
        """What clients see."""
        return [item for item in self.items.values() if item.listed]

    @property
    def requests(self) -> list[RosterItem]:
        """The contacts whose requests are not answered yet."""
        return [item for item in self.items.values() if item.request is not None]

    @property
    def subscribers(self) -> tuple[JID, ...]:
        """The contacts that get this account's presence."""
        if self._subscribers is None:
            self._subscribers = tuple(item.contact for item in self.items.values() if item.state.value.from_)
        return self._subscribers

    @property
    def subscribed_to(self) -> tuple[JID, ...]:
        """The contacts whose presence this account gets."""
        if self._subscribed_to is None:
            self._subscribed_to = tuple(item.contact for item in self.items.values() if item.state.value.to)
        return self._subscribed_to

    def changed_since(self, version: int) -> list[RosterItem] | None:
        """The listed items that changed after `version`, oldest change first; None when that cannot be told.

        What was removed leaves no trace but the version of the last removal (XEP-0237 4.3).
        """
        if not self.removed <= version <= self.version:
            return None
        return sorted((item for item in self.listed if item.version > version), key=lambda item: item.version)


@dataclass(frozen=True, slots=True)
class RosterSet:
    """What a client wants of one item."""

    contact: JID
    name: str
    groups: tuple[str, ...]
    remove: bool


def read_set(query: domish.Element) -> RosterSet:
    """The one item of a roster set. Raises StanzaError as RFC 6121 2.3.3 has it."""
    items = [child for child in query.elements() if child.name == "item" and child.uri == NS_ROSTER]
    if len(items) != 1:
        raise StanzaError("bad-request", text="Exactly one item")
    (item,) = items
    try:
        contact = JID.parse(item.attributes["jid"])
    except KeyError:
        raise StanzaError("bad-request", text="An item without an address") from None
    except InvalidJID:
        raise StanzaError("jid-malformed") from None
    if not contact.is_bare:
        raise StanzaError("bad-request", text="A contact is a bare JID")
    if item.attributes.get("subscription") == "remove":
        return RosterSet(contact, "", (), remove=True)
    name = item.attributes.get("name", "")
    if len(name) > MAX_NAME:
        raise StanzaError("not-acceptable", text=f"A name has at most {MAX_NAME} characters")
    return RosterSet(contact, name, _read_groups(item), remove=False)


def _read_groups(item: domish.Element) -> tuple[str, ...]:
    groups = [str(child) for child in item.elements() if child.name == "group" and child.uri == NS_ROSTER]
    if len(set(groups)) != len(groups):
        raise StanzaError("bad-request", text="A group is named twice")
    if not all(0 < len(group) <= MAX_NAME for group in groups):
        raise StanzaError("not-acceptable", text=f"A group's name has 1 to {MAX_NAME} characters")
    if len(groups) > MAX_GROUPS:
        raise StanzaError("not-acceptable", text=f"An item has at most {MAX_GROUPS} groups")
    return tuple(groups)
