"""The configuration of rooms, by the schema that the server's configuration gives (spec: `config_schema`).

A field has a name on the wire and an internal key, which is the name unless said otherwise. Configurations are kept and
handed around as texts by internal key, in the one spelling that a value has.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, StanzaError, qualified
from dynxmpp.modules.muc_light.config import RoomField
from dynxmpp.wire import escape

Value = str | int | float | bool

#: The internal key of the field that a room is called by.
ROOM_NAME: Final = "roomname"

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_FLOAT: Final = re.compile(r"[+-]?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?").fullmatch
#: Characters that XML 1.0 does not have (2.2).
_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]").search
_LARGEST: Final = 2**63


class _Misfit(ValueError):
    """A field that the schema does not have, or a value of another type; the text says which."""


def text_of(element: domish.Element) -> str | None:
    """The text of an element, "" when it is empty; None when there are elements in it."""
    children = element.children
    if any(not isinstance(child, str) for child in children):
        return None
    return "".join(children)


def _string(text: str) -> str | None:
    return None if _NOT_XML(text) else text


def _integer(text: str) -> int | None:
    """64 bits, as integers of the server's configuration have."""
    if not _INTEGER(text):
        return None
    value = int(text)
    return value if -_LARGEST <= value < _LARGEST else None


def _float(text: str) -> float | None:
    """A finite one."""
    if not _FLOAT(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


_BOOLEANS: Final = {"true": True, "false": False}
#: From a text to a value of that type; None for a text that spells none.
_READERS: Final[Mapping[type, Callable[[str], Value | None]]] = {
    str: _string,
    int: _integer,
    float: _float,
    bool: _BOOLEANS.get,
}


def _spelled(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    key: str
    type: type
    default: str

    def value(self, text: str) -> Value | None:
        """What `text` spells; None when that is no value of this field."""
        return _READERS[self.type](text)

    def accepted(self, text: str | None) -> str:
        """The one spelling of what `text` spells. Raises _Misfit."""
        value = None if text is None else self.value(text)
        if value is None:
            raise _Misfit(f"{self.name}:type_error")
        return _spelled(value)

    def stored(self, config: Mapping[str, str]) -> str:
        """The text in a room's configuration; the default when it is missing, or of another type than it was once."""
        text = config.get(self.key)
        return self.default if text is None or self.value(text) is None else text

    def typed(self, config: Mapping[str, str]) -> Value:
        """The value in a room's configuration, or the default."""
        value = self.value(self.stored(config))
        return self.default if value is None else value


class RoomSchema:
    """The fields that rooms have, in their order."""

    def __init__(self, fields: tuple[RoomField, ...]) -> None:
        self._by_name: dict[str, _Field] = {}
        self._by_key: dict[str, _Field] = {}
        for declared in fields:
            default = declared.value
            assert default is not None, f"{declared.field} has no default"
            key = declared.internal_key or declared.field
            field = _Field(declared.field, key, type(default), _spelled(default))
            self._by_name[field.name] = self._by_key[key] = field

    def read(self, elements: Iterable[domish.Element]) -> dict[str, str]:
        """What a request sets: internal key -> text, in the request's order; of several for one field the last counts.

        An empty element is the empty text. Raises StanzaError: bad-request with the text `<field>:not_found` or
        `<field>:type_error`. The namespaces of the elements are the caller's business.
        """
        try:
            return self._accepted((element.name, text_of(element)) for element in elements)
        except _Misfit as misfit:
            raise StanzaError("bad-request", text=str(misfit)) from None

    def read_values(self, values: Mapping[str, object]) -> dict[str, str]:
        """As `read`, of values by the names of fields; a text is read as that of an element would be.

        Raises ValueError with the texts that `read` gives.
        """
        return self._accepted((name, self._text_for(name, value)) for name, value in values.items())

    def _accepted(self, texts: Iterable[tuple[str, str | None]]) -> dict[str, str]:
        accepted: dict[str, str] = {}
        for name, text in texts:
            field = self._field(name)
            accepted[field.key] = field.accepted(text)
        return accepted

    def _field(self, name: str) -> _Field:
        field = self._by_name.get(name)
        if field is None:
            raise _Misfit(f"{name}:not_found")
        return field

    def _text_for(self, name: str, value: object) -> str | None:
        """How `value` is spelled; None when it is of a type that the field does not take."""
        if isinstance(value, str):
            return value
        type_ = self._field(name).type
        # Not isinstance: True is no integer here. An integer is a float, though.
        if isinstance(value, bool | int | float) and (type(value) is type_ or (type_ is float and type(value) is int)):
            return _spelled(value)
        return None

    def filled(self, config: Mapping[str, str]) -> dict[str, str]:
        """Every field of the schema by internal key, in its order, with the default where `config` has no value."""
        return {key: field.stored(config) for key, field in self._by_key.items()}

    def values(self, config: Mapping[str, str]) -> dict[str, Value]:
        """As `filled`, typed and by the names on the wire."""
        return {field.name: field.typed(config) for field in self._by_key.values()}

    def printed(self, config: Mapping[str, str]) -> bytes:
        """The elements of the fields in `config`, in its order; keys that the schema does not have are left out.

        They declare no namespace, and stand where the default namespace is the right one.
        """
        parts = []
        for key, text in config.items():
            field = self._by_key.get(key)
            if field is not None:
                parts.append(f"<{field.name}>{escape.text(text)}</{field.name}>" if text else f"<{field.name}/>")
        return "".join(parts).encode()

    def child_keys(self, config: Mapping[str, str], uri: str) -> tuple[str, ...]:
        """The qualified names of the elements that `printed` gives, where `uri` is the default namespace."""
        return tuple(qualified(uri, self._by_key[key].name) for key in config if key in self._by_key)

    def flag(self, config: Mapping[str, str], key: str) -> bool:
        """The boolean field with this internal key; False when the schema has none."""
        field = self._by_key.get(key)
        return field is not None and field.stored(config) == "true"

    def room_name(self, config: Mapping[str, str], jid: JID) -> str:
        """What a room is called: its field `roomname`, or its localpart when the schema has no such field."""
        field = self._by_key.get(ROOM_NAME)
        return (jid.local or "") if field is None else field.stored(config)
