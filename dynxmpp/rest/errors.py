"""What can be wrong with a request, before anything is asked of the server. Texts and statuses are the dialect's."""

__all__ = [
    "BadParameter",
    "BodyTooLarge",
    "EmptyBody",
    "InternalFault",
    "InvalidJson",
    "InvalidResource",
    "InvalidUsername",
    "MissingField",
    "NoCredentials",
    "NoSuchSession",
    "NotAcceptable",
    "RequestError",
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


class UnsupportedMediaType(RequestError):
    """The body is not said to be application/json."""


class NotAcceptable(RequestError):
    """The client does not want application/json."""


class EmptyBody(RequestError):
    """There is no body."""


class InvalidJson(RequestError):
    """The body is no JSON object in UTF-8."""


class MissingField(RequestError):
    """A member of the body is missing, or of the wrong type. The argument is its name."""


class BadParameter(RequestError):
    """A query parameter has an impossible value. The argument is its name."""


class InvalidUsername(RequestError):
    """The user name cannot be one."""


class InvalidResource(RequestError):
    """The resource's name cannot be one."""


class NoSuchSession(RequestError):
    """No session with this address is on this node."""


class InternalFault(Exception):
    """Stands in the tables for every exception that nothing else there fits: a mistake of ours, which is logged."""
