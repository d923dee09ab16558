"""An operation: a handler and its description, side by side. What OpenAPI says of it is made from the same object.

@operation("PUT", "/domains/{domain}", summary="...", body=HOST_TYPE_BODY, success=204, raises=(DomainIsStatic,))
async def insert(self, call: Call) -> Reply: ...
"""

import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from dynxmpp.domains.errors import InvalidDomain
from dynxmpp.domains.service import prepare_name
from dynxmpp.jid import JID, InvalidJID, prepare_local, prepare_resource
from dynxmpp.rest.errors import (
    BadParameter,
    EmptyBody,
    InvalidAddress,
    InvalidJson,
    InvalidResource,
    InvalidRoomName,
    InvalidUsername,
    MissingField,
)
from dynxmpp.rest.upload import Upload

__all__ = [
    "ALIASES",
    "JSON",
    "JSON_LINES",
    "XML",
    "Call",
    "Handler",
    "Operation",
    "Parameter",
    "Reply",
    "object_schema",
    "operation",
    "operations_of",
]

Schema = dict[str, Any]
T = TypeVar("T")
M = TypeVar("M", bound=Callable[..., Any])

JSON: Final = "application/json"
#: A JSON value on each line.
JSON_LINES: Final = "application/jsonl"
XML: Final = "application/xml"
#: Other names of types of bodies.
ALIASES: Final = {"application/x-ndjson": JSON_LINES}
#: A body that is empty, or that is in memory as a whole.
NO_UPLOAD: Final = Upload()

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000


@dataclass(frozen=True)
class Parameter:
    """A query parameter."""

    name: str
    description: str
    schema: Schema


LIMIT: Final = Parameter(
    "limit",
    "How many entries the answer has at most.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
)
AFTER: Final = Parameter("after", "Only entries behind this one: the `next` of the answer before.", {"type": "string"})
PREFIX: Final = Parameter("prefix", "Only names that begin with this.", {"type": "string"})


@dataclass(frozen=True)
class Operation:
    """What a method of a resource takes and answers. Errors that any request may meet are not listed in `raises`.

    `media_type` is that of the answer; with JSON_LINES `answer` is the schema of a line. `upload` is the type of a body
    of any length that the handler reads as it comes (`Call.upload`); `body` is the schema of a line of it, if it has
    lines.
    """

    method: str
    path: str
    summary: str
    success: int
    answer: Schema | None = None
    body: Schema | None = None
    query: tuple[Parameter, ...] = ()
    raises: tuple[type[Exception], ...] = ()
    description: str = ""
    also: Mapping[int, str] = field(default_factory=dict)
    media_type: str = JSON
    upload: str | None = None

    @property
    def content_type(self) -> str | None:
        """The type that a body must have. One that comes with DELETE needs none: HTTP clients do not expect that."""
        return self.upload or (JSON if self.body is not None and self.method != "DELETE" else None)


