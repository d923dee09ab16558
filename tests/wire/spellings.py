"""Strategies: streams and stanzas as text, in the many ways in which XML lets one spell the same thing."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

#: Prefixes in scope with their namespaces; the default namespace under "".
Scope = dict[str, str]

NAMES = st.sampled_from(["body", "x", "query", "to", "type", "a-b", "a.b", "_u", "ключ", "é2"])
PREFIXES = ["a", "b", "c", "stream", "n1", "nn2", "ж"]
URIS = st.sampled_from(["jabber:client", "urn:a", "urn:b", "urn:ü", "urn:a&b'\"<>", "http://etherx.jabber.org/streams"])
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n", "  \n "])
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"}
_XML_CHARACTERS = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[chr(c) for c in range(0x20) if c not in (9, 10, 13)] + ["\ufffe", "\uffff"],
)
TEXTS = st.text(st.sampled_from("<>&'\"]\t\n\r aé😀") | _XML_CHARACTERS, max_size=8)


def _hexadecimal(text: str) -> str:
    return "".join(f"&#x{ord(c):x};" for c in text)


def _decimal(text: str) -> str:
    return "".join(f"&#0{ord(c)};" for c in text)


def _entities(text: str) -> str:
    return "".join(_ENTITIES.get(c, c) for c in text)


def _raw(text: str) -> str:
    """As little escaped as is allowed, wherever it may follow: a "]]>" may come about over a border."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    bare = text.lstrip("]>")
    return _hexadecimal(text[: len(text) - len(bare)]) + bare.replace("]]>", "]]&gt;")


def _cdata(text: str) -> str:
    return f"<![CDATA[{text.replace(']]>', ']] >')}]]>"


CONTENT_STYLES: list[Callable[[str], str]] = [_raw, _raw, _entities, _hexadecimal, _decimal, _cdata]
VALUE_STYLES: list[Callable[[str], str]] = [_entities, _hexadecimal, _decimal]


@st.composite
def contents(draw: st.DrawFn) -> str:
    """Character data."""
    return "".join(draw(st.sampled_from(CONTENT_STYLES))(draw(TEXTS)) for _ in range(draw(st.integers(1, 2))))


@st.composite
def values(draw: st.DrawFn, text: str | None = None) -> str:
    """An attribute's value with its quotes."""
    if text is None:
        text = draw(TEXTS)
    quote = draw(st.sampled_from("'\""))
    style = draw(st.integers(0, 4))
    if style < len(VALUE_STYLES):
        return f"{quote}{VALUE_STYLES[style](text)}{quote}"
    # What must be escaped and nothing else: ">" and the other quote stay.
    for character in ("&", "<", quote):
        text = text.replace(character, _ENTITIES[character])
    return f"{quote}{text}{quote}"


@st.composite
def tags(draw: st.DrawFn, scope: Scope, prefixes: list[str]) -> tuple[str, str, Scope]:
    """(name with prefix, "name attributes", scope inside) of a start tag."""
    scope = dict(scope)
    parts = []
    for prefix in draw(st.lists(st.sampled_from(prefixes), unique=True, max_size=2)):
        scope[prefix] = draw(URIS)
        parts.append(f"xmlns:{prefix}{draw(SPACES)}={draw(values(scope[prefix]))}")
    if draw(st.integers(0, 3)) == 0:
        scope[""] = draw(URIS | st.just(""))
        parts.append(f"xmlns={draw(values(scope['']))}")
    bound = sorted(prefix for prefix in scope if prefix)
    seen = set()
    for _ in range(draw(st.integers(0, 3))):
        prefix, name = draw(st.sampled_from(["", "", "xml", *bound])), draw(NAMES)
        key = (scope.get(prefix, prefix) if prefix else "", name)
        if key not in seen:
            seen.add(key)
            qualified = f"{prefix}:{name}" if prefix else name
            parts.append(f"{qualified}{draw(SPACES)}={draw(SPACES)}{draw(values())}")
    prefix, name = draw(st.sampled_from(["", "", "", *bound])), draw(NAMES)
    name = f"{prefix}:{name}" if prefix else name
    spelled = "".join(f" {draw(SPACES)}{part}" for part in draw(st.permutations(parts)))
    return name, f"{name}{spelled}{draw(SPACES)}", scope


@st.composite
def elements(draw: st.DrawFn, scope: Scope, depth: int = 3) -> str:
    """An element where these namespaces are in scope."""
    name, tag, inside = draw(tags(scope, PREFIXES))
    end = f"</{name}{draw(SPACES)}>"
    content = draw(st.integers(0, 3)) if depth else draw(st.integers(0, 1))
    if content == 0:
        return draw(st.sampled_from([f"<{tag}/>", f"<{tag}>{end}"]))
    parts = []
    for _ in range(content):
        if depth and draw(st.booleans()):
            parts.append(draw(elements(inside, depth - 1)))
        else:
            parts.append(draw(contents()))
    return f"<{tag}>{''.join(parts)}{end}"


@dataclass(frozen=True)
class Spelled:
    """A stream: its header, then stanzas with white space around them, perhaps its end."""

    header: str
    stanzas: tuple[str, ...]
    rest: str

    @property
    def data(self) -> bytes:
        return (self.header + "".join(self.stanzas) + self.rest).encode()


@st.composite
def streams(draw: st.DrawFn, most: int = 4) -> Spelled:
    """A whole stream of up to `most` stanzas."""
    name, tag, scope = draw(tags({"": ""}, ["stream", "a", "b"]))
    declaration = draw(st.sampled_from(["", "<?xml version='1.0'?>", "<?xml version='1.0' encoding=\"UTF-8\" ?>\n"]))
    stanzas = tuple(f"{draw(SPACES)}{draw(elements(scope))}" for _ in range(draw(st.integers(1, most))))
    rest = draw(SPACES) + draw(st.sampled_from(["", f"</{name}>"]))
    return Spelled(f"{declaration}<{tag}>", stanzas, rest)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces."""
    if draw(st.integers(0, 4)) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
