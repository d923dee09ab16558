"""An OpenAPI 3.1 document, made from the same declarations that requests are dispatched by."""

from collections.abc import Iterable
from typing import Any, Final

from dynxmpp.domains.errors import InvalidDomain
from dynxmpp.rest.dialect import Dialect
from dynxmpp.rest.errors import (
    BadParameter,
    BodyTooLarge,
    EmptyBody,
    InternalFault,
    InvalidAddress,
    InvalidJson,
    InvalidResource,
    InvalidRoomName,
    InvalidUsername,
    MissingField,
    NoCredentials,
    NotAcceptable,
    UnexpectedCredentials,
    UnsupportedMediaType,
    WrongCredentials,
)
from dynxmpp.rest.operation import ALIASES, JSON, Call, Operation, Reply, Schema, operation
from dynxmpp.wire.errors import Unavailable

__all__ = ["OpenApi", "document"]

#: The variables of paths: description, schema, and what a value that is none of these leads to.
_VARIABLES: Final[dict[str, tuple[str, Schema, type[Exception]]]] = {
    "domain": (
        "A domain, in any spelling: it is prepared (RFC 6122) first. At most 250 bytes of UTF-8.",
        {"type": "string", "minLength": 1, "format": "xmpp-domain", "examples": ["example.org"]},
        InvalidDomain,
    ),
    "username": (
        "The part of an address before the @, in any spelling: it is prepared first.",
        {"type": "string", "minLength": 1, "format": "xmpp-localpart", "examples": ["alice"]},
        InvalidUsername,
    ),
    "resource": (
        "The part of an address after the slash; a slash in it is written %2F.",
        {"type": "string", "minLength": 1, "format": "xmpp-resourcepart", "examples": ["phone"]},
        InvalidResource,
    ),
    "room": (
        "The name of a room: the part of its address before the @, in any spelling.",
        {"type": "string", "minLength": 1, "format": "xmpp-localpart", "examples": ["lobby"]},
        InvalidRoomName,
    ),
    "user": (
        "The bare address of an account, which may be at another domain.",
        {"type": "string", "minLength": 1, "format": "xmpp-account", "examples": ["alice@example.org"]},
        InvalidAddress,
    ),
}

#: The text of an error that can have any.
_ANY_TEXT: Final = "{0}"

_STATUS_TEXTS: Final = {
    400: "The request is wrong.",
    401: "The credentials are missing, wrong, or not asked for.",
    403: "Refused.",
    404: "There is no such thing.",
    406: "Only {media_type} can be had.",
    409: "The name is taken.",
    413: "The body is too large.",
    415: "The body must be {content_type}.",
    500: "The server, or its database, failed.",
}


class OpenApi:
    """The resource {path}/openapi.json."""

    def __init__(self, dialect: Dialect, *, path: str, version: str, protected: bool) -> None:
        """`protected`: a name and a password are needed."""
        self._dialect = dialect
        self._path = path
        self._version = version
        self._protected = protected
        self._document: Schema = {}

    def describe(self, operations: Iterable[Operation]) -> None:
        """To be called once, with all operations."""
        self._document = document(
            operations, self._dialect, path=self._path, version=self._version, protected=self._protected
        )

    @operation("GET", "/openapi.json", summary="This document", success=200, answer={"type": "object"})
    async def get(self, call: Call) -> Reply:
        return Reply(200, self._document)


