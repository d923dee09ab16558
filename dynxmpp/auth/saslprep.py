"""SASLprep (RFC 4013): two ways of typing one password become one text."""

import stringprep
from typing import Final
from unicodedata import ucd_3_2_0

__all__ = ["SaslprepError", "saslprep"]

#: RFC 4013 2.3, by the tables of RFC 3454.
_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class SaslprepError(ValueError):
    """A text that SASLprep refuses. The message names the rule and never quotes the text: it may be a password."""


def saslprep(text: str, *, stored: bool) -> str:
    """`text` prepared, possibly to nothing. Raises SaslprepError.

    `stored` says that the result will be kept and compared with later (RFC 3454 section 7): such a text may not hold
    code points that Unicode 3.2 left unassigned, since their later meaning could change how they are prepared. A text
    given by a client that wants in is a query, where they are allowed: it cannot match anything stored.
    """
    if text.isascii() and text.isprintable():
        return text
    prepared = ucd_3_2_0.normalize("NFKC", _mapped(text))
    for character in prepared:
        if any(prohibits(character) for prohibits in _PROHIBITED):
            raise SaslprepError("prohibited character")
        if stored and stringprep.in_table_a1(character):
            raise SaslprepError("unassigned code point")
    _check_directions(prepared)
    return prepared


def _mapped(text: str) -> str:
    # RFC 4013 2.1. ZERO WIDTH SPACE stands in both tables; like libidn and PostgreSQL we follow the order of the RFC,
    # which lists the spaces first.
    return "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if stringprep.in_table_c12(character) or not stringprep.in_table_b1(character)
    )


def _check_directions(prepared: str) -> None:
    """RFC 3454 section 6: a text with right-to-left letters begins and ends with one and has no left-to-right ones."""
    if not any(map(stringprep.in_table_d1, prepared)):
        return
    if any(map(stringprep.in_table_d2, prepared)):
        raise SaslprepError("letters of both directions")
    if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
        raise SaslprepError("right-to-left text must begin and end with a right-to-left letter")
