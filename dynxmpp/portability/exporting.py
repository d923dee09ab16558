"""A domain as a document, written while it is read: a page of accounts at a time, and of what a module has of each.

There is no moment that all of it shows: what changes meanwhile is in it as it was before or as it is after.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Final

from dynxmpp.auth.base import Credentials
from dynxmpp.jid import JID
from dynxmpp.portability.credentials import printed_record
from dynxmpp.portability.portable import Portable, PortableAccounts
from dynxmpp.protocol.pie import NS_PIE
from dynxmpp.wire import escape

__all__ = ["document_of"]

#: Accounts that are read at a time, and bytes that are gathered.
PAGE: Final = 200
CHUNK_BYTES: Final = 65_536


async def document_of(
    domain: str, accounts: PortableAccounts, modules: Iterable[Portable]
) -> AsyncGenerator[bytes, None]:
    """The document in pieces. Raises what the accounts and the modules raise; NotSupported before the first piece."""
    gathered: list[bytes] = []
    size = 0
    async for piece in _pieces(domain, accounts, tuple(modules)):
        gathered.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            size = 0
    yield b"".join(gathered)


async def _pieces(domain: str, accounts: PortableAccounts, modules: tuple[Portable, ...]) -> AsyncIterator[bytes]:
    page = await accounts.credentials(domain, None, PAGE)
    yield f"<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='{NS_PIE}'>\n".encode()
    yield escape.open_tag("host", {"jid": domain}, {}).encode() + b"\n"
    while page:
        for credentials in page:
            async for piece in _user(JID.of(credentials.username, domain), credentials, modules):
                yield piece
        page = await accounts.credentials(domain, page[-1].username, PAGE)
    yield b"</host>\n</server-data>\n"


async def _user(account: JID, credentials: Credentials, modules: tuple[Portable, ...]) -> AsyncIterator[bytes]:
    attributes: dict[escape.AttributeName, str] = {"name": credentials.username}
    if credentials.password is not None:
        attributes["password"] = credentials.password
    yield escape.open_tag("user", attributes, {}).encode() + b"\n"
    for record in credentials.records:
        yield printed_record(record).encode() + b"\n"
    for module in modules:
        async for piece in module.exported(account):
            yield piece
    yield b"</user>\n"
