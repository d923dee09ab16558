"""Words of texts, as they are searched: what a body and a query are both made into.

Compatibility forms are made one (NFKC), case is folded in all scripts, punctuation separates words or vanishes.
"""

import re
import unicodedata
from collections.abc import Collection
from typing import Final

#: Words of a query that are looked for; further ones are passed over.
MAX_QUERY_WORDS: Final = 10
#: Bounds of what is kept of one message: PostgreSQL takes at most 1 MiB of words, 2 KiB each.
MAX_WORDS: Final = 2000
MAX_LETTERS: Final = 64

_separators = re.compile(r"[\s,.:;\-?!]+").sub
_other = re.compile(r"[^\w ]").sub


def normalised(text: str) -> str:
    """The words of a text in their order, with single spaces between them."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_other("", _separators(" ", folded)).split())


def words_of(text: str) -> frozenset[str]:
    """The words under which a message with this body is found, long ones cut."""
    words = dict.fromkeys(word[:MAX_LETTERS] for word in normalised(text).split(" ") if word)
    return frozenset(list(words)[:MAX_WORDS])


def words_of_query(text: str) -> tuple[str, ...]:
    """The words that a query looks for; none in a text of punctuation only, which is no condition then."""
    words = dict.fromkeys(word[:MAX_LETTERS] for word in normalised(text).split(" ")[:MAX_QUERY_WORDS] if word)
    return tuple(words)


def has_all(words: Collection[str], wanted: Collection[str]) -> bool:
    """Does each wanted word begin one of `words`?"""
    return all(any(word.startswith(beginning) for word in words) for beginning in wanted)
