"""What Prometheus is told of archives."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dynxmpp.jid import JID
from dynxmpp.module import RoutingContext
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from tests.fixtures.dialogue import parse
from tests.mam.support import ArchiveTestCase

ROMEO, JULIET = "romeo@montague.example", "juliet@capulet.example"
NS_MAM = "urn:xmpp:mam:2"
ROOM = JID.parse("coven@rooms.montague.example")


class Figures(ArchiveTestCase):
    config = MamConfig(
        pm=PmArchive(user_prefs_store="rdbms"), muc=MucArchive(host="rooms.@HOST@", user_prefs_store="rdbms")
    )

    def figures(self) -> dict[str, float]:
        """Those that are not 0, without what is before and behind their names."""
        found = {}
        text = generate_latest(self.mam.context.metrics.registry).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.assertEqual({"host_type": "basic"}, sample.labels)
                self.assertTrue(sample.name.startswith("dynxmpp_"), sample.name)
                if sample.value:
                    found[sample.name.removeprefix("dynxmpp_").removesuffix("_total")] = sample.value
        return found

    def counted(self) -> dict[str, float]:
        """Without those that depend on how fast the machine is."""
        return {n: v for n, v in self.figures().items() if not n.endswith("_time") and n != "async_pool_flush"}

    def says(self, number: int = 1, inner: str = "") -> None:
        for _ in range(number):
            self.romeo.sends(f"<message to='{JULIET}/balcony' type='chat'><body>hi</body>{inner}</message>")

    async def test_nothing_yet(self) -> None:
        self.assertEqual({}, self.figures())

    async def test_what_is_written(self) -> None:
        self.says(3)
        self.says(2, "<no-store xmlns='urn:xmpp:hints'/>")
        await self.settle()
        self.assertEqual({"mod_mam_pm_archive_message_count": 6, "mod_mam_flushed_count": 6}, self.counted())
        figures = self.figures()
        self.assertTrue(1 <= figures["async_pool_flush"] <= 6, figures)
        self.assertGreater(figures["mod_mam_flushed_time"], 0)

    async def test_what_waits(self) -> None:
        self.says()
        await self.settle()
        self.says(5)
        self.assertEqual(10, self.figures()["async_pool_queue"])
        await self.settle()
        self.assertNotIn("async_pool_queue", self.figures())

    async def test_what_cannot_be_written(self) -> None:
        self.says()
        await self.settle()
        await self.db.execute("ALTER TABLE mam_message ADD CHECK (position('poison' IN stanza) = 0)")
        self.says(2, "<x xmlns='urn:example:poison'/>")
        self.says()
        await self.settle()
        self.flushLoggedErrors()
        expected = {"mod_mam_pm_archive_message_count": 8, "mod_mam_flushed_count": 4, "mod_mam_dropped_count": 4}
        self.assertEqual(expected, self.counted())

    async def test_what_is_read(self) -> None:
        self.says(3)
        await self.settle()
        before = self.counted()
        simple = (
            "<x xmlns='jabber:x:data' type='submit'><field var='simple'><value>true</value></field></x>"
            "<set xmlns='http://jabber.org/protocol/rsm'><max>2</max></set>"
        )
        for inner, type_ in (("", "result"), (simple, "result"), ("<set/>", "result")):
            reply = await self.romeo.asks(f"<iq type='set' id='1'><query xmlns='{NS_MAM}'>{inner}</query></iq>")
            self.assertEqual(type_, reply["type"])
        # Not an answer: refused.
        await self.juliet.asks(f"<iq type='set' id='1' to='{ROMEO}'><query xmlns='{NS_MAM}'/></iq>")
        lookups = {"mod_mam_pm_lookup_count": 3, "mod_mam_pm_lookup_simple": 1, "mod_mam_pm_lookup_size": 8}
        self.assertEqual({**before, **lookups}, self.counted())
        self.assertGreater(self.figures()["mod_mam_pm_lookup_time"], 0)

    async def test_preferences_and_removal(self) -> None:
        await self.romeo.asks(f"<iq type='set' id='1'><prefs xmlns='{NS_MAM}' default='never'/></iq>")
        for _ in range(2):
            await self.romeo.asks(f"<iq type='get' id='1'><prefs xmlns='{NS_MAM}'/></iq>")
        await self.romeo.asks(f"<iq type='set' id='1'><prefs xmlns='{NS_MAM}' default='nonsense'/></iq>")
        await self.mam.remove_account(JID.parse(ROMEO))
        await self.mam.remove_account(JID.parse("nobody@montague.example"))  # there was none
        expected = {"set_prefs_count": 1, "get_prefs_count": 2, "remove_archive_count": 1}
        self.assertEqual({f"mod_mam_pm_{name}": value for name, value in expected.items()}, self.counted())

    async def test_rooms(self) -> None:
        self.host.domains.register_subdomain("basic", self.host.host_types[0], "rooms.@HOST@")
        context = RoutingContext(self.romeo.jid, ROOM)
        stanza = parse(f"<message from='{ROOM.bare}/{ROMEO}' type='groupchat' id='1'><body>hi</body></message>")
        self.mam.rooms.store(ROOM, self.romeo.jid, stanza, context.open_ticket())
        await self.settle()
        await self.db.transaction(lambda transaction: self.mam.rooms.release(ROOM, "montague.example", transaction))
        expected = {"mod_mam_muc_archive_message_count": 1, "mod_mam_muc_remove_archive_count": 1}
        self.assertEqual({**expected, "mod_mam_flushed_count": 1}, self.counted())


class Crowds(ArchiveTestCase):
    async def test_what_is_refused(self) -> None:
        permission = self.mam.reading.permission  # type: ignore[union-attr]
        permission.dropped += 2
        self.mam.preferences.permission.dropped += 3
        text = generate_latest(self.mam.context.metrics.registry).decode()
        self.assertIn('dynxmpp_mod_mam_pm_dropped_iq_count_total{host_type="basic"} 5.0\n', text)
        self.assertNotIn("mod_mam_muc", text)
