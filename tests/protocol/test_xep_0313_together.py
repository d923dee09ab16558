"""XEP-0313 with what else keeps messages: offline storage, the slow lane, Bind 2."""

from typing import Any, ClassVar

from dynxmpp.core.interfaces import ArchivedCopies
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.offline import Offline
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import TestSession
from tests.mam.support import ArchiveTestCase

JULIET = "juliet@capulet.example"
QUERY = "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>"


class WithOffline(ArchiveTestCase):
    """A message is in the archive and in offline storage; the client gets it once."""

    modules: ClassVar[tuple[Any, ...]] = (Presence, Offline)
    migrations = (*Mam.migrations, *Offline.migrations)

    async def setUp(self) -> None:
        await super().setUp()
        self.addCleanup(self.host.host_types[0].modules["mod_offline"].stop)
        self.juliet.leaves()
        self.host.accounts.names.add(JULIET)
        for number in range(3):
            self.says(number)
        await self.settle()
        await self.offline()

    def says(self, number: int, inner: str = "") -> None:
        self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>{number}</body>{inner}</message>")

    async def offline(self) -> int:
        await self.host.host_types[0].modules["mod_offline"]._writer.flush()  # type: ignore[attr-defined]
        return int((await self.db.query("SELECT count(*) FROM offline_message"))[0][0])

    async def comes(self, *before: str) -> tuple[TestSession, list[str]]:
        """Juliet logs in, asks `before` her presence; what she gets after it."""
        session = self.host.session(f"{JULIET}/phone")
        for xml in before:
            self.assertEqual("result", (await session.asks(xml))["type"])
        session.received.clear()
        session.sends("<presence/>")
        await self.host.settle()
        return session, [str(e.body) for e in session.received if e.name == "message"]

    async def test_who_has_not_asked_gets_what_was_kept(self) -> None:
        self.assertEqual(3, await self.offline())
        _, bodies = await self.comes()
        self.assertEqual(["0", "1", "2"], bodies)
        self.assertEqual(0, await self.offline())

    async def test_who_has_read_it_does_not_get_it_again(self) -> None:
        session, bodies = await self.comes(QUERY)
        self.assertEqual([], bodies)
        self.assertEqual(0, await self.offline(), "and it is not kept for anybody else")
        self.assertNotIn(ArchivedCopies, session.slots)

    async def test_what_was_not_read_comes(self) -> None:
        """The client has asked for the last message only."""
        page = "<set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set>"
        last = QUERY.replace("/></iq>", f">{page}</query></iq>")
        _, bodies = await self.comes(last)
        self.assertEqual(["0", "1"], bodies)

    async def test_what_is_read_later_changes_nothing(self) -> None:
        session, _ = await self.comes()
        await session.asks(QUERY)
        self.assertNotIn(ArchivedCopies, session.slots)


class ReadsSeeWrites(ArchiveTestCase):
    async def test_of_an_archive_that_there_was_not(self) -> None:
        """The first message of an account waits for the number of its archive; the query comes right behind it."""
        self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>first</body></message>")
        reply = await self.romeo.asks(QUERY)
        self.assertEqual("1", str(next(reply.fin.elements()).count))
        self.assertIn("first", self.romeo.received[0].toXml())

    async def test_at_full_speed(self) -> None:
        await self.romeo.asks(QUERY)
        for number in range(100):
            self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>{number}</body></message>")
        reply = await self.romeo.asks(QUERY)
        self.assertEqual("100", str(next(reply.fin.elements()).count))


class Metadata(ArchiveTestCase):
    async def test_for_bind_2(self) -> None:
        self.assertEqual(b"<metadata xmlns='urn:xmpp:mam:2'/>", await self.mam.bound(self.romeo))
        self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>first</body></message>")
        [row] = await self.archived("romeo@montague.example")
        self.assertEqual(2, (await self.mam.bound(self.romeo)).count(to_text(row.id).encode()))
