"""Which messages are worth an archive."""

from dynxmpp.module import Stanza, qualified
from dynxmpp.modules.mam.retraction import request_of
from dynxmpp.protocol.hints import NO_STORAGE, NO_STORE, STORE
from dynxmpp.wire.ns import NS_CLIENT

_NS_MARKERS = "urn:xmpp:chat-markers:0"

_WANTED = frozenset({qualified(NS_CLIENT, "body"), STORE})
_MARKERS = frozenset(qualified(_NS_MARKERS, name) for name in ("received", "displayed", "acknowledged"))
_HINTS_AGAINST = (NO_STORE, NO_STORAGE)
#: By name alone: what was stored somewhere before, and what an archive has answered.
_SECOND_HAND = (" delay", " result")
_SECOND_HAND_BLANK = ("delay", "result")


class Archivable:
    """The test of a message, whatever archive it is for. `markers`: chat markers (XEP-0333) are worth it too."""

    def __init__(self, *, markers: bool) -> None:
        self._wanted = _WANTED | _MARKERS if markers else _WANTED

    def __call__(self, stanza: Stanza, *, groupchat: bool = False) -> bool:
        """Is it to be kept? `groupchat` says whether one of that type may be. Types that nobody knows are normal."""
        type_ = stanza.attributes.get("type")
        if type_ in ("error", "headline") or (type_ == "groupchat" and not groupchat):
            return False
        wanted = False
        for key in stanza.child_keys:
            if key in self._wanted:
                wanted = True
            elif key in _HINTS_AGAINST or key.endswith(_SECOND_HAND) or key in _SECOND_HAND_BLANK:
                return False
        return wanted or request_of(stanza) is not None
