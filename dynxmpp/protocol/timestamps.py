"""XEP-0082 Date and Time Profiles, version 1.1.1: DateTime, always in UTC on our side.

Of what XML Schema allows beyond the XEP's examples, `24:00:00` and any number of fraction digits are read; years
outside 1..9999 are not, for nothing on this network is as old or as far away. The old spelling without separators
(section 4) is read where a caller says so.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

_DATE_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,100}))?(Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_LEGACY = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})").fullmatch
_OFFSET = re.compile(r"([+-])([0-9]{2}):([0-9]{2})").fullmatch

#: XML Schema 1.1 part 2, 3.3.7: no time zone is further away.
_MAX_OFFSET = timedelta(hours=14)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class InvalidTimestamp(ValueError):
    """A text that is no DateTime of XEP-0082."""


def format_utc(moment: datetime, fraction: int = 0) -> str:
    """`moment`, which must know its time zone, with `fraction` (0 to 6) digits after the second, the rest cut off."""
    # Padded by hand: strftime's %Y has no leading zeros everywhere.
    utc = moment.astimezone(UTC)
    text = f"{utc.year:04}-{utc.month:02}-{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}"
    return f"{text}.{utc.microsecond:06}"[: len(text) + 1 + fraction] + "Z" if fraction else text + "Z"


def format_seconds(seconds: float, fraction: int = 0) -> str:
    """As `format_utc`, for seconds since 1970, which is what clocks count."""
    return format_utc(datetime.fromtimestamp(seconds, UTC), fraction)


def format_us(microseconds: int) -> str:
    """As `format_utc`, for microseconds since 1970, with all six digits."""
    return format_utc(_EPOCH + timedelta(microseconds=microseconds), 6)


def parse_utc(text: str) -> datetime:
    """The moment that a DateTime names, in UTC; digits below the microsecond are cut off. Raises InvalidTimestamp."""
    match = _DATE_TIME(text)
    if match is None:
        raise InvalidTimestamp(f"not a DateTime of XEP-0082: {text[:64]!r}")
    *numbers, fraction, zone = match.groups()
    return _moment([int(number) for number in numbers], int(((fraction or "") + "000000")[:6]), _zone(zone))


def parse_us(text: str) -> int:
    """As `parse_utc`, in microseconds since 1970."""
    return (parse_utc(text) - _EPOCH) // _MICROSECOND


def parse_legacy_utc(text: str) -> datetime:
    """A stamp of XEP-0091 (`20020910T23:08:25`, always UTC) or a DateTime. Raises InvalidTimestamp."""
    match = _LEGACY(text)
    return parse_utc(text) if match is None else _moment([int(number) for number in match.groups()], 0, UTC)


def _moment(numbers: list[int], microsecond: int, zone: timezone) -> datetime:
    year, month, day, hour, minute, second = numbers
    try:
        if (hour, minute, second, microsecond) == (24, 0, 0, 0):  # XML Schema: the end of a day
            return (datetime(year, month, day, tzinfo=zone) + timedelta(days=1)).astimezone(UTC)
        return datetime(year, month, day, hour, minute, second, microsecond, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidTimestamp(f"not a moment that exists: {error}") from error


def _zone(text: str) -> timezone:
    match = _OFFSET(text)
    if match is None:  # Z
        return UTC
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or offset > _MAX_OFFSET:
        raise InvalidTimestamp(f"not a time zone: {text}")
    return timezone(offset if sign == "+" else -offset)
