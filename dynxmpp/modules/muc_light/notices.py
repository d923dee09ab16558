"""What members are told, what the archive keeps of it, and the payloads of answers: bytes, printed once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dynxmpp.module import JID, Stanza, qualified
from dynxmpp.modules.muc_light.names import (
    AFFILIATIONS_KEY,
    BODY_KEY,
    CONFIGURATION_KEY,
    DESTROY_KEY,
    NS_AFFILIATIONS,
    NS_BLOCKING,
    NS_CONFIGURATION,
    NS_DESTROY,
    NS_INFO,
    NS_MUC_USER,
)
from dynxmpp.modules.muc_light.requests import Blocked
from dynxmpp.modules.muc_light.room import Affiliation, Changes, Room
from dynxmpp.modules.muc_light.room_config import RoomSchema
from dynxmpp.wire import escape


@dataclass(frozen=True, slots=True)
class Content:
    """Of a <message/>, in the default namespace jabber:client; `keys` are the qualified names of what is in it."""

    inner: bytes
    keys: tuple[str, ...]


_AFFILIATIONS_KEYS: Final = (AFFILIATIONS_KEY, BODY_KEY)
_CONFIGURATION_KEYS: Final = (CONFIGURATION_KEY, BODY_KEY)
_DESTROY_KEYS: Final = (DESTROY_KEY, AFFILIATIONS_KEY, BODY_KEY)

#: The open tag of a <user/>, and all of an author's element up to the address: looked up, not made each time.
_USER: Final = {affiliation: f"<user affiliation='{affiliation.text}'>" for affiliation in Affiliation}
_AUTHOR: Final = {
    affiliation: f"<x xmlns='{NS_MUC_USER}'><item affiliation='{affiliation.text}' role='{role}' jid='"
    for affiliation, role in ((Affiliation.OWNER, "moderator"), (Affiliation.MEMBER, "participant"))
}


def affiliations_notice(changes: Changes, *, version: str | None = None, previous: str | None = None) -> Content:
    """Who has become what. Without versions for who is no member any more, without `previous` for a new one."""
    versions = f"{_element('prev-version', previous)}{_element('version', version)}"
    inner = f"<x xmlns='{NS_AFFILIATIONS}'>{versions}{_users(changes)}</x><body/>"
    return Content(inner.encode(), _AFFILIATIONS_KEYS)


def configuration_notice(fields: bytes, *, version: str, previous: str) -> Content:
    """Which fields have changed: as `RoomSchema.printed` gives them."""
    versions = f"{_element('prev-version', previous)}{_element('version', version)}"
    inner = b"<x xmlns='%b'>%b%b</x><body/>" % (NS_CONFIGURATION.encode(), versions.encode(), fields)
    return Content(inner, _CONFIGURATION_KEYS)


def destroy_notice(member: JID) -> Content:
    """The room is no more, and neither is `member` in it."""
    gone = _users({member: Affiliation.NONE})
    inner = f"<x xmlns='{NS_DESTROY}'/><x xmlns='{NS_AFFILIATIONS}'>{gone}</x><body/>"
    return Content(inner.encode(), _DESTROY_KEYS)


def message(content: Content, *, room: JID, to: JID | None, id_: str) -> Stanza:
    """The message of a room to a member; without `to` as it is archived."""
    attributes = {"id": id_, "type": "groupchat", "from": room.full}
    if to is not None:
        attributes["to"] = to.full
    return Stanza("message", attributes, content.inner, content.keys)


def author(affiliation: Affiliation, sender: JID) -> bytes:
    """How the archive keeps who wrote a message (XEP-0313 5.1.2): `sender` is the full address of a member."""
    return f"{_AUTHOR[affiliation]}{escape.attribute(sender.full)}'/></x>".encode()


# -- answers


def configuration_answer(room: Room, schema: RoomSchema) -> Stanza:
    """All fields, and the version."""
    config = schema.filled(room.config)
    inner = _element("version", room.version).encode() + schema.printed(config)
    keys = (qualified(NS_CONFIGURATION, "version"), *schema.child_keys(config, NS_CONFIGURATION))
    return _query(NS_CONFIGURATION, inner, keys)


def affiliations_answer(room: Room) -> Stanza:
    """All members in their order, and the version."""
    inner = f"{_element('version', room.version)}{_users(room.members)}".encode()
    users = (qualified(NS_AFFILIATIONS, "user"),) * len(room.members)
    return _query(NS_AFFILIATIONS, inner, (qualified(NS_AFFILIATIONS, "version"), *users))


def info_answer(room: Room, schema: RoomSchema) -> Stanza:
    """All fields, all members, and the version."""
    inner = b"%b<configuration>%b</configuration><occupants>%b</occupants>" % (
        _element("version", room.version).encode(),
        schema.printed(schema.filled(room.config)),
        _users(room.members).encode(),
    )
    return _query(NS_INFO, inner, tuple(qualified(NS_INFO, name) for name in ("version", "configuration", "occupants")))


def blocking_answer(items: Iterable[tuple[Blocked, JID]]) -> Stanza:
    """What is on a list, in its order."""
    parts, keys = [], []
    for kind, jid in items:
        name = kind.text
        parts.append(f"<{name} action='deny'>{escape.text(jid.full)}</{name}>")
        keys.append(qualified(NS_BLOCKING, name))
    return _query(NS_BLOCKING, "".join(parts).encode(), tuple(keys))


def _query(uri: str, inner: bytes, keys: tuple[str, ...]) -> Stanza:
    return Stanza("query", {}, inner, keys, uri)


def _element(name: str, text: str | None) -> str:
    return "" if text is None else f"<{name}>{escape.text(text)}</{name}>"


def _users(affiliations: Changes) -> str:
    return "".join(f"{_USER[affiliation]}{escape.text(jid.full)}</user>" for jid, affiliation in affiliations.items())