def document(operations: Iterable[Operation], dialect: Dialect, *, path: str, version: str, protected: bool) -> Schema:
    """The description of all `operations` at the mount `path`."""
    paths: Schema = {}
    for described in operations:
        item = paths.setdefault(described.path, {})
        variables = [name for name in _VARIABLES if "{" + name + "}" in described.path]
        if variables:
            item["parameters"] = [_variable(name) for name in variables]
        item[described.method.lower()] = _operation(described, dialect, variables, protected)
    if dialect.has_options:
        for item in paths.values():
            item["options"] = _options(item, dialect, protected)
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "dynxmpp administration",
            "version": version,
            "description": f"Domains, accounts, sessions and rooms. Errors are told as {dialect.name} does it.",
        },
        "servers": [{"url": path or "/"}],
        "paths": paths,
    }
    if protected:
        whole["components"] = {"securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}}
        whole["security"] = [{"basic": []}]
    return whole


def _variable(name: str) -> Schema:
    description, schema, _ = _VARIABLES[name]
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _operation(described: Operation, dialect: Dialect, variables: list[str], protected: bool) -> Schema:
    result: Schema = {"summary": described.summary, "operationId": _operation_id(described)}
    if described.description:
        result["description"] = described.description
    if described.query:
        result["parameters"] = [
            {"name": p.name, "in": "query", "description": p.description, "schema": p.schema} for p in described.query
        ]
    if described.upload is not None:
        types = [described.upload, *(alias for alias, type_ in ALIASES.items() if type_ == described.upload)]
        schema = described.body or {"type": "string"}
        result["requestBody"] = {"required": True, "content": {name: {"schema": schema} for name in types}}
    elif described.body is not None:
        result["requestBody"] = {"required": True, "content": {JSON: {"schema": described.body}}}
    success: Schema = {"description": "Done."}
    if described.answer is not None:
        success["content"] = {described.media_type: {"schema": described.answer}}
    if described.success == 201:
        success["headers"] = {"Location": {"description": "Where it is now.", "schema": {"type": "string"}}}
    responses: Schema = {str(described.success): success}
    for status, text in described.also.items():
        responses[str(status)] = {"description": text}
    responses.update(_errors(_all_errors(described, variables, protected), described, dialect))
    result["responses"] = responses
    return result


def _operation_id(described: Operation) -> str:
    words = [part for part in described.path.replace(".", "/").split("/") if part]
    return "_".join([described.method.lower(), *(word.strip("{}") for word in words)])


def _all_errors(described: Operation, variables: list[str], protected: bool) -> list[type[Exception]]:
    """What an operation declares, and what may be wrong with any request of its kind."""
    errors: list[type[Exception]] = [*described.raises, *(_VARIABLES[name][2] for name in variables)]
    errors += [NoCredentials, WrongCredentials] if protected else [UnexpectedCredentials]
    errors += [*([] if described.upload else [BodyTooLarge]), Unavailable, InternalFault]
    if described.body is not None and described.upload is None:
        errors += [EmptyBody, InvalidJson, MissingField]
    if described.content_type is not None:
        errors.append(UnsupportedMediaType)
    if described.method == "GET":
        errors.append(NotAcceptable)
    if described.query:
        errors.append(BadParameter)
    return errors


def _errors(errors: list[type[Exception]], described: Operation, dialect: Dialect) -> Schema:
    """The responses for errors, each with the texts it may have."""
    texts: dict[int, list[str]] = {}
    empty: set[int] = set()
    for error in errors:
        answer = dialect.answer(error)
        texts.setdefault(answer.status, [])
        if answer.text is None:
            empty.add(answer.status)
        else:
            texts[answer.status] += _spelt_out(error, answer.text, described)
    responses: Schema = {}
    types = {"media_type": described.media_type, "content_type": described.content_type}
    for status, found in sorted(texts.items()):
        response: Schema = {"description": _STATUS_TEXTS[status].format(**types)}
        if found:
            text: Schema = {"type": "string"}
            if _ANY_TEXT not in found:
                text["enum"] = sorted(set(found))
            response["content"] = {"application/json": {"schema": dialect.error_schema(text)}}
        if status == 401 and dialect.challenge is not None:
            response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string", "const": dialect.challenge}}}
        responses[str(status)] = response
    return responses


def _spelt_out(error: type[Exception], text: str, described: Operation) -> list[str]:
    if error is MissingField and described.body is not None:
        return [text.format(name) for name in described.body.get("properties", ())]
    if error is InvalidAddress:
        return [text.format(kind) for kind in InvalidAddress.KINDS]
    if error is BadParameter:
        return [text.format(parameter.name) for parameter in described.query]
    return [text]


def _options(item: Schema, dialect: Dialect, protected: bool) -> Schema:
    allow: Any = {"description": "The methods of this resource.", "schema": {"type": "string"}}
    described = Operation("OPTIONS", "", "", 200)
    errors: list[type[Exception]] = [NoCredentials, WrongCredentials] if protected else [UnexpectedCredentials]
    errors.append(BodyTooLarge)
    return {
        "summary": "The methods of this resource",
        "responses": {
            "200": {"description": "Done.", "headers": {"Allow": allow}},
            **_errors(errors, described, dialect),
        },
    }
