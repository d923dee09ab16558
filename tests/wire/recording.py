"""A StanzaStream with what it handed out, the same by domish, and a form in which elements can be compared."""

from collections.abc import Iterable
from typing import Any

from twisted.words.xish import domish

from dynxmpp.wire.errors import StreamError
from dynxmpp.wire.stanza import Stanza
from dynxmpp.wire.stream import StanzaStream, StreamLimits

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.com'>"


class Recorder:
    """A stream whose owner writes down what happens: "start", "end", stanzas."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.stream = StanzaStream(limits or StreamLimits())
        self.stream.DocumentStartEvent = self._start
        self.stream.ElementEvent = self.element
        self.stream.DocumentEndEvent = lambda: self.events.append("end")
        self.events: list[Any] = []
        self.root: domish.Element = domish.Element((None, "none"))

    def _start(self, root: domish.Element) -> None:
        self.root = root
        self.events.append("start")

    def element(self, stanza: Stanza) -> None:
        self.events.append(stanza)

    @property
    def stanzas(self) -> list[Stanza]:
        return [event for event in self.events if isinstance(event, Stanza)]

    @property
    def names(self) -> list[str]:
        """The events as texts, stanzas by their names."""
        return [event.name if isinstance(event, Stanza) else event for event in self.events]

    def feed(self, *pieces: bytes) -> str | None:
        """Parses the pieces; the condition of the stream error that stopped it, or None."""
        try:
            for piece in pieces:
                self.stream.parse(piece)
        except StreamError as error:
            return error.condition
        return None


def each_byte(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def pieces_of(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def one_stanza(text: str) -> Stanza:
    """The stanza that a client's stream makes of `text`."""
    recorder = Recorder()
    assert recorder.feed(HEADER, text.encode()) is None
    (stanza,) = recorder.stanzas
    return stanza


class ByDomish:
    """What Twisted's own element stream makes of the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.elements: list[domish.Element] = []
        self.root: domish.Element = domish.Element((None, "none"))
        self.ended = False
        stream = domish.ExpatElementStream()
        stream.DocumentStartEvent = self._start
        stream.ElementEvent = self.elements.append
        stream.DocumentEndEvent = self._end
        stream.parse(data)

    def _start(self, root: domish.Element) -> None:
        self.root = root

    def _end(self) -> None:
        self.ended = True


def domish_child(data: bytes, header: bytes = HEADER) -> domish.Element:
    """The element that `data` spells inside of `header`, by domish."""
    (element,) = ByDomish(header + data).elements
    return element


def canonical(node: Any) -> Any:
    """What an element says, however it is spelled: adjacent texts are one, the order of attributes does not count."""
    if isinstance(node, Stanza):
        node = node.copy_tree()
    children: list[Any] = []
    for child in node.children:
        if not isinstance(child, str):
            children.append(canonical(child))
        elif children and isinstance(children[-1], str):
            children[-1] += child
        elif child:
            children.append(child)
    return node.uri, node.name, dict(node.attributes), children
