"""`stored_bytes`: what a domain may keep for its accounts."""

from math import inf

from dynxmpp.config.limits import Limits
from dynxmpp.core.interfaces import DomainLimits
from dynxmpp.domains.limits import HostTypeLimits
from dynxmpp.domains.stored_sizes import FULL_AGE_S, StoredSizes
from dynxmpp.modules.offline import Offline
from dynxmpp.modules.private import Private
from dynxmpp.modules.vcard import VCard
from tests.fixtures.c2s import condition
from tests.fixtures.dialogue import Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase

DOMAIN, OTHER = "montague.example", "capulet.example"


class StoredBytes(DatabaseTestCase):
    migrations = (*Private.migrations, *VCard.migrations, *Offline.migrations)

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host = await Host([Private, VCard, Offline], database=self.db).start()
        self.sizes = StoredSizes(self.host.clock)
        self.romeo = self.host.session(f"romeo@{DOMAIN}/a")
        self.juliet = self.host.session(f"juliet@{OTHER}/b")
        self.host.accounts.names.add(f"away@{DOMAIN}")
        self.limit(1000)

    def limit(self, stored_bytes: float) -> None:
        host_type = self.host.host_types[0]
        limits = HostTypeLimits(Limits(stored_bytes=stored_bytes), None, self.sizes, self.host.type_of)
        host_type.provide(DomainLimits, limits)

    async def keep(self, session: TestSession, name: str, size: int) -> str:
        """A piece of private storage; `result`, or the condition of the error."""
        data = "".join(chr(97 + (7 * i * i + 3 * i) % 26) for i in range(size))
        reply = await session.asks(
            f"<iq type='set' id='p'><query xmlns='jabber:iq:private'><x xmlns='urn:{name}'>{data}</x></query></iq>"
        )
        return "result" if reply["type"] == "result" else condition(reply)

    async def test_what_is_too_much_is_refused_and_harms_nobody_else(self) -> None:
        self.assertEqual("result", await self.keep(self.romeo, "a", 700))
        self.assertEqual("resource-constraint", await self.keep(self.romeo, "b", 700))
        self.assertEqual("result", await self.keep(self.romeo, "c", 50))
        self.assertEqual("result", await self.keep(self.juliet, "a", 900))
        card = f"<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>{'x' * 900}</FN></vCard></iq>"
        self.assertEqual("resource-constraint", condition(await self.romeo.asks(card)))
        small = "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>x</FN></vCard></iq>"
        self.assertEqual("result", (await self.romeo.asks(small))["type"])

    async def test_senders_learn_what_offline_storage_does_not_take(self) -> None:
        for size in (700, 700):
            self.juliet.sends(f"<message to='away@{DOMAIN}' type='chat'><body>{'x' * size}</body></message>")
            await self.host.settle()
        refused = await self.juliet.receives("message")
        self.assertEqual(("error", "resource-constraint"), (refused["type"], condition(refused)))
        await self.host.silence(self.juliet)

    async def test_what_was_deleted_makes_room(self) -> None:
        self.assertEqual("result", await self.keep(self.romeo, "a", 700))
        await self.db.execute("DELETE FROM private_storage")
        self.assertEqual("resource-constraint", await self.keep(self.romeo, "b", 700))
        self.host.clock.advance(FULL_AGE_S)
        self.assertEqual("result", await self.keep(self.romeo, "b", 700))

    async def test_deleting_is_always_possible(self) -> None:
        await self.keep(self.romeo, "a", 700)
        self.limit(0)
        self.host.clock.advance(FULL_AGE_S)
        empty = "<iq type='set' id='v'><vCard xmlns='vcard-temp'/></iq>"
        self.assertEqual("result", (await self.romeo.asks(empty))["type"])
        self.assertEqual("result", await self.keep(self.romeo, "a", 0))

    async def test_without_a_limit_nothing_is_measured(self) -> None:
        self.limit(inf)
        await self.keep(self.romeo, "a", 5000)
        self.assertIsNone(self.sizes.known(DOMAIN))