@dataclass(frozen=True)
class Reply:
    """What a handler answers; no body for None.

    With `chunks` they are the body, sent as they come and in the operation's media type. What is raised before the
    first of them is answered as any other error; after that it cuts the connection.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncGenerator[bytes, None] | None = None


class Call:
    """One request, as a handler sees it. Every accessor raises the RequestError that says what is wrong."""

    def __init__(
        self, path: Mapping[str, str], query: bytes, content: bytes, upload: AsyncIterable[bytes] = NO_UPLOAD
    ) -> None:
        """`path` has the variables of the path, percent-encoded still; `query` and `content` are as they came.

        `upload` is the body of an operation that takes one.
        """
        self.upload = upload
        self._path = path
        self._query = query
        self._content = content
        self._object: dict[str, Any] | None = None

    # -- the path

    def domain(self) -> str:
        """Prepared. Raises InvalidDomain."""
        return prepare_name(self._variable("domain", InvalidDomain))

    def username(self) -> str:
        """Prepared. Raises InvalidUsername."""
        return prepared_username(self._variable("username", InvalidUsername))

    def resource(self) -> str:
        """Prepared. Raises InvalidResource."""
        try:
            return prepare_resource(self._variable("resource", InvalidResource))
        except InvalidJID as error:
            raise InvalidResource from error

    def room(self) -> str:
        """Prepared. Raises InvalidRoomName."""
        return prepared_room(self._variable("room", InvalidRoomName))

    def user(self) -> JID:
        """The address of an account, bare. Raises InvalidAddress."""
        return account_address(self._variable("user", InvalidAddress, "user"), "user")

    def _variable(self, name: str, error_class: type[Exception], *arguments: str) -> str:
        try:
            return unquote_to_bytes(self._path[name]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise error_class(*arguments) from error

    # -- the query

    def parameter(self, name: str) -> str | None:
        """None when it is not given. Raises BadParameter when given twice, or not in UTF-8."""
        try:
            pairs = parse_qsl(
                self._query.decode("ascii"), keep_blank_values=True, errors="surrogateescape", max_num_fields=50
            )
            values = [value for key, value in pairs if key == name]
            if len(values) > 1:
                raise BadParameter(name)
            for value in values:
                value.encode("utf-8")
        except ValueError as error:  # not ASCII, too many, not UTF-8
            raise BadParameter(name) from error
        return values[0] if values else None

    def after(self) -> str | None:
        """Where a page begins. No name has a NUL in it, so what comes behind one makes no difference."""
        after = self.parameter("after")
        return None if after is None else after.partition("\0")[0]

    def limit(self) -> int:
        text = self.parameter("limit")
        if text is None:
            return DEFAULT_LIMIT
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
            raise BadParameter("limit")
        return int(text)

    # -- the body

    def text(self, name: str) -> str:
        """A member that must be a string. Raises EmptyBody, InvalidJson, MissingField."""
        value = self._body().get(name)
        if not isinstance(value, str):
            raise MissingField(name)
        return value

    def optional(self, name: str, type_: type[T]) -> T | None:
        """A member that must be of this type if it is given."""
        body = self._body()
        if name not in body:
            return None
        value = body[name]
        if not isinstance(value, type_):
            raise MissingField(name)
        return value

    def whole_body(self) -> Mapping[str, Any]:
        """All members, where their names are not fixed. Raises EmptyBody, InvalidJson."""
        return self._body()

    def flag(self, name: str, default: bool | None = None) -> bool:
        """A member that must be a boolean; `default` if that is given and the member is not."""
        body = self._body()
        value = body.get(name, default) if default is not None else body.get(name)
        if not isinstance(value, bool):
            raise MissingField(name)
        return value

    def _body(self) -> dict[str, Any]:
        if self._object is None:
            self._object = parse_object(self._content)
        return self._object


def parse_object(content: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8, as RFC 8259 has it: no NaN, no member twice, no lone surrogates."""
    if not content:
        raise EmptyBody
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        if b"\\u" in content:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError
        raise InvalidJson from error
    if not isinstance(value, dict):
        raise InvalidJson
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member stands twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def prepared_username(text: str) -> str:
    """Raises InvalidUsername."""
    try:
        return prepare_local(text)
    except InvalidJID as error:
        raise InvalidUsername from error


def prepared_room(text: str) -> str:
    """Raises InvalidRoomName."""
    try:
        return prepare_local(text)
    except InvalidJID as error:
        raise InvalidRoomName from error


def account_address(text: str, kind: str) -> JID:
    """The bare address that `text` spells; one with a resource will do. Raises InvalidAddress with `kind`."""
    try:
        jid = JID.parse(text)
    except InvalidJID as error:
        raise InvalidAddress(kind) from error
    if jid.local is None:
        raise InvalidAddress(kind)
    return jid.to_bare()


Handler = Callable[[Call], Awaitable[Reply]]


def operation(method: str, path: str, **description: Any) -> Callable[[M], M]:
    """The decorated method answers `method` on `path`. Keywords as in `Operation`."""

    def declare(function: M) -> M:
        function._operation = Operation(method, path, **description)  # type: ignore[attr-defined]
        return function

    return declare


def operations_of(api: object) -> Iterator[tuple[Operation, Handler]]:
    """The operations of an object, in the order of their definition."""
    for cls in reversed(type(api).__mro__):
        for name, attribute in vars(cls).items():
            found = getattr(attribute, "_operation", None)
            if found is not None:
                yield found, getattr(api, name)


def object_schema(properties: Schema, *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    """The JSON schema of an object, all members required but the `optional` ones."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }
    if description:
        schema["description"] = description
    return schema
