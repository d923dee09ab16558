"""XEP-0313 for one host type only: what users of the others are told, and what is kept of what they say."""

import dataclasses
from typing import Any, ClassVar

from dynxmpp.core.domain_table import DomainOrigin
from dynxmpp.core.host_type import HostType
from dynxmpp.module_loader import build_modules
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam import Mam
from tests.mam.support import ArchiveTestCase
from tests.protocol.support import condition

ROMEO, JULIET, BENVOLIO = "romeo@montague.example", "juliet@capulet.example", "benvolio@verona.example"
REQUESTS = tuple(
    f"<iq type='{type_}' id='1'><{name} xmlns='{namespace}'/></iq>"
    for namespace in ("urn:xmpp:mam:1", "urn:xmpp:mam:2")
    for type_, name in (("set", "query"), ("get", "query"), ("get", "metadata"), ("set", "prefs"), ("get", "prefs"))
)


class OneHostType(ArchiveTestCase):
    """montague.example and capulet.example have archives; verona.example is of a host type that has none."""

    modules: ClassVar[tuple[Any, ...]] = (Disco,)

    async def setUp(self) -> None:
        await super().setUp()
        plain = HostType("plain", is_static=False, accounts=self.host.accounts)
        self.host.domains.add_host_type("plain", plain, DomainOrigin.DYNAMIC)
        self.host.domains.insert("verona.example", "plain")
        # The program has the module, the host type has not.
        context = dataclasses.replace(self.mam.context, host_type=plain)
        build_modules(context, {Disco.name: Disco.config_model()}, {Disco.name: Disco, Mam.name: Mam})
        self.host.host_types.append(plain)
        self.benvolio = self.host.session(f"{BENVOLIO}/street")

    async def test_requests_are_known_and_not_served(self) -> None:
        for request in REQUESTS:
            self.assertEqual("feature-not-implemented", condition(await self.benvolio.asks(request)), request)
            to_himself = request.replace("<iq ", f"<iq to='{BENVOLIO}' ")
            self.assertEqual("feature-not-implemented", condition(await self.benvolio.asks(to_himself)), request)
        await self.host.silence(self.benvolio)

    async def test_both_ways_across(self) -> None:
        for request in REQUESTS:
            there = request.replace("<iq ", f"<iq to='{ROMEO}' ")
            self.assertEqual("not-allowed", condition(await self.benvolio.asks(there)), request)
            back = request.replace("<iq ", f"<iq to='{BENVOLIO}' ")
            self.assertEqual("feature-not-implemented", condition(await self.romeo.asks(back)), request)

    async def test_an_account_that_is_not_there_is_told_apart_by_nobody(self) -> None:
        for request in REQUESTS:
            replies = [
                await self.romeo.asks(request.replace("<iq ", f"<iq to='{name}@verona.example' "))
                for name in ("benvolio", "nobody")
            ]
            self.assertEqual(*(reply.error.toXml() for reply in replies))

    async def features(self, session: Any, to: str) -> set[str]:
        reply = await session.asks(
            f"<iq type='get' id='1' to='{to}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        self.assertEqual("result", reply["type"], reply.toXml())
        return {e["var"] for e in reply.query.elements() if e.name == "feature"}

    async def test_nothing_is_announced(self) -> None:
        foreign = ("urn:xmpp:mam", "urn:xmpp:message-retract", "urn:esl:", "urn:xmpp:sid", "urn:xmpp:fulltext")
        for to in ("verona.example", BENVOLIO):
            found = await self.features(self.benvolio, to)
            self.assertTrue(found)
            self.assertEqual([], [f for f in found if f.startswith(foreign)])
        for to in ("montague.example", ROMEO):
            self.assertIn("urn:xmpp:mam:2", await self.features(self.romeo, to))

    async def test_the_side_that_has_an_archive_keeps_what_is_said(self) -> None:
        self.romeo.sends(f"<message to='{BENVOLIO}/street' type='chat'><body>one</body></message>")
        received = await self.benvolio.receives("message")
        self.assertEqual(["body"], [child.name for child in received.elements()])  # nobody there gives ids
        self.benvolio.sends(f"<message to='{ROMEO}/orchard' type='chat'><body>two</body></message>")
        received = await self.romeo.receives("message")
        self.assertEqual(ROMEO, next(received.elements("urn:xmpp:sid:0", "stanza-id"))["by"])
        rows = await self.archived(ROMEO)
        self.assertEqual([(BENVOLIO, True), (BENVOLIO, False)], [(row.remote, row.outgoing) for row in rows])
        self.assertEqual((2, 1), (await self.count(), await self.count("mam_archive")))

    async def test_among_themselves_nothing_is_kept(self) -> None:
        self.benvolio.sends(f"<message to='{BENVOLIO}/street' type='chat'><body>one</body></message>")
        await self.benvolio.receives("message")
        self.assertEqual((0, 0), (await self.count(), await self.count("mam_archive")))
