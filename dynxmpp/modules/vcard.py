"""XEP-0054 vcard-temp, version 1.3.0: everybody may read an account's card, its owner alone writes it.

Left out: cards of domains, and the search of XEP-0055 (its options are accepted: see VCardConfig).
"""

from collections.abc import AsyncIterator

from twisted.words.xish import domish

from dynxmpp.config.model import IntOrInfinity, non_negative, one_of, positive, subdomain_template
from dynxmpp.config.modules import IqDisc
from dynxmpp.module import (
    IQ,
    JID,
    Imported,
    Migration,
    Module,
    Section,
    Stanza,
    StanzaError,
    Stored,
    Target,
    Xep,
    iq_get,
    iq_set,
    option,
    section,
)

NS_VCARD = "vcard-temp"

_CREATE = """
CREATE TABLE vcard (
    server text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    vcard text NOT NULL,
    PRIMARY KEY (server, username)
)
"""

_SELECT = "SELECT vcard FROM vcard WHERE server = %s AND username = %s"
_DELETE = "DELETE FROM vcard WHERE server = %s AND username = %s"
_STORE = """
INSERT INTO vcard (server, username, vcard) VALUES (%s, %s, %s)
ON CONFLICT (server, username) DO UPDATE SET vcard = excluded.vcard
"""
_ADD = "INSERT INTO vcard (server, username, vcard) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"


@section
class VCardConfig(Section):
    """[modules.mod_vcard]: `max_size` bounds a card's bytes. The options of the search have no effect."""

    backend: str = option(
        default="rdbms", check=one_of("rdbms", "mnesia", unavailable=("ldap", "riak"), kind="backend"), unused=True
    )
    max_size: int = option(default=262_144, check=positive)
    host: str = option(default="vjud.@HOST@", check=subdomain_template, unused=True)
    search: bool = option(default=True, unused=True)
    matches: IntOrInfinity = option(default=30, check=non_negative, unused=True)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


class VCard(Module):
    """One card an account; its content is kept as it was sent."""

    name = "mod_vcard"
    xep = Xep(54, "1.3.0")
    config_model = VCardConfig
    features = (NS_VCARD,)
    account_features = (NS_VCARD,)
    stored = (Stored("vcard", domain="server", user="username"),)
    migrations = (Migration("mod_vcard", 1, "vcard", _CREATE),)
    imported = (Imported.of(NS_VCARD, "vCard", "vcards"),)

    @iq_get(NS_VCARD, "vCard", at=Target.ACCOUNT)
    async def on_get(self, iq: IQ) -> domish.Element:
        owner = iq.recipient
        rows = await self.database.query(_SELECT, (owner.domain, owner.local))
        if not rows:
            # Section 3.3: to others as if there were no such account; one's own is merely not there yet.
            raise StanzaError("item-not-found" if iq.from_own_account else "service-unavailable")
        return _printed(rows[0][0])

    @iq_set(NS_VCARD, "vCard", at=Target.ACCOUNT)
    async def on_set(self, iq: IQ) -> None:
        if not iq.from_own_account:
            raise StanzaError("forbidden")
        owner, card = iq.recipient, iq.payload
        if next(iter(card.elements()), None) is None:
            await self.database.execute(_DELETE, (owner.domain, owner.local))
            return
        text = self._text(card)
        await self.check_storage(owner.domain, len(text.encode()))
        await self.database.execute(_STORE, (owner.domain, owner.local, text))

    def _text(self, card: domish.Element) -> str:
        """The content of a card. Raises StanzaError."""
        text = Stanza.from_element(card).inner().decode()
        if len(text.encode()) > self.config.max_size:
            raise StanzaError("policy-violation", type="modify", text=f"At most {self.config.max_size} bytes")
        return text

    async def exported(self, account: JID) -> AsyncIterator[bytes]:
        for (text,) in await self.database.query(_SELECT, (account.domain, account.local)):
            yield f"<vCard xmlns='{NS_VCARD}'>{text}</vCard>\n".encode()

    async def import_element(self, account: JID, element: domish.Element) -> bool:
        if next(iter(element.elements()), None) is not None:
            await self.database.execute(_ADD, (account.domain, account.local, self._text(element)))
        return True


def _printed(text: str) -> domish.Element:
    """The card whose content is `text`."""
    card = domish.Element((NS_VCARD, "vCard"))
    card.addRawXml(text)
    return card
