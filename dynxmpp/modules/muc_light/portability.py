"""Blocking lists on their way to another server and from there, as a client gets them (XEP-0227 has no element)."""

from collections.abc import AsyncIterator
from typing import Final

from twisted.words.xish import domish

from dynxmpp.module import JID, Imported, NotImported, StanzaError
from dynxmpp.modules.muc_light.blocking_store import BlockingLists
from dynxmpp.modules.muc_light.names import NS_BLOCKING
from dynxmpp.modules.muc_light.requests import BlockingItem, read_blocking
from dynxmpp.wire import escape

IMPORTED: Final = (Imported.of(NS_BLOCKING, "query", "blocked in rooms", in_parts=True),)


async def printed_blocking(lists: BlockingLists, account: JID) -> AsyncIterator[bytes]:
    """The list of an account; nothing when it is empty."""
    found = await lists.blocking(account)
    if found:
        items = (f"<{kind.text} action='deny'>{escape.text(jid.full)}</{kind.text}>\n" for kind, jid in found)
        yield f"<query xmlns='{NS_BLOCKING}'>\n{''.join(items)}</query>\n".encode()


async def add_blocking(lists: BlockingLists, account: JID, element: domish.Element) -> None:
    """Adds what is denied. Raises NotImported, Unavailable."""
    wanted: list[BlockingItem] = []
    problems: list[str] = []
    for child in element.elements():
        single = domish.Element((NS_BLOCKING, "query"))
        single.addChild(child)
        try:
            wanted += [item for item in read_blocking(single) if item.deny]
        except StanzaError as error:
            problems.append(f"{child.name} {str(child)[:60]!r} in the list of who may not invite: {error.text}")
    if wanted:
        await lists.change_blocking(account, wanted)
    if problems:
        raise NotImported(*problems)
