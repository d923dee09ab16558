"""XEP-0313 with what else keeps, copies or stops messages: offline storage, carbons, isolation, Bind 2."""

from typing import Any, ClassVar

from dynxmpp.core.interfaces import ArchivedCopies
from dynxmpp.modules.carbons import Carbons
from dynxmpp.modules.isolation import DomainIsolation
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.offline import DEFAULT_MAX_MESSAGES, Offline
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import TestSession
from tests.mam.support import ArchiveTestCase
from tests.protocol.support import condition

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

    async def test_a_full_queue_is_no_error_for_what_is_in_the_archive(self) -> None:
        for number in range(DEFAULT_MAX_MESSAGES):
            self.says(number)
        await self.settle()
        await self.host.silence(self.romeo)
        self.assertEqual(DEFAULT_MAX_MESSAGES, await self.offline())
        self.assertEqual(DEFAULT_MAX_MESSAGES + 3, len(await self.archived(JULIET)))


class WithoutOffline(ArchiveTestCase):
    """Nobody is there, and nothing is kept but in the archive."""

    async def setUp(self) -> None:
        await super().setUp()
        self.juliet.leaves()

    async def test_what_is_archived_does_not_come_back(self) -> None:
        self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>first</body></message>")
        await self.settle()
        await self.host.silence(self.romeo)
        self.assertEqual(1, len(await self.archived(JULIET)))

    async def test_anything_else_does(self) -> None:
        for to, hint in ((JULIET, "<no-store xmlns='urn:xmpp:hints'/>"), ("nobody@capulet.example", "")):
            self.romeo.sends(f"<message to='{to}' type='chat'><body>first</body>{hint}</message>")
            self.assertEqual("service-unavailable", condition(await self.romeo.receives("message")))


class ReadsSeeWrites(ArchiveTestCase):
    async def test_of_an_archive_that_there_was_not(self) -> None:
        """The first message of an account waits for the number of its archive; the query comes right behind it."""
        self.romeo.sends(f"<message to='{JULIET}' type='chat'><body>first</body></message>")
        reply = await self.romeo.asks(QUERY)
        self.assertEqual("1", str(next(reply.fin.elements()).count))
        self.assertIn("first", self.romeo.received[0].toXml())

    async def test_at_full_speed(self) -> None:
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


class WithCarbons(ArchiveTestCase):
    """XEP-0280: a copy has the id of the archive of the account that gets it, and is archived by nobody."""

    modules: ClassVar[tuple[Any, ...]] = (Carbons,)

    async def setUp(self) -> None:
        await super().setUp()
        self.garden = self.host.session("romeo@montague.example/garden")
        self.chamber = self.host.session(f"{JULIET}/chamber")
        for session in (self.garden, self.chamber):
            await session.asks("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")

    async def copied(self, session: TestSession, name: str) -> Any:
        """The message in a copy."""
        copy = await session.receives("message")
        (wrapper,) = copy.elements("urn:xmpp:carbons:2", name)
        forwarded = next(wrapper.elements("urn:xmpp:forward:0", "forwarded"))
        return next(forwarded.elements("jabber:client", "message"))

    async def test_ids_of_both_copies(self) -> None:
        self.romeo.sends(f"<message to='{JULIET}/balcony' type='chat'><body>hi</body></message>")
        for session, name, owner in (
            (self.garden, "sent", "romeo@montague.example"),
            (self.chamber, "received", JULIET),
        ):
            message = await self.copied(session, name)
            (row,) = await self.archived(owner)
            stanza_ids = list(message.elements("urn:xmpp:sid:0", "stanza-id"))
            self.assertEqual([(owner, to_text(row.id))], [(e["by"], e["id"]) for e in stanza_ids])
        self.assertEqual(2, await self.count())

    async def test_results_are_copied_to_nobody(self) -> None:
        self.romeo.sends(f"<message to='{JULIET}/balcony' type='chat'><body>hi</body></message>")
        await self.copied(self.garden, "sent")
        await self.copied(self.chamber, "received")
        for session in (self.romeo, self.juliet):
            session.received.clear()
            await session.asks(QUERY)
            self.assertEqual(1, len(session.received))
        await self.host.silence(self.garden, self.chamber)
        self.assertEqual(2, await self.count())


class WithIsolation(ArchiveTestCase):
    """What is walled off is in the archive of the sender, whose side is not asked, and nowhere else."""

    modules: ClassVar[tuple[Any, ...]] = (DomainIsolation,)

    async def test_only_the_sender_has_it(self) -> None:
        self.romeo.sends(f"<message to='{JULIET}/balcony' type='chat'><body>hi</body></message>")
        self.assertEqual("error", (await self.romeo.receives("message"))["type"])
        self.assertEqual(1, len(await self.archived("romeo@montague.example")))
        self.assertEqual(1, await self.count(), "and the error is in no archive")
        await self.host.silence(self.juliet)


class FirstVersion(ArchiveTestCase):
    """All that `urn:xmpp:mam:2#extended` stands for is there under `urn:xmpp:mam:1` too."""

    async def page(self, inner: str) -> tuple[list[str], Any]:
        """Bodies and the <fin/>; everything in the namespace of the request."""
        reply = await self.romeo.asks(f"<iq type='set' id='q'><query xmlns='urn:xmpp:mam:1'>{inner}</query></iq>")
        results = [next(message.elements("urn:xmpp:mam:1", "result")) for message in self.romeo.received]
        self.romeo.received.clear()
        forwarded = [next(result.elements("urn:xmpp:forward:0", "forwarded")) for result in results]
        return [str(next(f.elements("jabber:client", "message")).body) for f in forwarded], next(reply.elements())

    async def test_extended(self) -> None:
        for number in range(4):
            self.romeo.sends(f"<message to='{JULIET}/balcony' type='chat'><body>{number}</body></message>")
        first, second, third, last = (to_text(row.id) for row in await self.archived("romeo@montague.example"))

        def form(name: str, *values: str) -> str:
            inner = "".join(f"<value>{value}</value>" for value in values)
            return f"<x xmlns='jabber:x:data' type='submit'><field var='{name}'>{inner}</field></x>"

        for inner, expected in (
            ("", ["0", "1", "2", "3"]),
            ("<flip-page/>", ["3", "2", "1", "0"]),
            (form("after-id", second), ["2", "3"]),
            (form("before_id", second), ["0"]),
            (form("from-id", third), ["2", "3"]),
            (form("to-id", first), ["0"]),
            (form("ids", third, first), ["2", "0"]),
        ):
            bodies, fin = await self.page(inner)
            self.assertEqual((expected, "urn:xmpp:mam:1", "true"), (bodies, fin.uri, fin["complete"]), inner)
        metadata = await self.romeo.asks("<iq type='get' id='m'><metadata xmlns='urn:xmpp:mam:1'/></iq>")
        self.assertEqual([first, last], [end["id"] for end in metadata.metadata.elements("urn:xmpp:mam:1")])
