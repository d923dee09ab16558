"""Addresses in a document when its domain arrives under another name.

Accounts of the old domain become those of the new one wherever an address stands that the server goes by: in contacts,
blocked addresses, archive preferences, and in messages as sender and recipient. What users have written stays as it is,
cards and private data too, and so do addresses below the domain, such as those of its rooms.
"""

from collections.abc import Callable, Mapping
from typing import Final

from twisted.words.xish import domish

from dynxmpp.jid import InvalidJID, prepare_domain
from dynxmpp.wire.ns import NS_CLIENT, NS_ROSTER

__all__ = ["renaming"]

_NS_BLOCKING: Final = "urn:xmpp:blocking"
#: Attributes that are addresses, by namespace and name of the element.
_ATTRIBUTES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (NS_ROSTER, "item"): ("jid",),
    (NS_CLIENT, "message"): ("from", "to"),
    (NS_CLIENT, "presence"): ("from", "to"),
    (_NS_BLOCKING, "item"): ("jid",),
    ("jabber:iq:privacy", "item"): ("value",),
    ("urn:xmpp:delay", "delay"): ("from",),
    ("urn:xmpp:sid:0", "stanza-id"): ("by",),
}
#: Elements whose text is an address.
_TEXTS: Final = frozenset(
    {
        ("urn:xmpp:mam:2", "jid"),
        ("urn:xmpp:mam:1", "jid"),
        ("urn:xmpp:muclight:0#blocking", "user"),
    }
)
#: What users have stored, whatever is in it.
_OPAQUE: Final = frozenset({("vcard-temp", "vCard"), ("jabber:iq:private", "query")})


def renaming(old: str, new: str) -> Callable[[domish.Element], None]:
    """Renames in a child of <user/>; `old` and `new` are prepared names."""

    def renamed(address: str) -> str:
        bare, slash, resource = address.partition("/")
        local, at, domain = bare.rpartition("@")
        return f"{local}{at}{new}{slash}{resource}" if _is_called(domain, old) else address

    def rename(element: domish.Element) -> None:
        name = (element.uri or "", element.name)
        for attribute in _ATTRIBUTES.get(name, ()):
            if element.hasAttribute(attribute):
                element[attribute] = renamed(element[attribute])
        if name in _TEXTS:
            text = "".join(child for child in element.children if isinstance(child, str))
            element.children = [renamed(text.strip())]
        for child in element.elements():
            rename(child)

    def rename_child(element: domish.Element) -> None:
        if old != new and (element.uri, element.name) not in _OPAQUE:
            rename(element)

    return rename_child


def _is_called(domain: str, name: str) -> bool:
    """Is `domain`, in whatever spelling, the domain with this prepared name?"""
    try:
        return prepare_domain(domain) == name
    except InvalidJID:
        return False
