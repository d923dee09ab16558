"""XEP-0085 Chat State Notifications: telling what says no more than that somebody is typing."""

from collections.abc import Collection

from dynxmpp.protocol.hints import HINT_PREFIX
from dynxmpp.protocol.stanza_id import NS_SID
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.stanza import qualified

NS_CHAT_STATES = "http://jabber.org/protocol/chatstates"
CHAT_STATE_PREFIX = NS_CHAT_STATES + " "
_THREAD = qualified(NS_CLIENT, "thread")
#: Says nothing by itself: the ids of XEP-0359 and hints.
_BESIDE = (CHAT_STATE_PREFIX, HINT_PREFIX, NS_SID + " ")


def is_content(key: str) -> bool:
    """Does a child of a message say more than a chat state, a thread or a hint does?"""
    return key != _THREAD and not key.startswith(_BESIDE)


def is_standalone(keys: Collection[str]) -> bool:
    """Is a message with these children a standalone notification (section 2): a chat state and nothing else?"""
    return any(key.startswith(CHAT_STATE_PREFIX) for key in keys) and not any(map(is_content, keys))
