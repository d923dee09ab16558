"""What a value must be beyond its type. A check returns the value, prepared where it has a prepared form, or raises.

`option(check=...)` takes one check or several, applied in order.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from cattrs.errors import BaseValidationError, IterableValidationError

from dynxmpp.config.report import Mistake, mistakes_in, nearest, quoted
from dynxmpp.jid import JID, InvalidJID, prepare_domain, prepare_local, prepare_resource

Check = Callable[[Any], Any]

#: Ends the pattern of a subdomain; stands for the domain that the service belongs to.
HOST_PLACEHOLDER: Final = "@HOST@"
_SHOWN_PATH: Final = 500


def kind_of(value: object) -> str:
    """What a person calls the type of a TOML value."""
    kinds: list[tuple[type, str]] = [
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a float"),
        (str, "a string"),
        (list, "a list"),
        (dict, "a section"),
    ]
    return next((name for kind, name in kinds if isinstance(value, kind)), "a date or time")


# -- numbers ----------------------------------------------------------------------------------------------------------


def positive(value: float) -> float:
    """Greater than zero; "infinity" is."""
    if value <= 0:
        raise Mistake(f"must be greater than zero, not {value}")
    return value


def non_negative(value: float) -> float:
    """Zero or more."""
    if value < 0:
        raise Mistake(f"must not be negative, but is {value}")
    return value


def at_most(limit: int) -> Check:
    """No more than `limit`."""

    def check(value: float) -> float:
        if value > limit:
            raise Mistake(f"must be at most {limit}, not {value}")
        return value

    return check


def port(value: int) -> int:
    """A TCP port; 0 lets the system choose one."""
    if not 0 <= value <= 65535:
        raise Mistake(f"must be a port, 0 to 65535, not {value}")
    return value


# -- choices ----------------------------------------------------------------------------------------------------------


def one_of(*allowed: str, unavailable: Iterable[str] = (), kind: str = "") -> Check:
    """One of `allowed`. The words in `unavailable` are good ones elsewhere, but nothing stands behind them here.

    `kind` says what the words name ("authentication method").
    """
    elsewhere = frozenset(unavailable)

    def check(value: str) -> str:
        if value in allowed:
            return value
        if value in elsewhere:
            raise Mistake(f"{kind or 'the value'} {value} is not available in this server", allowed=allowed)
        raise Mistake(f"unknown {kind or 'value'} {quoted(value)}", allowed=allowed, meant=nearest(value, allowed))

    return check


def only(allowed: object, why: str) -> Check:
    """Nothing but `allowed`; `why` says what is missing for the other values."""

    def check(value: object) -> object:
        if value != allowed:
            raise Mistake(why)
        return value

    return check


# -- texts and lists --------------------------------------------------------------------------------------------------


def non_empty(value: Any) -> Any:
    """Not the empty text, list or section."""
    if not value:
        raise Mistake("must not be empty")
    return value


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """No value twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise Mistake(f"names {quoted(str(value))} twice")
        seen.add(value)
    return values


def each(*checks: Check) -> Check:
    """Every member passes every one of `checks`; all that do not are reported."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        checked, mistakes = [], []
        for index, value in enumerate(values):
            try:
                checked.append(apply(checks, value))
            except (Mistake, BaseValidationError) as error:
                mistakes += [mistake.below(index) for mistake in mistakes_in(error)]
        if mistakes:
            raise IterableValidationError("members of a list", mistakes, tuple)
        return tuple(checked)

    return check


def apply(checks: Iterable[Check], value: Any) -> Any:
    """`value` after all `checks`."""
    for check in checks:
        value = check(value)
    return value


def regexp(value: str) -> str:
    """A regular expression."""
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise Mistake(f"is not a regular expression: {error}") from error
    return value


# -- names on the network ---------------------------------------------------------------------------------------------


def domain(value: str) -> str:
    """A domain name; returned prepared."""
    try:
        return prepare_domain(value)
    except InvalidJID as error:
        raise Mistake(f"invalid domain name {quoted(value)}") from error


def subdomain_template(value: str) -> str:
    """`prefix.@HOST@`, one name below every domain, or a full domain name, the same for all; returned prepared."""
    try:
        if not value.endswith("." + HOST_PLACEHOLDER):
            return domain(value)
        sample = domain(value.removesuffix(HOST_PLACEHOLDER) + "example.com")
        return sample.removesuffix("example.com") + HOST_PLACEHOLDER
    except Mistake as mistake:
        raise Mistake(f"invalid subdomain template {quoted(value)}") from mistake


def ip_address(value: str) -> str:
    """An IPv4 or IPv6 address; returned in its shortest spelling."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise Mistake(f"{quoted(value)} is not an IP address") from error


def localpart(value: str) -> str:
    """The part of a JID before the @; returned prepared."""
    return _prepared(prepare_local, value, "the localpart of an address")


def resourcepart(value: str) -> str:
    """The part of a JID after the slash; returned prepared."""
    return _prepared(prepare_resource, value, "the resource of an address")


def jid(value: str) -> str:
    """A JID; returned prepared."""
    return _prepared(lambda text: JID.parse(text).full, value, "a JID")


def _prepared(prepare: Callable[[str], str], value: str, what: str) -> str:
    try:
        return prepare(value)
    except InvalidJID as error:
        raise Mistake(f"{quoted(value)} is not {what}") from error


# -- files ------------------------------------------------------------------------------------------------------------
# os.path answers False where Path raises: names with null bytes, names that are too long.


def file_exists(value: "os.PathLike[str]") -> "os.PathLike[str]":
    """A file that is there now."""
    if not os.path.isfile(value):
        raise Mistake(f"there is no file {quoted(os.fspath(value), _SHOWN_PATH)}")
    return value
