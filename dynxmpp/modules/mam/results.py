"""Messages of an archive on their way to who asked: texts joined, nothing parsed (XEP-0313 4.2)."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, Stanza, qualified
from dynxmpp.modules.mam import ids
from dynxmpp.modules.mam.paging import Found, Row
from dynxmpp.modules.mam.query import Query
from dynxmpp.protocol import rsm
from dynxmpp.protocol.carbon import NS_FORWARD
from dynxmpp.protocol.delay import NS_DELAY
from dynxmpp.wire import escape
from dynxmpp.wire.ns import NS_CLIENT, NS_STANZA_ERRORS

#: (id, source, stanza) of messages in the order in which they are sent.
Rows = Sequence[Row]

_UNREADABLE_TEXT: Final = "Failed to decode message in database"
#: What stands in the place of a row that holds no message.
UNREADABLE: Final = (
    f"<message xmlns='{NS_CLIENT}' type='error'><body>{_UNREADABLE_TEXT}</body>"
    f"<error code='500' type='wait'><internal-server-error xmlns='{NS_STANZA_ERRORS}'/>"
    f"<text xmlns='{NS_STANZA_ERRORS}'>{_UNREADABLE_TEXT}</text></error></message>"
)


#: (stanza, source) -> what a reader may see of it.
Shown = Callable[[str, str], str]


def _as_stored(stanza: str, source: str) -> str:
    return stanza


def messages(
    rows: Rows, query: Query, archive: JID, recipient: JID, shown: Shown = _as_stored
) -> Iterator[tuple[Stanza, bytes]]:
    """The stanzas that carry these rows, in their order, and their bytes; `shown`: how the recipient may see each."""
    query_id = f" queryid='{escape.attribute(query.query_id)}'" if query.query_id else ""
    opening = f"<result xmlns='{query.namespace}'{query_id} id='"
    keys = (qualified(query.namespace, "result"),)
    sender, to = archive.bare, recipient.full
    delay = f"'><forwarded xmlns='{NS_FORWARD}'><delay xmlns='{NS_DELAY}' stamp='"
    addresses = f"<message from='{escape.attribute(sender)}' to='{escape.attribute(to)}' id='"
    # One call for all: unlike uuid4() it costs nothing worth mentioning.
    random = os.urandom(8).hex()
    for number, (id_, source, stanza) in enumerate(rows):
        inner = (
            f"{opening}{ids.to_text(id_)}{delay}{ids.timestamp(id_)}' from='{escape.attribute(source)}'/>"
            f"{shown(stanza, source) if is_message(stanza) else UNREADABLE}</forwarded></result>"
        ).encode()
        name = f"{random}-{number}"
        carrier = Stanza("message", {"from": sender, "to": to, "id": name}, inner, keys)
        yield carrier, b"".join((addresses.encode(), name.encode(), b"'>", inner, b"</message>"))


def is_message(stanza: str) -> bool:
    """Does it look like one from both ends? More would have to be parsed."""
    return stanza.startswith("<message ") and stanza.endswith(("</message>", "/>"))


def fin(query: Query, found: Found) -> domish.Element:
    """The payload of the result that ends a query. `first` and `last` follow the order in which messages were sent."""
    sent = found.rows[::-1] if query.flip else found.rows
    page = rsm.page_element(
        first=ids.to_text(sent[0][0]) if sent else None,
        last=ids.to_text(sent[-1][0]) if sent else None,
        index=found.index,
        count=found.count,
    )
    element = domish.Element((query.namespace, "fin"))
    if found.complete:
        element["complete"] = "true"
    element.addRawXml(page.decode())
    return element
