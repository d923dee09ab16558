"""XEP-0203 Delayed Delivery, version 2.0: when a stanza was sent that is delivered only now, and who kept it."""

from dataclasses import dataclass
from datetime import datetime

from twisted.words.xish import domish

from dynxmpp.protocol.timestamps import InvalidTimestamp, format_utc, parse_utc
from dynxmpp.wire import escape
from dynxmpp.wire.stanza import Stanza, qualified

NS_DELAY = "urn:xmpp:delay"
#: What `Stanza.has_child` takes.
DELAY_KEY = qualified(NS_DELAY, "delay")


@dataclass(frozen=True, slots=True)
class Delay:
    """What a <delay/> says. `by` is the entity that kept the stanza (its `from`), `reason` a text for people."""

    stamp: datetime
    by: str | None = None
    reason: str = ""

    def to_bytes(self) -> bytes:
        """The element, which declares its own namespace; the stamp in milliseconds."""
        attributes: dict[escape.AttributeName, str] = {"stamp": format_utc(self.stamp, 3)}
        if self.by is not None:
            attributes["from"] = self.by
        if not self.reason:
            return escape.open_tag("delay", attributes, {}, NS_DELAY, "/>").encode()
        return f"{escape.open_tag('delay', attributes, {}, NS_DELAY)}{escape.text(self.reason)}</delay>".encode()

    def to_element(self) -> domish.Element:
        """The element as a tree."""
        element = domish.Element((NS_DELAY, "delay"))
        element["stamp"] = format_utc(self.stamp, 3)
        if self.by is not None:
            element["from"] = self.by
        if self.reason:
            element.addContent(self.reason)
        return element


def delays(stanza: Stanza) -> list[Delay]:
    """What the <delay/> elements of a stanza say, in order; those without a valid stamp say nothing."""
    if not stanza.has_child(DELAY_KEY):
        return []
    found = (_read(child) for child in stanza.child_elements() if child.uri == NS_DELAY and child.name == "delay")
    return [delay for delay in found if delay is not None]


def _read(element: domish.Element) -> Delay | None:
    try:
        stamp = parse_utc(element.getAttribute("stamp", ""))
    except InvalidTimestamp:
        return None
    return Delay(stamp, element.getAttribute("from"), str(element).strip())


def delayed(stanza: Stanza, delay: Delay) -> Stanza:
    """`stanza` with a <delay/>, of which it has one and only one by the same entity (section 2).

    One by another entity stays: a room may have kept what we keep once more. One by `delay.by` that is in already is
    forged (section 5: a recipient's server discards what claims to be its own) and is replaced.
    """
    if stanza.has_child(DELAY_KEY):
        stanza = without_delays_by(stanza, delay.by)
    return stanza.appended(delay.to_bytes(), DELAY_KEY)


def without_delays_by(stanza: Stanza, by: str | None) -> Stanza:
    """`stanza` without the <delay/> elements that claim to be by this entity; itself when there is none."""
    return stanza.without(lambda child: _is_delay_by(child, by))


def _is_delay_by(element: domish.Element, by: str | None) -> bool:
    return bool(element.uri == NS_DELAY and element.name == "delay" and element.getAttribute("from") == by)
