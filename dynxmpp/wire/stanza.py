"""A stanza that remembers its bytes.

To everybody who wants one it is a `domish.Element`. To the path of a message it is an open tag, made from the
attributes, and the inner bytes as they came in: a tree costs 27 us to build and 11.5 us to print, a slice next to
nothing.

The rules that keep both views one:

- `children` (and what domish builds on it: `elements()`, `addElement()`, `stanza.body` ...) hands out the tree. Who has
  it may change it, so from then on the stanza is printed from the tree: always right, no longer fast.
- `child()` and `has_child()` look without taking: the tree they show must not be changed, the bytes stay in force.
- Attributes may be set at any time.
- A stanza on its way is not changed by those who see it pass; `with_attributes()`, `without()` and `appended()` make
  a new one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.words.xish import domish

from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_CLIENT
from dynxmpp.wire.tree import SEPARATOR, parse_children, print_children

#: No prefixes. Never changed, although its type (domish's) would let one.
NO_PREFIXES: dict[str, str] = {}
_END_TAGS = {"message": b"</message>", "presence": b"</presence>", "iq": b"</iq>"}


def qualified(uri: str, name: str) -> str:
    """The key of an element name: what `has_child` takes, and what handlers are registered under."""
    return f"{uri}{SEPARATOR}{name}" if uri else name


def _keys_of(children: list[Any], uri: str, inherited: str | None = None, blank: str = "") -> tuple[str, ...]:
    """The qualified names of the elements among `children`, inside an element of namespace `uri`.

    Namespace None stands for `inherited` (or `uri`), and "" for `blank`.
    """
    if any(isinstance(child, domish.SerializedXML) for child in children):
        printed = print_children(children, "" if blank else uri, inherited)
        children = parse_children(printed.encode(), uri, NO_PREFIXES)
    if inherited is None:
        inherited = uri
    return tuple(
        qualified(inherited if child.uri is None else child.uri or blank, child.name)
        for child in children
        if not isinstance(child, str)
    )


class Stanza(domish.Element):
    """One element at depth 1 of a stream: a message, presence or iq, or a nonza.

    `localPrefixes` are the prefixes that the inner bytes rely on; they are declared on the open tag.
    """

    name: str
    uri: str
    attributes: dict[Any, str]

    def __init__(
        self,
        name: str,
        attributes: dict[Any, str] | None = None,
        inner: bytes = b"",
        child_keys: tuple[str, ...] = (),
        uri: str = NS_CLIENT,
        prefixes: dict[str, str] = NO_PREFIXES,
    ) -> None:
        """`inner` is well-formed content with `uri` as its default namespace; `child_keys` must say what is in it."""
        # domish's own __init__ is not called: it would put a list where `children` is made on demand.
        self.name = name
        self.uri = self.defaultUri = uri
        self.attributes = {} if attributes is None else attributes
        self.localPrefixes = prefixes
        self.parent = None
        self._inner: bytes = inner
        self._keys = child_keys
        self._tree: list[Any] | None = None
        self._given = False

    @classmethod
    def from_element(cls, element: domish.Element) -> "Stanza":
        """The stanza that `element` spells; a copy unless it is one already.

        Namespaces None and "" are what a client's stream makes of them: jabber:client.
        """
        if isinstance(element, Stanza):
            return element
        attributes = {key: value for key, value in element.attributes.items() if value is not None}
        children = element.children
        inner = print_children(children, element.uri or "", element.defaultUri).encode()
        if element.uri:
            keys = _keys_of(children, element.uri, element.defaultUri)
        else:
            keys = _keys_of(children, NS_CLIENT, element.defaultUri or None, blank=NS_CLIENT)
        return cls(element.name, attributes, inner, keys, element.uri or NS_CLIENT, dict(element.localPrefixes))

    @classmethod
    def of_children(
        cls,
        name: str,
        attributes: dict[Any, str],
        children: list[Any],
        uri: str,
        prefixes: dict[str, str] = NO_PREFIXES,
    ) -> "Stanza":
        """A stanza whose content is what `children` (texts and elements) spell."""
        inner = print_children(children, uri).encode()
        return cls(name, attributes, inner, _keys_of(children, uri), uri, prefixes)

    # -- the tree

    @property
    def children(self) -> list[Any]:
        """The children, to do with as one likes: from now on they are what the stanza consists of."""
        tree = self._parsed()
        if not self._given:
            self._given = True
            for child in tree:
                if not isinstance(child, str):
                    child.parent = self
        return tree

    @children.setter
    def children(self, children: list[Any]) -> None:
        self._tree = children
        self._given = True

    def _parsed(self) -> list[Any]:
        if self._tree is None:
            self._tree = parse_children(self._inner, self.uri, self.localPrefixes)
        return self._tree

    def __getattr__(self, key: str) -> Any:
        """The first child element of that name, or None: `stanza.body`, as domish has it."""
        if key.startswith("__"):
            # Python, copy and zope.interface ask for such names; that is no reason to hand out the tree.
            raise AttributeError(key)
        return super().__getattr__(key)

    @property
    def child_keys(self) -> tuple[str, ...]:
        """The qualified names of the child elements, in order."""
        if self._given:
            return _keys_of(self._parsed(), self.uri)
        return self._keys

    def child(self, uri: str, name: str) -> domish.Element | None:
        """The first child element of that name, to look at and not to change."""
        if self._given or qualified(uri, name) in self._keys:
            for element in self._parsed():
                if isinstance(element, str) or element.name != name:
                    continue
                if uri == (self.uri if element.uri is None else element.uri):
                    return element
        return None

    def has_child(self, key: str) -> bool:
        """Is there a child element with this qualified name?"""
        return key in (self.child_keys if self._given else self._keys)

    def child_elements(self) -> Iterable[domish.Element]:
        """The child elements, to look at and not to change."""
        return [element for element in self._parsed() if not isinstance(element, str)]

    def character_data(self) -> str:
        """The character data directly inside, without that of child elements."""
        return "".join(child for child in self._parsed() if isinstance(child, str))

    def copy_tree(self) -> domish.Element:
        """A tree of its own for those who change what they are given (wokkel's Stanza.parseElement does)."""
        copy = domish.Element((self.uri, self.name), self.uri, dict(self.attributes), dict(self.localPrefixes))
        for child in parse_children(self.inner(), self.uri, self.localPrefixes):
            copy.addChild(child)
        return copy

    # -- the bytes

    def inner(self) -> bytes:
        """The content as bytes, in the default namespace `uri` and with `localPrefixes` declared."""
        if not self._given:
            return self._inner
        return print_children(self._parsed(), self.uri).encode()

    def to_bytes(self, embedded: bool = False) -> bytes:
        """The whole stanza. `embedded` says that it will stand where jabber:client is not the default namespace."""
        inner = self._inner if not self._given else self.inner()
        namespace = self.uri if embedded or self.uri != NS_CLIENT else None
        if inner:
            tag = escape.open_tag(self.name, self.attributes, self.localPrefixes, namespace)
            return b"".join((tag.encode(), inner, _END_TAGS.get(self.name) or f"</{self.name}>".encode()))
        return escape.open_tag(self.name, self.attributes, self.localPrefixes, namespace, "/>").encode()

    def toXml(
        self,
        prefixes: Any = None,
        closeElement: int = 1,
        defaultUri: str = "",
        prefixesInScope: Any = None,
    ) -> str:
        """As domish has it. The arguments for prefixes matter to trees only: a stanza declares what it needs itself."""
        embedded = defaultUri != self.uri
        if closeElement:
            return self.to_bytes(embedded).decode()
        return escape.open_tag(self.name, self.attributes, self.localPrefixes, self.uri if embedded else None)

    # -- stanzas made from this one

    def with_attributes(self, changes: Mapping[str, str | None]) -> "Stanza":
        """The same content under other attributes; None takes one away."""
        attributes = dict(self.attributes)
        for key, value in changes.items():
            if value is None:
                attributes.pop(key, None)
            else:
                attributes[key] = value
        return Stanza(self.name, attributes, self.inner(), self.child_keys, self.uri, self.localPrefixes)

    def emptied(self) -> "Stanza":
        """A stanza with the same attributes and no content."""
        return Stanza(self.name, dict(self.attributes), uri=self.uri)

    def without(self, unwanted: Callable[[domish.Element], bool]) -> "Stanza":
        """The same stanza without the child elements that `unwanted` says yes to; itself when there are none."""
        if not any(unwanted(child) for child in self.child_elements()):
            return self
        kept = [node for node in self.copy_tree().children if isinstance(node, str) or not unwanted(node)]
        return Stanza.of_children(self.name, dict(self.attributes), kept, self.uri)

    def appended(self, child: bytes, key: str) -> "Stanza":
        """The same stanza with one more child element at its end; `child` declares its own namespaces."""
        return Stanza(
            self.name,
            dict(self.attributes),
            self.inner() + child,
            (*self.child_keys, key),
            self.uri,
            self.localPrefixes,
        )
