"""XEP-0059 Result Set Management, version 1.0: which page of a result set is asked for, and what is said of it.

Item ids are texts of the protocol that uses it; here nothing is known of them. `limit`, which old clients send for
`max`, is read as well.
"""

import re
from dataclasses import dataclass

from twisted.words.xish import domish

from dynxmpp.wire import escape

NS_RSM = "http://jabber.org/protocol/rsm"

_NUMBER = re.compile(r"[0-9]+").fullmatch
#: What is larger is this large: more than there can be of anything, and a bigint of a database even when added to.
LARGEST = 10**18
_LARGEST_DIGITS = 18


class InvalidSet(ValueError):
    """A <set/> that asks for nothing that there could be."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a <set/> in a request says.

    `before` is None when absent and "" when empty, which asks for the last page (section 2.5); an empty <after/> is the
    same as none. `maximum` None leaves the size to the answering side. Of `index` and an id, the id counts (2.6).
    """

    maximum: int | None = None
    before: str | None = None
    after: str | None = None
    index: int | None = None


FIRST_PAGE = PageRequest()


def page_request(parent: domish.Element) -> PageRequest:
    """What the first <set/> among the children of `parent` asks for; the first page when there is none.

    Raises InvalidSet for sizes and positions that are no numbers.
    """
    element = next((child for child in parent.elements() if child.uri == NS_RSM and child.name == "set"), None)
    if element is None:
        return FIRST_PAGE
    texts: dict[str, str] = {}
    for child in element.elements():
        if child.uri == NS_RSM:
            texts.setdefault(child.name, str(child).strip())
    maximum = texts.get("max", texts.get("limit"))
    return PageRequest(
        None if maximum is None else _number(maximum, "max"),
        texts.get("before"),
        texts.get("after") or None,
        _number(texts["index"], "index") if "index" in texts else None,
    )


def _number(text: str, name: str) -> int:
    if not _NUMBER(text):
        raise InvalidSet(f"{name} is no number")
    return int(text) if len(text) <= _LARGEST_DIGITS else LARGEST


def page_element(
    *, first: str | None = None, last: str | None = None, index: int | None = None, count: int | None = None
) -> bytes:
    """The <set/> of an answer: ids of the first and last item of the page (both or none), place of the first, total."""
    parts = [f"<set xmlns='{NS_RSM}'>"]
    if first is not None and last is not None:
        place = "" if index is None else f" index='{index}'"
        parts.append(f"<first{place}>{escape.text(first)}</first><last>{escape.text(last)}</last>")
    if count is not None:
        parts.append(f"<count>{count}</count>")
    parts.append("</set>")
    return "".join(parts).encode()
