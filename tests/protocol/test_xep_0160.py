"""XEP-0160 Offline Messages: kept, delivered with their time, once, in order, and removed."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.modules import offline
from dynxmpp.modules.offline import DEFAULT_MAX_MESSAGES, Offline
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.support import HOSTILE, condition

NS_DELAY = "urn:xmpp:delay"


def message(number: int, inner: str = "", type_: str = "chat", to: str = "juliet@capulet.example") -> str:
    return f"<message to='{to}' type='{type_}' id='{number}'><body>message {number}</body>{inner}</message>"


class OfflineMessages(DatabaseTestCase):
    migrations = Offline.migrations

    async def setUp(self) -> None:
        await super().setUp()
        self.host = Host([Offline, Presence], database=self.db, clock=reactor)  # type: ignore[arg-type]
        self.host.accounts.names.add("juliet@capulet.example")
        await self.host.start()
        self.addCleanup(self.module.stop)
        self.romeo = self.host.session("romeo@montague.example/orchard")

    @property
    def module(self) -> Any:
        return self.host.host_types[0].modules["mod_offline"]

    async def stored(self) -> int:
        await self.host.settle()
        await self.module._writer.flush()
        return int((await self.db.query("SELECT count(*) FROM offline_message"))[0][0])

    async def comes(self, resource: str = "balcony", priority: int = 0) -> TestSession:
        juliet = self.host.session(f"juliet@capulet.example/{resource}")
        juliet.sends(f"<presence><priority>{priority}</priority></presence>")
        await self.host.settle()
        return juliet

    def bodies(self, session: TestSession) -> list[str]:
        return [str(e.body) for e in session.received if e.name == "message"]

    async def test_kept_and_delivered_in_order_with_their_time(self) -> None:
        for number in range(5):
            self.romeo.sends(message(number))
        self.assertEqual(5, await self.stored())
        juliet = await self.comes()
        messages = [e for e in juliet.received if e.name == "message"]
        self.assertEqual([f"message {n}" for n in range(5)], self.bodies(juliet))
        for element in messages:
            delay = next(element.elements(NS_DELAY, "delay"))
            self.assertEqual("capulet.example", delay["from"])
            self.assertRegex(delay["stamp"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
            self.assertEqual("romeo@montague.example/orchard", element["from"])
        self.assertEqual(0, await self.stored())

    async def test_delivered_once(self) -> None:
        self.romeo.sends(message(1))
        await self.stored()
        first, second = await self.comes("one"), await self.comes("two")
        self.assertEqual((["message 1"], []), (self.bodies(first), self.bodies(second)))

    async def test_a_negative_priority_gets_nothing(self) -> None:
        self.romeo.sends(message(1))
        await self.stored()
        juliet = await self.comes(priority=-1)
        self.assertEqual([], self.bodies(juliet))
        juliet.sends("<presence><priority>1</priority></presence>")
        await self.host.settle()
        self.assertEqual(["message 1"], self.bodies(juliet))

    async def test_to_a_full_address_that_is_gone(self) -> None:
        self.romeo.sends(message(1, to="juliet@capulet.example/gone"))
        self.assertEqual(1, await self.stored())

    async def test_the_ticket_is_open_until_the_row_is_committed(self) -> None:
        self.romeo.sends(message(0))
        await self.stored()
        context = self.romeo.sends(message(1))
        self.assertFalse(context.ticket.committed)
        await self.stored()
        self.assertTrue(context.ticket.committed)

    async def test_what_is_not_kept(self) -> None:
        for xml in [
            message(1, "<no-store xmlns='urn:xmpp:hints'/>"),
            "<message to='juliet@capulet.example' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/>"
            "<thread>t</thread></message>",
            "<message to='juliet@capulet.example' type='headline'><body>news</body></message>",
            "<message to='juliet@capulet.example' type='error'><body>x</body></message>",
            "<message to='juliet@capulet.example' type='chat'/>",
        ]:
            self.romeo.sends(xml)
        self.assertEqual(0, await self.stored())
        await self.host.silence(self.romeo)

    async def test_what_is_kept_without_a_body(self) -> None:
        self.romeo.sends("<message to='juliet@capulet.example'><received xmlns='urn:xmpp:receipts' id='1'/></message>")
        self.assertEqual(1, await self.stored())

    async def test_groupchat_and_strangers_are_refused(self) -> None:
        for xml in (message(1, type_="groupchat"), message(2, to="nobody@capulet.example")):
            self.romeo.sends(xml)
            self.assertEqual("service-unavailable", condition(await self.romeo.receives()))
        self.assertEqual(0, await self.stored())

    async def test_a_full_queue_is_said(self) -> None:
        for number in range(DEFAULT_MAX_MESSAGES):
            self.romeo.sends(message(number))
        await self.host.silence(self.romeo)
        self.romeo.sends(message(1000))
        self.assertEqual("service-unavailable", condition(await self.romeo.receives()))
        juliet = await self.comes()
        self.assertEqual(DEFAULT_MAX_MESSAGES, len(self.bodies(juliet)))
        await self.host.settle()
        juliet.leaves()
        self.romeo.sends(message(1001))
        self.assertEqual(1, await self.stored())

    async def test_any_text_survives(self) -> None:
        for number, text in enumerate(HOSTILE):
            element = domish.Element((None, "message"))
            element["to"], element["type"], element["id"] = "juliet@capulet.example", "chat", str(number)
            element.addElement("body", content=text)
            self.romeo.sends(element.toXml())
        self.assertEqual(len(HOSTILE), await self.stored())
        juliet = await self.comes()
        self.assertEqual([str(text) for text in HOSTILE], self.bodies(juliet))

    async def test_a_message_that_arrives_while_the_account_comes_is_not_forgotten(self) -> None:
        self.romeo.sends(message(1))
        await self.stored()
        self.romeo.sends(message(2))  # its row is on its way
        juliet = await self.comes()
        await self.stored()
        await self.host.settle()
        self.assertEqual(["message 1", "message 2"], sorted(self.bodies(juliet)))
        self.assertEqual(0, await self.stored())

    async def test_newer_messages_keep_their_place(self) -> None:
        """They wait while older ones are being handed over, and are not acknowledged before."""
        for number in range(3):
            self.romeo.sends(message(number))
        await self.stored()
        query, asked = self.module.database.query, Deferred[None]()

        async def later(*arguments: Any) -> Any:
            await asked
            return await query(*arguments)

        self.patch(self.module.database, "query", later)
        juliet = self.host.session("juliet@capulet.example/balcony")
        juliet.sends("<presence/>")
        context = self.romeo.sends(message(3))
        self.assertFalse(context.ticket.committed)
        asked.callback(None)
        await self.host.settle()
        self.assertEqual([f"message {n}" for n in range(4)], self.bodies(juliet))
        self.assertTrue(context.ticket.committed)
        self.patch(self.module.database, "query", query)
        self.assertEqual(0, await self.stored())

    async def test_a_client_that_does_not_acknowledge_holds_nobody_up_for_ever(self) -> None:
        self.patch(offline, "ORDER_PATIENCE_S", 0.05)
        self.romeo.sends(message(0))
        await self.stored()
        juliet = self.host.session("juliet@capulet.example/balcony")
        juliet.acknowledges = False
        juliet.sends("<presence/>")
        self.romeo.sends(message(1))
        await juliet.receives("presence")
        self.assertEqual(["message 0", "message 1"], [str((await juliet.receives("message")).body) for _ in range(2)])
        juliet.unacknowledged.pop()(True)
        self.assertEqual(0, await self.stored())

    async def test_what_a_client_did_not_get_stays(self) -> None:
        self.romeo.sends(message(0))
        await self.stored()
        juliet = self.host.session("juliet@capulet.example/balcony")
        juliet.acknowledges = False
        juliet.sends("<presence/>")
        await juliet.receives("presence")
        await juliet.receives("message")
        juliet.leaves()
        juliet.unacknowledged.pop()(False)
        self.assertEqual(1, await self.stored())
        again = await self.comes()
        self.assertEqual(["message 0"], self.bodies(again))

    async def test_a_database_that_is_away_is_waited_for(self) -> None:
        self.patch(offline, "RETRY_S", 0.01)
        self.romeo.sends(message(0))
        await self.stored()
        failures = {"query": 2, "execute": 2}
        for name in failures:
            self.patch(self.module.database, name, self.failing(name, failures))
        juliet = await self.comes()
        self.assertEqual((["message 0"], {"query": 0, "execute": 0}), (self.bodies(juliet), failures))
        self.assertEqual(0, await self.stored())

    def failing(self, name: str, failures: dict[str, int]) -> Any:
        method = getattr(self.module.database, name)

        async def call(*arguments: Any) -> Any:
            if failures[name]:
                failures[name] -= 1
                raise DatabaseUnavailable("away")
            return await method(*arguments)

        return call

    async def test_removal(self) -> None:
        self.host.accounts.names.add("nurse@capulet.example")
        self.romeo.sends(message(1))
        self.romeo.sends(message(2, to="nurse@capulet.example"))
        await self.stored()
        from dynxmpp.jid import JID

        await self.module.remove_account(JID.parse("juliet@capulet.example"))
        self.assertEqual(1, await self.stored())
        self.romeo.sends(message(3))  # still on its way when the domain goes
        await self.host.settle()
        await self.module.remove_domain("capulet.example")
        self.assertEqual(0, await self.stored())
