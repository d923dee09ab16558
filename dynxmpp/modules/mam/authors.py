"""Who wrote what is in a room's archive, and who may know (XEP-0313 6.1.2).

A message is kept with the author's full address in it, in an <x/> of XEP-0045 that the room has put at its end. Only
the author gets it back: that resource is nobody else's business.
"""

from typing import Final

from dynxmpp.module import JID, qualified
from dynxmpp.protocol.carbon import NS_MUC_USER
from dynxmpp.wire.parse import parse_stanza

_X: Final = qualified(NS_MUC_USER, "x")
_OPENING: Final = f"<x xmlns='{NS_MUC_USER}'>"
_MESSAGE_END: Final = "</message>"
_END: Final = f"</x>{_MESSAGE_END}"


def shown_to(reader: JID, stanza: str, source: str) -> str:
    """A stored message as `reader` may see it; `source` is `room/nick`, where the nick may be the author's address."""
    if NS_MUC_USER not in stanza or source.partition("/")[2] in (reader.bare, reader.full):
        return stanza
    start = stanza.rfind(_OPENING)
    if start >= 0 and stanza.endswith(_END) and stanza.count(NS_MUC_USER) == 1:
        return stanza[:start] + _MESSAGE_END
    stored = parse_stanza(stanza.encode())
    if stored.has_child(_X):
        stored = stored.without(lambda child: child.uri == NS_MUC_USER)
    return stored.to_bytes(embedded=True).decode()
