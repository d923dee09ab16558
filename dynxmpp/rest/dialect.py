"""The two dialects of the administration: how each says that something is wrong. Data, and how to read it.

`FIVE` is that of MongooseIM 5.0 (mongoose_domain_handler), `SIX` that of 6.0 to 6.5 (mongoose_admin_api).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg2

from dynxmpp.auth.base import AccountExists, InvalidPassword, NoSuchAccount, NotSupported, TooManyAccounts
from dynxmpp.domains.errors import (
    DomainDeleted,
    DomainExists,
    DomainIsStatic,
    DomainNotFound,
    InvalidDomain,
    NoCertificate,
    ServiceDisabled,
    UnknownHostType,
    WrongHostType,
)
from dynxmpp.domains.service import REPEATABLE, STRICT, Rules
from dynxmpp.rest.errors import (
    BadDocument,
    BadLimit,
    BadParameter,
    BodyBroken,
    BodyTooLarge,
    EmptyBody,
    InternalFault,
    InvalidAddress,
    InvalidJson,
    InvalidResource,
    InvalidRoomName,
    InvalidUsername,
    LineTooLong,
    MissingField,
    NoCredentials,
    NoRooms,
    NoSuchMember,
    NoSuchRoom,
    NoSuchSession,
    NotAcceptable,
    NotAMember,
    RoomExists,
    RoomForbidden,
    RoomRefused,
    TooManyRooms,
    UnexpectedCredentials,
    UnsupportedMediaType,
    WrongCredentials,
)
from dynxmpp.tls.certificates import CertificateError
from dynxmpp.wire.errors import Unavailable

__all__ = ["FIVE", "SIX", "Dialect", "ErrorAnswer"]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """A status, and a text unless the body is empty. `{0}` in the text is the exception's first argument.

    The text `{0}` alone can be any.
    """

    status: int
    text: str | None = None

    def text_for(self, error: Exception) -> str | None:
        return None if self.text is None else self.text.format(*error.args or ("",))


@dataclass(frozen=True)
class Dialect:
    """How a mount answers. `errors` has an entry for each exception that a handler declares, or for a base of it."""

    name: str
    rules: Rules
    errors: Mapping[type[Exception], ErrorAnswer]
    #: The body around an error's text, and the JSON schema of that body for a schema of the text.
    error_body: Callable[[str], Any]
    error_schema: Callable[[dict[str, Any]], dict[str, Any]]
    #: OPTIONS is answered with the methods of a resource.
    has_options: bool
    #: Credentials of any scheme are refused where none are configured, not only those of Basic.
    refuses_other_schemes: bool
    #: WWW-Authenticate, with 401.
    challenge: str | None

    def answer(self, error_class: type[Exception]) -> ErrorAnswer:
        """The entry of the class, or of its nearest base; that of InternalFault for all others."""
        for base in error_class.__mro__:
            if base in self.errors:
                return self.errors[base]
        return self.errors[InternalFault]


FIVE: Final = Dialect(
    name="MongooseIM 5.0",
    rules=REPEATABLE,
    errors={
        UnexpectedCredentials: ErrorAnswer(403, "basic auth provided, but not configured"),
        WrongCredentials: ErrorAnswer(403, "basic auth provided, invalid password"),
        NoCredentials: ErrorAnswer(403, "basic auth is required"),
        BodyTooLarge: ErrorAnswer(413, "body is too large"),
        UnsupportedMediaType: ErrorAnswer(415),
        NotAcceptable: ErrorAnswer(406),
        EmptyBody: ErrorAnswer(400, "body is empty"),
        InvalidJson: ErrorAnswer(400, "failed to parse JSON"),
        LineTooLong: ErrorAnswer(400, "line is too long"),
        MissingField: ErrorAnswer(400, "'{0}' field is missing"),
        BadParameter: ErrorAnswer(400, "invalid query parameter '{0}'"),
        BadLimit: ErrorAnswer(400, "{0}"),
        BodyBroken: ErrorAnswer(400, "{0}"),
        BadDocument: ErrorAnswer(400, "{0}"),
        InvalidDomain: ErrorAnswer(400, "invalid domain name"),
        DomainIsStatic: ErrorAnswer(403, "domain is static"),
        UnknownHostType: ErrorAnswer(403, "unknown host type"),
        ServiceDisabled: ErrorAnswer(403, "service disabled"),
        DomainExists: ErrorAnswer(409, "duplicate"),
        DomainNotFound: ErrorAnswer(404, "domain not found"),
        DomainDeleted: ErrorAnswer(403, "domain has been deleted"),
        WrongHostType: ErrorAnswer(403, "wrong host type"),
        CertificateError: ErrorAnswer(400, "{0}"),
        NoCertificate: ErrorAnswer(404, "certificate not found"),
        InvalidUsername: ErrorAnswer(400, "invalid user name"),
        InvalidPassword: ErrorAnswer(400, "invalid password"),
        InvalidResource: ErrorAnswer(400, "invalid resource"),
        AccountExists: ErrorAnswer(409, "user already exists"),
        NoSuchAccount: ErrorAnswer(404, "user not found"),
        TooManyAccounts: ErrorAnswer(403, "too many users in the domain"),
        NotSupported: ErrorAnswer(403, "not supported by the domain's auth methods"),
        NoSuchSession: ErrorAnswer(404, "session not found"),
        InvalidRoomName: ErrorAnswer(400, "invalid room name"),
        InvalidAddress: ErrorAnswer(400, "invalid {0} JID"),
        NoRooms: ErrorAnswer(404, "MUC Light server not found"),
        NoSuchRoom: ErrorAnswer(404, "room not found"),
        RoomExists: ErrorAnswer(409, "room already exists"),
        RoomRefused: ErrorAnswer(400, "{0}"),
        RoomForbidden: ErrorAnswer(403, "not allowed"),
        TooManyRooms: ErrorAnswer(403, "too many rooms in the domain"),
        NotAMember: ErrorAnswer(403, "user does not occupy this room"),
        NoSuchMember: ErrorAnswer(404, "user does not occupy this room"),
        Unavailable: ErrorAnswer(500, "database error"),
        psycopg2.Error: ErrorAnswer(500, "database error"),
        InternalFault: ErrorAnswer(500, "internal error"),
    },
    error_body=lambda text: {"what": text},
    error_schema=lambda text: {"type": "object", "properties": {"what": text}, "required": ["what"]},
    has_options=False,
    refuses_other_schemes=False,
    challenge=None,
)

SIX: Final = Dialect(
    name="MongooseIM 6.0 to 6.5",
    rules=STRICT,
    errors={
        UnexpectedCredentials: ErrorAnswer(401),
        WrongCredentials: ErrorAnswer(401),
        NoCredentials: ErrorAnswer(401),
        BodyTooLarge: ErrorAnswer(413, "Request body is too large"),
        UnsupportedMediaType: ErrorAnswer(415),
        NotAcceptable: ErrorAnswer(406),
        EmptyBody: ErrorAnswer(400, "Invalid request body"),
        InvalidJson: ErrorAnswer(400, "Invalid request body"),
        LineTooLong: ErrorAnswer(400, "Line is too long"),
        MissingField: ErrorAnswer(400, "'{0}' field is missing"),
        BadParameter: ErrorAnswer(400, "Invalid query parameter '{0}'"),
        BadLimit: ErrorAnswer(400, "{0}"),
        BodyBroken: ErrorAnswer(400, "{0}"),
        BadDocument: ErrorAnswer(400, "{0}"),
        InvalidDomain: ErrorAnswer(400, "Invalid domain name"),
        DomainIsStatic: ErrorAnswer(403, "Domain is static"),
        UnknownHostType: ErrorAnswer(403, "Unknown host type"),
        ServiceDisabled: ErrorAnswer(403, "Dynamic domains service is disabled"),
        DomainExists: ErrorAnswer(409, "Domain already exists"),
        DomainNotFound: ErrorAnswer(404, "Given domain does not exist"),
        DomainDeleted: ErrorAnswer(403, "Domain has been deleted"),
        WrongHostType: ErrorAnswer(403, "Wrong host type was provided"),
        CertificateError: ErrorAnswer(400, "{0}"),
        NoCertificate: ErrorAnswer(404, "Given domain has no certificate"),
        InvalidUsername: ErrorAnswer(400, "Invalid user name"),
        InvalidPassword: ErrorAnswer(400, "Invalid password"),
        InvalidResource: ErrorAnswer(400, "Invalid resource"),
        AccountExists: ErrorAnswer(409, "User already exists"),
        NoSuchAccount: ErrorAnswer(404, "Given user does not exist"),
        TooManyAccounts: ErrorAnswer(403, "Too many users in the domain"),
        NotSupported: ErrorAnswer(403, "Not supported by the domain's auth methods"),
        NoSuchSession: ErrorAnswer(404, "Given session does not exist"),
        InvalidRoomName: ErrorAnswer(400, "Invalid room name"),
        InvalidAddress: ErrorAnswer(400, "Invalid {0} JID"),
        NoRooms: ErrorAnswer(404, "MUC Light server not found"),
        NoSuchRoom: ErrorAnswer(404, "Room not found"),
        RoomExists: ErrorAnswer(409, "Room already exists"),
        RoomRefused: ErrorAnswer(400, "{0}"),
        RoomForbidden: ErrorAnswer(403, "Not allowed"),
        TooManyRooms: ErrorAnswer(403, "Too many rooms in the domain"),
        NotAMember: ErrorAnswer(403, "Given user does not occupy this room"),
        NoSuchMember: ErrorAnswer(404, "Given user does not occupy this room"),
        Unavailable: ErrorAnswer(500),
        psycopg2.Error: ErrorAnswer(500),
        InternalFault: ErrorAnswer(500),
    },
    error_body=lambda text: text,
    error_schema=lambda text: text,
    has_options=True,
    refuses_other_schemes=True,
    challenge='Basic realm="mongooseim"',
)
