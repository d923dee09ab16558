"""XEP-0049 Private XML Storage, version 1.2.

What is stored is found again by the name and namespace of its outermost element. A client that stores an empty element
takes the stored one away: asking for it gives an empty element in both cases.
"""

from collections.abc import AsyncIterator, Iterable

from twisted.words.xish import domish

from dynxmpp.config.model import one_of, positive
from dynxmpp.config.modules import IqDisc
from dynxmpp.module import (
    IQ,
    JID,
    Imported,
    Migration,
    Module,
    NotImported,
    Section,
    Stanza,
    StanzaError,
    Stored,
    Target,
    Transaction,
    Xep,
    iq_get,
    iq_set,
    option,
    section,
)

NS_PRIVATE = "jabber:iq:private"

_CREATE = """
CREATE TABLE private_storage (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (server, username, namespace, name)
)
"""

_SELECT = "SELECT data FROM private_storage WHERE server = %s AND username = %s AND namespace = %s AND name = %s"
_COUNT = "SELECT count(*) FROM private_storage WHERE server = %s AND username = %s"
_DELETE = "DELETE FROM private_storage WHERE server = %s AND username = %s AND namespace = %s AND name = %s"
_STORE = """
INSERT INTO private_storage (server, username, namespace, name, data) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (server, username, namespace, name) DO UPDATE SET data = excluded.data
"""
_PAGE = """
SELECT namespace, name, data FROM private_storage
WHERE server = %s AND username = %s AND (namespace, name) > (%s, %s) ORDER BY namespace, name LIMIT 20
"""
_ADD = """
INSERT INTO private_storage (server, username, namespace, name, data) SELECT %s, %s, %s, %s, %s
WHERE (SELECT count(*) FROM private_storage WHERE server = %s AND username = %s) < %s
ON CONFLICT DO NOTHING
"""
_PRESENT = "SELECT FROM private_storage WHERE server = %s AND username = %s AND namespace = %s AND name = %s"


@section
class PrivateConfig(Section):
    """[modules.mod_private]: `max_size` bounds the bytes of one stored piece, `max_items` an account's pieces."""

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("riak",), kind="backend"), unused=True
    )
    max_size: int = option(default=65_536, check=positive)
    max_items: int = option(default=100, check=positive)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class Private(Module):
    """Keeps XML for its owner; nobody else ever sees it."""

    name = "mod_private"
    xep = Xep(49, "1.2")
    config_model = PrivateConfig
    features = (NS_PRIVATE,)
    account_features = (NS_PRIVATE,)
    stored = (Stored("private_storage", domain="server", user="username"),)
    migrations = (Migration("mod_private", 1, "private_storage", _CREATE),)
    imported = (Imported.of(NS_PRIVATE, "query", "private", in_parts=True),)

    @iq_get(NS_PRIVATE, "query", at=Target.ACCOUNT)
    async def on_get(self, iq: IQ) -> domish.Element:
        pieces = _pieces(iq)
        if len(pieces) != 1:
            raise StanzaError("not-acceptable", text="One element at a time")
        ((namespace, name), _) = next(iter(pieces.items()))
        owner = iq.recipient
        rows = await self.database.query(_SELECT, (owner.domain, owner.local, namespace, name))
        answer = domish.Element((NS_PRIVATE, "query"))
        if rows:
            answer.addRawXml(rows[0][0])
        else:
            answer.addElement((namespace, name))
        return answer

    @iq_set(NS_PRIVATE, "query", at=Target.ACCOUNT)
    async def on_set(self, iq: IQ) -> None:
        pieces = _pieces(iq)
        for data in pieces.values():
            if len(data.encode()) > self.config.max_size:
                raise StanzaError("policy-violation", type="modify", text=f"At most {self.config.max_size} bytes")
        owner = iq.recipient
        await self.check_storage(owner.domain, sum(len(data.encode()) for data in pieces.values()))

        async def store(transaction: Transaction) -> None:
            for (namespace, name), data in pieces.items():
                place = (owner.domain, owner.local, namespace, name)
                if data:
                    await transaction.execute(_STORE, (*place, data))
                else:
                    await transaction.execute(_DELETE, place)
            ((count,),) = await transaction.query(_COUNT, (owner.domain, owner.local))
            if count > self.config.max_items:
                raise StanzaError("policy-violation", type="modify", text=f"At most {self.config.max_items} elements")

        await self.database.transaction(store)

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        owner = (account.domain, account.local)
        rows = await self.database.query(_PAGE, (*owner, "", ""))
        if not rows:
            return
        yield f"<query xmlns='{NS_PRIVATE}'>\n".encode()
        while rows:
            yield "".join(f"{data}\n" for _, _, data in rows).encode()
            rows = await self.database.query(_PAGE, (*owner, *rows[-1][:2]))
        yield b"</query>\n"

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        problems = [problem for piece in element.elements() if (problem := await self._add(account, piece))]
        if problems:
            raise NotImported(*problems)
        return True

    async def _add(self, account: JID, piece: domish.Element) -> str:
        """Stores a piece that is not there yet; gives what is wrong with it, or ""."""
        place = (account.domain, account.local, piece.uri or "", piece.name)
        what = f"private data {place[3]} {{{place[2]}}}"
        if _is_reserved(place[2]):
            return f"{what}: reserved namespace"
        data = _text(piece)
        if len(data.encode()) > self.config.max_size:
            return f"{what}: more than {self.config.max_size} bytes"
        if not data or await self.database.execute(_ADD, (*place, data, *place[:2], self.config.max_items)):
            return ""
        is_there = await self.database.query(_PRESENT, place)
        return "" if is_there else f"{what}: more than {self.config.max_items} elements"


def _pieces(iq: IQ) -> dict[tuple[str, str], str]:
    """What a request wants stored, or asks for: text by namespace and name, "" for an empty element.

    Raises StanzaError for somebody else's storage, and for a request that names nothing that may be stored.
    """
    if not iq.from_own_account:
        raise StanzaError("forbidden")
    pieces: dict[tuple[str, str], str] = {}
    for element in iq.payload.elements():
        namespace = element.uri or ""
        if _is_reserved(namespace):
            raise StanzaError("not-acceptable", text="Elements in a namespace of their own only")
        key = (namespace, element.name)
        pieces[key] = pieces.get(key, "") + _text(element)
    if not pieces:
        raise StanzaError("not-acceptable", text="No element")
    return pieces


def _is_reserved(namespace: str) -> bool:
    """XEP-0049 2.4: what clients must not keep here, among it what would not be a payload of its own."""
    return namespace in ("", "vcard-temp") or namespace.startswith(("jabber:", "http://jabber.org/"))


def _text(element: domish.Element) -> str:
    if not element.attributes and not _has_content(element.children):
        return ""
    return Stanza.from_element(element).to_bytes(embedded=True).decode()


def _has_content(children: Iterable[object]) -> bool:
    return any(not isinstance(child, str) or child.strip() for child in children)
