"""Offline messages in a document of XEP-0227: each with the time at which the server has kept it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from twisted.words.xish import domish

from dynxmpp.jid import JID, InvalidJID
from dynxmpp.protocol.delay import DELAY_KEY, NS_DELAY, delays, without_delays_by
from dynxmpp.protocol.timestamps import format_utc
from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.parse import parse_stanza
from dynxmpp.wire.stanza import Stanza

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message as it is stored: without the <delay/> of its server."""

    sent_at: datetime
    data: bytes

    @property
    def microseconds(self) -> int:
        """`sent_at`, since 1970."""
        return (self.sent_at - _EPOCH) // timedelta(microseconds=1)

    def canonical(self) -> tuple[datetime, bytes]:
        """What is the same for all spellings of it."""
        stanza = parse_stanza(self.data)
        attributes = dict(sorted(stanza.attributes.items(), key=str))
        return self.sent_at, Stanza.of_children(stanza.name, attributes, stanza.children, stanza.uri).to_bytes()

    def printed(self, server: str) -> bytes:
        """The <message/> of a document; `server` has kept it."""
        stamp = format_utc(self.sent_at, 6)
        delay = f"<delay xmlns='{NS_DELAY}' from='{escape.attribute(server)}' stamp='{stamp}'/>"
        stanza = without_delays_by(parse_stanza(self.data), server)
        return stanza.appended(delay.encode(), DELAY_KEY).to_bytes(embedded=True)


def read_message(element: domish.Element, server: str, now: float) -> KeptMessage:
    """The message that an element is; without any time it is from `now`, seconds since 1970.

    Raises ValueError for what is no message with a sender.
    """
    if (element.uri, element.name) != (NS_CLIENT, "message"):
        raise ValueError(f"{element.name} is no message")
    stanza = Stanza.from_element(element)
    try:
        JID.parse(stanza.attributes.get("from", ""))
    except InvalidJID as error:
        raise ValueError(f"no sender: {error}") from error
    told = delays(stanza)
    by_server = [delay for delay in told if delay.by == server] or told
    sent_at = by_server[0].stamp if by_server else datetime.fromtimestamp(now, UTC)
    return KeptMessage(sent_at, without_delays_by(stanza, server).to_bytes())
