"""What a query asks for: the request read into values, and what is refused in it (XEP-0313 4).

Fields beyond the XEP: `from-id`, `to-id` (like `after-id`, `before-id`, with the message itself), `simple`, and two
more names for the text to search. Ids are read under both spellings, `after-id` and `after_id`. Unknown fields are
passed over, as is FORM_TYPE.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from twisted.words.xish import domish

from dynxmpp.module import JID, InvalidJID, StanzaError
from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.words import words_of_query
from dynxmpp.protocol import rsm
from dynxmpp.protocol.disco_info import NS_FORMS
from dynxmpp.protocol.timestamps import InvalidTimestamp, parse_us

FULL_TEXT_FIELD = "{urn:xmpp:fulltext:0}fulltext"
_FULL_TEXT_FIELDS = (FULL_TEXT_FIELD, "fulltext", "full-text-search")

#: Ids that one query may name in the field `ids`, and characters of a `queryid`, which comes back with each message.
MAX_IDS = 1000
MAX_QUERY_ID = 1024

Fields = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Filters:
    """What belongs to the result set, as conditions that all must hold.

    `low` and `high` are ids, inclusive. `named` are ids of form fields, which must be in the archive themselves
    (XEP-0313 4.1.3). `words` must all be in the body; `ids`, when given, are the only candidates, in their order.
    """

    remote: str | None = None
    resource: str | None = None
    low: int = 0
    high: int = ids.MAX_ID
    individual: bool = False
    named: tuple[int, ...] = ()
    words: tuple[str, ...] | None = None
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What part of the result set is wanted: at most `size` items beside the item `edge`, else beside its beginning
    (or its end when `backward`), after `skip` items.
    """

    size: int
    backward: bool = False
    edge: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """A whole request. `simple`: neither counted nor checked for unknown ids; `flip`: sent newest first."""

    namespace: str
    query_id: str
    filters: Filters
    page: Page
    simple: bool
    flip: bool


def read_query(
    element: domish.Element, *, is_room: bool, default_size: int, largest_size: int, always_simple: bool = False
) -> Query:
    """The query that a <query/> spells; sizes are numbers of messages.

    Raises StanzaError: not-acceptable for what is no id and for too many ids, jid-malformed for `with`, bad-request for
    what is no number and for a `queryid` that is too long.
    """
    query_id = element.getAttribute("queryid", "")
    if len(query_id) > MAX_QUERY_ID:
        raise StanzaError("bad-request", text=f"queryid is longer than {MAX_QUERY_ID} characters")
    fields = _fields(element)
    try:
        request = rsm.page_request(element)
    except rsm.InvalidSet as problem:
        raise StanzaError("bad-request", text=str(problem)) from problem
    filters = _filters(fields, is_room)
    before = _id(request.before) if request.before else None
    after = _id(request.after) if request.after else None
    backward = request.before is not None
    if backward and after is not None:
        # XEP-0313 leaves both together undefined. Here `before` turns pages, and `after` says how far, like after-id.
        filters = replace(filters, low=max(filters.low, after + 1), named=(*filters.named, after))
        after = None
    edge = before if backward else after
    size = default_size if request.maximum is None else request.maximum
    skip = request.index or 0 if edge is None and not backward else 0
    return Query(
        namespace=element.uri or "",
        query_id=query_id,
        filters=filters,
        page=Page(min(size, largest_size), backward, edge, skip),
        simple=always_simple or _first(fields, "simple") in ("true", "1"),
        flip=any(child.name == "flip-page" and child.uri == element.uri for child in element.elements()),
    )


def unknown_id() -> StanzaError:
    """The answer to an id that is not in the archive, or not in the result set."""
    return StanzaError("item-not-found", text="Message with specified ID is not found")


def _fields(element: domish.Element) -> Fields:
    form = next((child for child in element.elements() if child.uri == NS_FORMS and child.name == "x"), None)
    return {} if form is None else dict(_form_fields(form))


def _form_fields(form: domish.Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    for field in form.elements():
        if field.uri == NS_FORMS and field.name == "field":
            values = (str(child).strip() for child in field.elements() if child.name == "value")
            name = field.getAttribute("var", "")
            yield name.replace("_", "-") if name.endswith("_id") else name, tuple(value for value in values if value)


def _first(fields: Fields, name: str) -> str | None:
    """The value of a field; None when it is absent or empty."""
    return next(iter(fields.get(name, ())), None)


def _filters(fields: Fields, is_room: bool) -> Filters:
    remote, resource = _with(_first(fields, "with"), is_room)
    low, high, named = 0, ids.MAX_ID, []
    start, end = _time(_first(fields, "start")), _time(_first(fields, "end"))
    if start is not None:
        low = ids.first_of(start)
    if end is not None:
        high = ids.last_of(end)
    for name, by in (("after-id", 1), ("from-id", 0)):
        text = _first(fields, name)
        if text is not None:
            named.append(_id(text))
            low = max(low, named[-1] + by)
    for name, by in (("before-id", 1), ("to-id", 0)):
        text = _first(fields, name)
        if text is not None:
            named.append(_id(text))
            high = min(high, named[-1] - by)
    text = next((text for name in _FULL_TEXT_FIELDS if (text := _first(fields, name)) is not None), None)
    return Filters(
        remote=remote,
        resource=resource,
        low=low,
        high=high,
        individual=_first(fields, "include-groupchat") in ("false", "0"),
        named=tuple(named),
        words=None if text is None else words_of_query(text),
        ids=_ids(fields.get("ids", ())),
    )


def _ids(texts: tuple[str, ...]) -> tuple[int, ...] | None:
    """Each id once; None when there are none."""
    if len(texts) > MAX_IDS:
        raise StanzaError("not-acceptable", text=f"At most {MAX_IDS} ids")
    return tuple(dict.fromkeys(map(_id, texts))) or None


def _with(text: str | None, is_room: bool) -> tuple[str | None, str | None]:
    """(remote, resource) that `with` means. In a room only the resource counts: it names the occupant."""
    if text is None:
        return None, None
    try:
        jid = JID.parse(text)
    except InvalidJID as problem:
        raise StanzaError("jid-malformed", text=f"with: {problem}") from problem
    return (jid.resource, None) if is_room else (jid.bare, jid.resource)


def _time(text: str | None) -> int | None:
    """Microseconds since 1970; None for what is no time, which is passed over."""
    if text is None:
        return None
    try:
        return parse_us(text)
    except InvalidTimestamp:
        return None


def _id(text: str) -> int:
    try:
        return ids.from_text(text)
    except ValueError as problem:
        raise StanzaError("not-acceptable", text="Invalid stanza ID provided") from problem
