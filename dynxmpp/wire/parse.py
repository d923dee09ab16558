"""One stanza out of stored bytes."""

from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.ns import NS_CLIENT, NS_STREAMS
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StanzaStream, StreamLimits

_HEADER = f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='{NS_STREAMS}'>".encode()
#: What is stored was within the bounds of a stream when it came in; adding to it may have made it a little larger.
_LIMITS = StreamLimits(max_stanza_size=1 << 30, max_depth=1000, max_attributes=1000, max_elements=1_000_000)


def parse_stanza(data: bytes) -> Stanza:
    """The stanza that `data` spells, as `Stanza.to_bytes()` printed it. Raises StreamError for something else."""
    found: list[Stanza] = []
    stream = StanzaStream(_LIMITS)
    stream.DocumentStartEvent = lambda root: None
    stream.DocumentEndEvent = lambda: None
    stream.ElementEvent = found.append
    try:
        stream.parse(_HEADER)
        stream.parse(data)
        if len(found) != 1 or stream.has_unread:
            raise StreamError("not-well-formed", "Not one whole stanza")
    finally:
        stream.close()  # the parser and the stream refer to each other
    return found[0]
