"""XEP-0359 Unique and Stable Stanza IDs, version 0.7.0: <stanza-id/> of archives, <origin-id/> of clients."""

import re

from twisted.words.xish import domish

from dynxmpp.jid import JID, InvalidJID
from dynxmpp.wire import escape
from dynxmpp.wire.stanza import Stanza, qualified

NS_SID = "urn:xmpp:sid:0"
#: What `Stanza.has_child` takes.
STANZA_ID_KEY = qualified(NS_SID, "stanza-id")
ORIGIN_ID_KEY = qualified(NS_SID, "origin-id")
#: Characters of an origin-id; a longer one is none.
MAX_ORIGIN_ID = 256

#: The open tag of an <origin-id/> up to its `id`: a value of another attribute is passed over as a whole.
_find_id = re.compile(
    rb"""<origin-id(?:\s+[^\s=]+\s*=\s*(?:'[^']*'|"[^"]*"))*?\s+id\s*=\s*(?:'([^'&\s]*)'|"([^"&\s]*)")"""
).search


def stanza_id(by: str, id_: str) -> bytes:
    """The element of an id that `by` has given, which declares its own namespace."""
    return f"<stanza-id xmlns='{NS_SID}' by='{escape.attribute(by)}' id='{escape.attribute(id_)}'/>".encode()


def with_stanza_id(stanza: Stanza, by: str, id_: str) -> Stanza:
    """`stanza` with one more <stanza-id/>; those that claim to be by the same entity must have been taken out."""
    return stanza.appended(stanza_id(by, id_), STANZA_ID_KEY)


def without_stanza_ids(stanza: Stanza, by: str) -> Stanza:
    """`stanza` without the <stanza-id/> elements that claim to be by this entity; itself when there is none.

    Section 5: who gives ids deletes those that it has not given, even where it adds none.
    """
    if not stanza.has_child(STANZA_ID_KEY):
        return stanza
    return stanza.without(lambda child: _is_stanza_id(child, by))


def stanza_id_by(stanza: Stanza, by: str) -> str | None:
    """The id that `by` has given a stanza; trustworthy where forged ones have been taken out."""
    if stanza.has_child(STANZA_ID_KEY):
        for child in stanza.child_elements():
            if _is_stanza_id(child, by):
                return child.getAttribute("id")
    return None


def _is_stanza_id(element: domish.Element, by: str) -> bool:
    if element.uri != NS_SID or element.name != "stanza-id":
        return False
    claimed = element.getAttribute("by", "")
    try:
        return bool(claimed == by or JID.parse(claimed).full == by)  # another spelling of the same address
    except InvalidJID:
        return False


def origin_id(stanza: Stanza) -> str | None:
    """The id that the sender's client has given, None without one or when it is longer than MAX_ORIGIN_ID.

    Taken from the bytes where they leave no doubt, for most clients send one with every message.
    """
    if not stanza.has_child(ORIGIN_ID_KEY):
        return None
    inner = stanza.inner()
    if inner.count(b"<origin-id") == 1 and b":origin-id" not in inner and b"<![CDATA[" not in inner:
        match = _find_id(inner)
        if match is not None:
            return _bounded((match[1] or match[2] or b"").decode())
    element = stanza.child(NS_SID, "origin-id")
    return None if element is None else _bounded(element.getAttribute("id", ""))


def _bounded(id_: str) -> str | None:
    return id_ if 0 < len(id_) <= MAX_ORIGIN_ID else None
