"""XEP-0280 Message Carbons: which messages are copied (section 6.1), and how a copy is wrapped (XEP-0297)."""

from collections.abc import Collection

from twisted.words.xish import domish

from dynxmpp.protocol.chat_states import CHAT_STATE_PREFIX
from dynxmpp.protocol.hints import NO_COPY
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.stanza import Stanza, qualified

NS_CARBONS = "urn:xmpp:carbons:2"
NS_FORWARD = "urn:xmpp:forward:0"
NS_MUC_USER = "http://jabber.org/protocol/muc#user"

RECEIVED = qualified(NS_CARBONS, "received")
SENT = qualified(NS_CARBONS, "sent")
PRIVATE = qualified(NS_CARBONS, "private")

_BODY = qualified(NS_CLIENT, "body")
_DIRECT_INVITATION = qualified("jabber:x:conference", "x")
_MUC_USER = qualified(NS_MUC_USER, "x")
#: Receipts (XEP-0184), chat states (XEP-0085), displayed markers (XEP-0333).
_INSTANT_MESSAGING = ("urn:xmpp:receipts ", CHAT_STATE_PREFIX, "urn:xmpp:chat-markers:0 ")


def is_carbon(keys: Collection[str]) -> bool:
    """Has a message with these children a copy in it, whoever made it?"""
    return RECEIVED in keys or SENT in keys


def is_eligible(stanza: Stanza, *, from_full_jid: bool) -> bool:
    """Is this message to be copied? `from_full_jid`: it is being received, and from a full JID.

    Not for errors: whether the message that they answer was eligible is not in them.
    """
    keys = stanza.child_keys
    type_ = stanza.attributes.get("type")
    if type_ in ("groupchat", "error") or PRIVATE in keys or NO_COPY in keys or is_carbon(keys):
        return False
    if _DIRECT_INVITATION in keys:
        return True
    if _MUC_USER in keys:
        if _is_mediated_invitation(stanza):
            return True
        if from_full_jid:  # a private message in a room; the room sends it to each client that has joined
            return False
    if type_ == "chat" or (type_ != "headline" and _BODY in keys):
        return True
    return any(key.startswith(_INSTANT_MESSAGING) for key in keys)


def _is_mediated_invitation(stanza: Stanza) -> bool:
    x = stanza.child(NS_MUC_USER, "x")
    return x is not None and next(x.elements(NS_MUC_USER, "invite"), None) is not None


def wrapper(stanza: Stanza, account: str, *, sent: bool) -> Stanza:
    """The copy of `stanza` for a session of `account` (a bare JID), still without its `to`."""
    name, key = (b"sent", SENT) if sent else (b"received", RECEIVED)
    attributes = {"from": account}
    type_ = stanza.attributes.get("type")
    if type_ is not None:
        attributes["type"] = type_
    content = b"<%b xmlns='%b'><forwarded xmlns='%b'>%b</forwarded></%b>" % (
        name,
        NS_CARBONS.encode(),
        NS_FORWARD.encode(),
        stanza.to_bytes(embedded=True),
        name,
    )
    return Stanza("message", attributes, content, (key,))


def copied_message(carbon: Stanza) -> domish.Element | None:
    """The message inside of a copy, to look at and not to change; None when there is none."""
    copy = carbon.child(NS_CARBONS, "sent" if carbon.has_child(SENT) else "received")
    if copy is None:
        return None
    forwarded = next(copy.elements(NS_FORWARD, "forwarded"), None)
    return None if forwarded is None else next(forwarded.elements(NS_CLIENT, "message"), None)
