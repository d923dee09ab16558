"""The only place that escapes: texts, attributes, open tags.

White space in attribute values is escaped too, because a parser on the other side would normalise it (XML 1.0 3.3.3).
Characters that XML 1.0 does not have (2.2: most control characters, surrogates, U+FFFE and U+FFFF) cannot be escaped;
one of them would end the peer's stream. They go out as U+FFFD, the replacement character.
"""

import re
from collections.abc import Mapping
from typing import cast

from dynxmpp.wire.ns import NS_XML

#: Attribute names as domish keeps them: plain, or (namespace, name).
AttributeName = str | tuple[str, str]

_NOT_XML = [*range(0x20), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF]
_TEXT: dict[int, str] = {
    **dict.fromkeys(_NOT_XML, "\ufffd"),
    ord("\t"): "\t",
    ord("\n"): "\n",
    **str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}),
}
_ATTRIBUTE: dict[int, str] = {
    **_TEXT,
    **str.maketrans({"'": "&apos;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;"}),
}
# Most values need no escaping; a search that finds nothing costs less than the replacements (0.15 against 0.6 us).
_in_text = re.compile("[\x00-\x08\x0b-\x1f&<>\ud800-\udfff\ufffe\uffff]").search
_in_attribute = re.compile("[\x00-\x1f&<>'\"\ud800-\udfff\ufffe\uffff]").search


def attribute(value: str) -> str:
    """`value` as it may stand between single quotes."""
    return value.translate(_ATTRIBUTE) if _in_attribute(value) else value


def text(value: str) -> str:
    """`value` as character data."""
    return value.translate(_TEXT) if _in_text(value) else value


def open_tag(
    name: str,
    attributes: Mapping[AttributeName, str],
    prefixes: Mapping[str, str],
    namespace: str | None = None,
    end: str = ">",
) -> str:
    """`<name ...>`: the default namespace when one is given, the prefixes' declarations, then the attributes."""
    parts = [f"<{name}"]
    if namespace is not None:
        parts.append(f" xmlns='{attribute(namespace)}'")
    if prefixes:
        parts.extend(f" xmlns:{prefix}='{attribute(uri)}'" for prefix, uri in prefixes.items())
    # One search for all values: 0.3 us less for the five of a message.
    plain = not _in_attribute("".join(attributes.values()))
    for key, value in attributes.items():
        if not plain:
            value = value.translate(_ATTRIBUTE)
        if type(key) is str:
            parts.append(f" {key}='{value}'")
        else:
            parts.append(f"{_qualified(cast(tuple[str, str], key), prefixes, len(parts))}='{value}'")
    parts.append(end)
    return "".join(parts)


def _qualified(key: tuple[str, str], prefixes: Mapping[str, str], position: int) -> str:
    """The name of an attribute that has a namespace, with the declaration that it may need in front."""
    uri, name = key
    if uri == NS_XML:
        return f" xml:{name}"
    if not uri:
        return f" {name}"
    for prefix, declared in prefixes.items():
        if declared == uri:
            return f" {prefix}:{name}"
    # A prefix of our own must be none of the declared ones: it is longer than each of them.
    prefix = "n" * (1 + max(map(len, prefixes), default=0)) + str(position)
    return f" xmlns:{prefix}='{attribute(uri)}' {prefix}:{name}"
