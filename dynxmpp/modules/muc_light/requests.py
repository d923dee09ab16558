"""What clients ask of rooms and of their service, read from the payloads of IQs.

What is malformed is refused as a whole: bad-request, with a text. Elements of other namespaces, and attributes that
nothing is known of, are passed over.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, InvalidJID, StanzaError
from dynxmpp.modules.muc_light.room import Affiliation
from dynxmpp.modules.muc_light.room_config import RoomSchema, text_of

#: Entries of one list in a request.
MAX_CHANGES: Final = 1000

_AFFILIATIONS: Final = {affiliation.text: affiliation for affiliation in Affiliation}


class Blocked(IntEnum):
    """What somebody does not want to be added to, or by; the numbers stand in the database."""

    ROOM = 1
    USER = 2

    @property
    def text(self) -> str:
        """The name of its element."""
        return self.name.lower()


_BLOCKED: Final = {kind.text: kind for kind in Blocked}
_ACTIONS: Final = {"deny": True, "allow": False}


@dataclass(frozen=True, slots=True)
class Create:
    """A room that is wanted: texts by internal key as far as given, and who shall be in it besides the creator."""

    config: dict[str, str]
    occupants: dict[JID, Affiliation]


@dataclass(frozen=True, slots=True)
class BlockingItem:
    """`deny` puts somebody or a room on the list, and takes him off it when False."""

    kind: Blocked
    jid: JID
    deny: bool


def read_create(payload: domish.Element, schema: RoomSchema) -> Create:
    """<configuration/> and <occupants/>, both optional, in any order. Raises StanzaError."""
    parts: dict[str, domish.Element] = {}
    for element in _entries(payload):
        if element.name not in ("configuration", "occupants"):
            raise _unexpected(element)
        if element.name in parts:
            raise _bad_request(f"More than one element {element.name}")
        parts[element.name] = element
    configuration, occupants = parts.get("configuration"), parts.get("occupants")
    return Create(
        {} if configuration is None else schema.read(_entries(configuration)),
        {} if occupants is None else _users(occupants),
    )


def read_configuration(payload: domish.Element, schema: RoomSchema) -> dict[str, str]:
    """The fields that shall change: texts by internal key. Raises StanzaError, also for a request without any."""
    return schema.read(_some_entries(payload))


def read_affiliations(payload: domish.Element) -> dict[JID, Affiliation]:
    """What shall become of whom, in the request's order. Raises StanzaError, also for a request without anybody."""
    _some_entries(payload)
    return _users(payload)


def read_version(payload: domish.Element) -> str:
    """The version that a client has: "" when it has none. Raises StanzaError."""
    elements = _entries(payload)
    for element in elements:
        if element.name != "version":
            raise _unexpected(element)
    if len(elements) > 1:
        raise _bad_request("More than one element version")
    return _text(elements[0]) if elements else ""


def read_blocking(payload: domish.Element) -> list[BlockingItem]:
    """What goes on or off the sender's list, in the request's order. Raises StanzaError, also for an empty request."""
    items = []
    for element in _some_entries(payload):
        kind = _BLOCKED.get(element.name)
        if kind is None:
            raise _unexpected(element)
        action = element.getAttribute("action")
        if action not in _ACTIONS:
            raise _bad_request("The action must be deny or allow")
        items.append(BlockingItem(kind, _address(element), _ACTIONS[action]))
    return items


def _users(parent: domish.Element) -> dict[JID, Affiliation]:
    users: dict[JID, Affiliation] = {}
    for element in _entries(parent):
        if element.name != "user":
            raise _unexpected(element)
        affiliation = _AFFILIATIONS.get(element.getAttribute("affiliation"))
        if affiliation is None:
            raise _bad_request("The affiliation must be owner, member or none")
        jid = _address(element)
        if jid in users:
            raise _bad_request("Cannot change affiliation for the same user twice in the same request")
        users[jid] = affiliation
    return users


def _address(element: domish.Element) -> JID:
    """The bare address of an account or room that is the text of an element; clients give the full one too."""
    try:
        jid = JID.parse(_text(element)).to_bare()
    except InvalidJID:
        raise _bad_request("Not an address") from None
    if jid.local is None:
        raise _bad_request("Not the address of an account or a room")
    return jid


def _text(element: domish.Element) -> str:
    text = text_of(element)
    if text is None:
        raise _bad_request(f"Elements inside of {element.name}")
    return text


def _entries(parent: domish.Element) -> list[domish.Element]:
    """The child elements of the parent's own namespace. They are counted before anything is done with them."""
    entries = [child for child in parent.elements() if child.uri == parent.uri]
    if len(entries) > MAX_CHANGES:
        raise _bad_request(f"More than {MAX_CHANGES} entries")
    return entries


def _some_entries(payload: domish.Element) -> list[domish.Element]:
    entries = _entries(payload)
    if not entries:
        raise _bad_request("An empty request")
    return entries


def _unexpected(element: domish.Element) -> StanzaError:
    return _bad_request(f"Unexpected element {element.name}")


def _bad_request(text: str) -> StanzaError:
    return StanzaError("bad-request", text=text)
