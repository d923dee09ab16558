"""What can be wrong with a request, before anything is asked of the server. Texts and statuses are the dialect's."""

from typing import Final

__all__ = [
    "BadDocument",
    "BadLimit",
    "BadParameter",
    "BodyBroken",
    "BodyTooLarge",
    "EmptyBody",
    "InternalFault",
    "InvalidAddress",
    "InvalidJson",
    "InvalidResource",
    "InvalidRoomName",
    "InvalidUsername",
    "LineTooLong",
    "MissingField",
    "NoCredentials",
    "NoRooms",
    "NoSuchMember",
    "NoSuchRoom",
    "NoSuchSession",
    "NotAMember",
    "NotAcceptable",
    "RequestError",
    "RoomExists",
    "RoomForbidden",
    "RoomRefused",
    "TooManyRooms",
    "UnexpectedCredentials",
    "UnsupportedMediaType",
    "WrongCredentials",
]


class RequestError(Exception):
    """Base of all that is wrong with a request itself."""


class UnexpectedCredentials(RequestError):
    """The request has credentials, and none are configured."""


class WrongCredentials(RequestError):
    """The request's credentials are not those configured."""


class NoCredentials(RequestError):
    """The request has no credentials, or of another scheme than Basic."""


class BodyTooLarge(RequestError):
    """The body is longer than the listener takes."""


class BodyBroken(RequestError):
    """The client has gone before the end of a body that is read as it comes: nobody is there to be answered."""


class BadDocument(RequestError):
    """A document in a body cannot be taken, or not to its end. The argument is the reason, and what was done."""


class UnsupportedMediaType(RequestError):
    """The body is not said to be application/json."""


class NotAcceptable(RequestError):
    """The client does not want what the answer would be: application/json, or JSON lines."""


class EmptyBody(RequestError):
    """There is no body."""


class InvalidJson(RequestError):
    """The body is no JSON object in UTF-8."""


class LineTooLong(RequestError):
    """A line of a body is longer than any can be."""


class MissingField(RequestError):
    """A member of the body is missing, or of the wrong type. The argument is its name."""


class BadParameter(RequestError):
    """A query parameter has an impossible value. The argument is its name."""


class BadLimit(RequestError):
    """A limit has an impossible value, or there is none of that name. The argument says so."""


class TooManyRooms(RequestError):
    """The domain has as many rooms as it may have."""


class InvalidUsername(RequestError):
    """The user name cannot be one."""


class InvalidResource(RequestError):
    """The resource's name cannot be one."""


class NoSuchSession(RequestError):
    """No session with this address is on this node."""


class InvalidRoomName(RequestError):
    """The name of a room cannot be one."""


class InvalidAddress(RequestError):
    """A text is no address of an account. The argument is one of `KINDS`."""

    KINDS: Final = ("owner", "member", "sender", "recipient", "user")


class NoRooms(RequestError):
    """The domain has no MUC Light."""


class NoSuchRoom(RequestError):
    """There is no room with this name."""


class RoomExists(RequestError):
    """There is a room with this name already."""


class RoomRefused(RequestError):
    """What is wanted cannot become of a room. The argument is the reason, as members are told it."""


class RoomForbidden(RequestError):
    """A member lacks the right to do what is asked in his name."""


class NotAMember(RequestError):
    """Somebody in whose name something is asked is not in the room."""


class NoSuchMember(RequestError):
    """The user that the path names is not in the room."""


class InternalFault(Exception):
    """Stands in the tables for every exception that nothing else there fits: a mistake of ours, which is logged."""
