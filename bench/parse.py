"""What a message costs between two sockets: domish's tree there and back, against StanzaStream and its bytes.

Each message gets a `from`, as a server must do it. CPU time, best of some runs; run it on a quiet machine:

    python bench/parse.py
"""

import time
from collections.abc import Callable

from twisted.words.xish import domish

from dynxmpp.wire.stream import StanzaStream, StreamLimits

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='montague.example'>"
MESSAGE = (
    b"<message to='romeo@montague.example/orchard' type='chat' id='ktx72v49' xml:lang='en'>"
    b"<body>Art thou not Romeo, and a Montague? Wherefore art thou here?</body>"
    b"<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>"
    b"<thread>e0ffe42b28561960c6b1</thread></message>"
)
SENDER = "juliet@capulet.example/balcony"
MESSAGES = 10_000
RUNS = 7


def domish_parser(out: list[bytes]) -> Callable[[bytes], object]:
    """Takes bytes, puts out what would be sent on: by domish."""

    def on_element(element: domish.Element) -> None:
        element["from"] = SENDER
        out.append(element.toXml(defaultUri="jabber:client").encode())

    stream = domish.ExpatElementStream()
    stream.DocumentStartEvent = stream.DocumentEndEvent = lambda *args: None
    stream.ElementEvent = on_element
    return stream.parse


def stanza_parser(out: list[bytes]) -> Callable[[bytes], object]:
    """The same by StanzaStream."""

    def on_element(stanza: domish.Element) -> None:
        stanza.attributes["from"] = SENDER
        out.append(stanza.to_bytes())

    stream = StanzaStream(StreamLimits())
    stream.DocumentStartEvent = lambda root: None
    stream.DocumentEndEvent = lambda: None
    stream.ElementEvent = on_element
    return stream.parse


def microseconds(make: Callable[[list[bytes]], Callable[[bytes], object]], at_once: int) -> float:
    """CPU time of one message, `at_once` in a read."""
    best = float("inf")
    for _ in range(RUNS):
        out: list[bytes] = []
        parse = make(out)
        parse(HEADER)
        data = MESSAGE * at_once
        begin = time.process_time()
        for _ in range(MESSAGES // at_once):
            parse(data)
        best = min(best, time.process_time() - begin)
        assert len(out) == MESSAGES // at_once * at_once
    return best / MESSAGES * 1e6


def main() -> None:
    print(f"a message of {len(MESSAGE)} bytes, us of CPU")
    print("a read   domish   StanzaStream   ratio")
    for at_once in (1, 5):
        by_domish, by_stanza = microseconds(domish_parser, at_once), microseconds(stanza_parser, at_once)
        print(f"{at_once:6}   {by_domish:6.1f}   {by_stanza:12.1f}   {by_domish / by_stanza:5.1f}")


if __name__ == "__main__":
    main()
