"""Reading archives: as a client pages through its own (XEP-0313 with XEP-0059), and the tables beneath."""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.words.xish import domish

from dynxmpp.wire.stanza import Stanza
from tests.chaos.client import NS_MAM, Client
from tests.chaos.history import Kept, read_body

_clock: Any = reactor

PAGE = 50
NS_RSM = "http://jabber.org/protocol/rsm"
NS_FORWARD = "urn:xmpp:forward:0"

_ROWS = """
SELECT a.name || '@' || a.server, m.id, m.stanza
FROM mam_archive a JOIN mam_message m ON m.archive = a.id
WHERE a.kind = 0 ORDER BY a.id, m.id
"""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


#: Attempts at a page while the server says that its database is away, and seconds between them.
ATTEMPTS = 20
PAUSE_S = 0.5


class Unreadable(Exception):
    """The archive did not answer as it should."""


async def read_by_mam(client: Client) -> list[Kept]:
    """Everything in the client's archive, from the oldest on. Raises Unreadable, Gone, defer.TimeoutError."""
    kept: list[Kept] = []
    last = ""
    while True:
        after = f"<after>{last}</after>" if last else ""
        fin = await _ask(client, f"<set xmlns='{NS_RSM}'><max>{PAGE}</max>{after}</set>")
        page = [_kept(result) for result in client.results]
        kept += page
        rsm_answer = next(fin.elements(NS_RSM, "set"))
        if fin.getAttribute("complete") == "true":
            count = int(str(next(rsm_answer.elements(NS_RSM, "count"), "-1")))
            if count not in (-1, len(kept)):
                raise Unreadable(f"{client.account}: {len(kept)} messages read, the archive says {count}")
            return kept
        last = str(next(rsm_answer.elements(NS_RSM, "last"), ""))
        if not page or last != page[-1].archive_id:
            raise Unreadable(f"{client.account}: {len(page)} messages, last {last!r} after {kept[-1:]}")


async def _ask(client: Client, rsm: str) -> domish.Element:
    """One page: its end; the results are the client's then. Raises Unreadable."""
    for _ in range(ATTEMPTS):
        client.results.clear()
        reply = await client.ask(f"<query xmlns='{NS_MAM}'>{rsm}</query>", "set")
        fin = reply.child(NS_MAM, "fin")
        if reply.attributes["type"] == "result" and fin is not None:
            return fin
        await deferLater(_clock, PAUSE_S)
    raise Unreadable(f"{client.account}: {reply.to_bytes().decode()}")


def _kept(message: Stanza) -> Kept:
    result = message.child(NS_MAM, "result")
    assert result is not None
    forwarded = next(result.elements(NS_FORWARD, "forwarded"))
    inner = next(child for child in forwarded.elements() if child.name == "message")
    return Kept(str(result["id"]), read_body(_text_of_body(inner)))


def _text_of_body(message: domish.Element) -> str:
    return next((str(child) for child in message.elements() if child.name == "body"), "")


def read_by_sql(rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, list[Kept]]:
    """The same of all accounts, out of the tables."""
    archives: dict[str, list[Kept]] = {}
    for account, id_, text in rows(_ROWS):
        body = text.partition("<body>")[2].partition("</body>")[0]
        archives.setdefault(account, []).append(Kept(base32(id_), read_body(body)))
    return archives


def base32(number: int) -> str:
    """An archive id as clients see it."""
    text = ""
    while number:
        number, digit = divmod(number, 32)
        text = _DIGITS[digit] + text
    return text or "0"
