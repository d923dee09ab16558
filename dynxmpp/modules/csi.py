"""XEP-0352 Client State Indication, version 1.0.0: a client that nobody looks at is not woken for what can wait.

What can wait is presence and standalone chat states (XEP-0085), of which only the last word of each sender counts.
Anything else goes at once, after what was held: a client never sees a message before the presence that came before it.
Receipts and displayed markers go too: they are rare while nobody looks, and nothing would make up for a lost one.
"""

from twisted.words.xish import domish

from dynxmpp.config.model import IntOrInfinity, non_negative
from dynxmpp.module import (
    Module,
    Section,
    Session,
    Stanza,
    Xep,
    bind_inline,
    nonza,
    option,
    qualified,
    section,
)
from dynxmpp.protocol.carbon import NS_MUC_USER, copied_message, is_carbon
from dynxmpp.protocol.chat_states import NS_CHAT_STATES, is_standalone

NS_CSI = "urn:xmpp:csi:0"
_MUC_USER = qualified(NS_MUC_USER, "x")

#: What a later stanza replaces: the kind, who sent it, and in a copy the addresses of what was copied.
Subject = tuple[str, ...]


@section
class CsiConfig(Section):
    """[modules.mod_csi]: `buffer_max` stanzas are held for an inactive client; one more, and all of them go."""

    buffer_max: IntOrInfinity = option(default=20, check=non_negative)


class Csi(Module):
    """Holds back what can wait for inactive clients."""

    name = "mod_csi"
    xep = Xep(352, "1.0.0")
    config_model = CsiConfig
    stream_features = (f"<csi xmlns='{NS_CSI}'/>".encode(),)
    bind_features = (NS_CSI,)

    @nonza(NS_CSI, "inactive")
    def on_inactive(self, session: Session, element: Stanza) -> None:
        self._deactivate(session)

    @nonza(NS_CSI, "active")
    def on_active(self, session: Session, element: Stanza) -> None:
        self._activate(session)

    @bind_inline(NS_CSI, "inactive")
    def on_bind_inactive(self, session: Session, element: domish.Element) -> None:
        """XEP-0386: the session begins in this state."""
        self._deactivate(session)

    @bind_inline(NS_CSI, "active")
    def on_bind_active(self, session: Session, element: domish.Element) -> None:
        self._activate(session)

    def session_resumed(self, session: Session) -> None:
        """Section 5.2: a resumed stream begins active."""
        self._activate(session)

    def _deactivate(self, session: Session) -> None:
        if Csi not in session.slots:
            held = session.slots[Csi] = Held(session, self.config.buffer_max)
            session.gate = held.take

    def _activate(self, session: Session) -> None:
        held: Held | None = session.slots.pop(Csi, None)
        if held is not None:
            session.gate = None
            held.release()


class Held:
    """What is held back for one inactive session, in order; the gate of that session."""

    def __init__(self, session: Session, maximum: float) -> None:
        self._session = session
        self._maximum = maximum
        self._stanzas: dict[Subject, tuple[Stanza, bytes]] = {}

    def take(self, stanza: Stanza, data: bytes) -> bool:
        """Holds a stanza that can wait; releases all before one that cannot."""
        subject = subject_of(stanza)
        if subject is None:
            if self._stanzas:
                self.release()
            return False
        # To the end, so that what one sender says stays in order.
        self._stanzas.pop(subject, None)
        self._stanzas[subject] = (stanza, data)
        if len(self._stanzas) > self._maximum:
            self.release()
        return True

    def release(self) -> None:
        """Sends what was held."""
        stanzas, self._stanzas = self._stanzas, {}
        for stanza, data in stanzas.values():
            self._session.send(stanza, data)


def subject_of(stanza: Stanza) -> Subject | None:
    """What a stanza is the last word on; None for one that cannot wait."""
    if stanza.name == "presence":
        return _presence_of(stanza)
    if stanza.name != "message":
        return None
    keys = stanza.child_keys
    if is_standalone(keys):
        return ("state", stanza.attributes.get("from", ""))
    if is_carbon(keys):
        return _copied_state_of(stanza)
    return None


def _presence_of(stanza: Stanza) -> Subject | None:
    """Of whom it says where they are. Not of occupants of rooms: who joins waits for that, and each says something."""
    if stanza.attributes.get("type") not in (None, "unavailable") or stanza.has_child(_MUC_USER):
        return None
    return ("presence", stanza.attributes.get("from", ""))


def _copied_state_of(carbon: Stanza) -> Subject | None:
    """In which conversation a copy (XEP-0280) says a chat state and nothing else."""
    inner = carbon.inner()
    if NS_CHAT_STATES.encode() not in inner or b"<body" in inner:
        return None  # most copies are of messages with a text, and need no parsing
    message = copied_message(carbon)
    if message is None or not is_standalone([qualified(child.uri, child.name) for child in message.elements()]):
        return None
    # With the sender of the copy: one that is forged must not replace one that is not.
    addresses = message.getAttribute("from", ""), message.getAttribute("to", "")
    return ("state", carbon.attributes.get("from", ""), *addresses)
