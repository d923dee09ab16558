"""What a wokkel handler sees as its stream: one in-process stream per host type.

A handler registers XPath observers on it, as it would on a socket's stream. The usual form
(`/iq[@type='get']/query[@xmlns='...']`) becomes a key that costs one look-up; any other observer is tried in turn, on
the slow path, for stanzas that nothing else has taken. What a handler sends is routed.
"""

import re
from collections.abc import Callable
from typing import Any

from twisted.words.xish import domish, utility, xpath

from dynxmpp.wire.stanza import qualified

Send = Callable[[domish.Element], None]
Observer = Callable[..., object]

# "/iq[@type='get']/query[@xmlns='jabber:iq:version']", with either quote, as the handlers of wokkel write it.
_IQ_PATH = re.compile(r"""/iq\[@type=["'](get|set)["']\]/([A-Za-z][\w.-]*)\[@xmlns=["']([^"']+)["']\]$""").match
# "/iq[@type='get']/*[...]" and other alternatives are joined with "|".
_ALTERNATIVES = re.compile(r"\s*\|\s*")


def iq_keys(path: str) -> list[tuple[str, str]] | None:
    """(type, qualified payload name) of each IQ that `path` matches, or None when it is of another form."""
    keys = []
    for alternative in _ALTERNATIVES.split(path):
        match = _IQ_PATH(alternative)
        if match is None:
            return None
        type_, name, uri = match.groups()
        keys.append((type_, qualified(uri, name)))
    return keys


class VirtualStream(utility.EventDispatcher):
    """Stands where wokkel expects an XmlStream; `thisEntity` and the like are those of no single peer, hence absent."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send
        self.iq_observers: dict[tuple[str, str], Observer] = {}
        self.has_general_observers = False

    def addObserver(self, event: Any, observerfn: Observer, priority: int = 0, *args: Any, **kwargs: Any) -> None:
        text = event.queryStr if isinstance(event, xpath.XPathQuery) else event
        keys = iq_keys(text) if not args and not kwargs else None
        if keys is None:
            self._note_general(text)
            super().addObserver(event, observerfn, priority, *args, **kwargs)
            return
        for key in keys:
            self.iq_observers[key] = observerfn

    def addOnetimeObserver(
        self, event: Any, observerfn: Observer, priority: int = 0, *args: Any, **kwargs: Any
    ) -> None:
        text = event.queryStr if isinstance(event, xpath.XPathQuery) else event
        self._note_general(text)
        super().addOnetimeObserver(event, observerfn, priority, *args, **kwargs)

    def _note_general(self, text: str) -> None:
        if not text.startswith(self.prefix):  # named events have nothing to do with stanzas
            self.has_general_observers = True

    def removeObserver(self, event: Any, observerfn: Observer) -> None:
        text = event.queryStr if isinstance(event, xpath.XPathQuery) else event
        keys = iq_keys(text)
        if keys is None:
            super().removeObserver(event, observerfn)
            return
        for key in keys:
            if self.iq_observers.get(key) == observerfn:  # another handler's stays
                del self.iq_observers[key]

    def send(self, obj: domish.Element) -> None:
        """Routes what a handler sends; texts cannot be routed."""
        if not domish.IElement.providedBy(obj):
            raise TypeError("only elements can be sent on a virtual stream")
        self._send(obj)

    def take(self, stanza: domish.Element) -> bool:
        """Shows `stanza`, a tree of its own, to the general observers; True when one of them has handled it."""
        tree: Any = stanza
        tree.handled = False  # as XmlStream does; else a child of this name would pass for it
        self.dispatch(tree)
        return bool(tree.handled)
