"""XEP-0334 Message Processing Hints: what offline storage and copies make of them."""

from twisted.internet import reactor

from dynxmpp.modules.carbons import Carbons
from dynxmpp.modules.offline import Offline, worth_keeping
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import Host, parse
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.support import Dialogues

HINT = "<{} xmlns='urn:xmpp:hints'/>"
BODY = "<body>Nurse!</body>"
THREAD = "<thread>t</thread>"
STATE = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
ORIGIN_ID = "<origin-id xmlns='urn:xmpp:sid:0' id='1'/>"
RECEIPT = "<received xmlns='urn:xmpp:receipts' id='1'/>"


def hints(*names: str) -> str:
    return "".join(HINT.format(name) for name in names)


class KeepingTests(DatabaseTestCase):
    migrations = Offline.migrations

    async def setUp(self) -> None:
        await super().setUp()
        self.host = Host([Offline, Presence], database=self.db, clock=reactor)  # type: ignore[arg-type]
        self.host.accounts.names.add("juliet@capulet.example")
        await self.host.start()
        self.addCleanup(self.host.host_types[0].modules["mod_offline"].stop)

    async def test_what_is_kept_for_later_delivery(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        for inner in (
            STATE + hints("store"),
            BODY + hints("no-permanent-store"),
            BODY + hints("no-store"),
            BODY + hints("no-storage"),
            STATE,
        ):
            romeo.sends(f"<message to='juliet@capulet.example' type='chat'>{inner}</message>")
        await self.host.settle()
        juliet = self.host.session("juliet@capulet.example/balcony")
        juliet.sends("<presence/>")
        await self.host.settle()
        messages = [element for element in juliet.received if element.name == "message"]
        children = [[child.name for child in element.elements() if child.name != "delay"] for element in messages]
        self.assertEqual([["composing", "store"], ["body", "no-permanent-store"]], children)
        await self.host.silence(romeo)


class WorthKeepingTests(Dialogues):
    async def test_which_messages(self) -> None:
        for inner, worth in (
            (BODY, True),
            ("", False),
            (THREAD, False),
            (STATE, False),
            (STATE + THREAD + ORIGIN_ID, False),
            (ORIGIN_ID, False),
            (RECEIPT, True),
            (hints("store"), True),
            (STATE + hints("store"), True),
            (hints("no-copy", "no-permanent-store"), False),
            (STATE + hints("no-copy"), False),
            (BODY + hints("no-permanent-store", "no-copy"), True),
            (BODY + hints("no-store"), False),
            (BODY + hints("no-storage"), False),
            (BODY + hints("store", "no-store"), False),
            (BODY + "<no-store xmlns='urn:example:x'/>", True),
            (BODY + hints("unheard-of"), True),
        ):
            with self.subTest(inner=inner):
                self.assertEqual(worth, worth_keeping(parse(f"<message>{inner}</message>")))


class CopyTests(Dialogues):
    modules = [Carbons, Presence]

    async def test_no_copy_is_about_copies_only(self) -> None:
        """Section 4.3: it does not override RFC 6121 for messages to bare addresses."""
        romeo = self.host.session("romeo@montague.example/orchard")
        clients = [self.host.session(f"juliet@capulet.example/{resource}") for resource in ("balcony", "chamber")]
        for session in clients:
            await session.asks("<iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
            session.sends("<presence/>")
        await self.host.settle()
        for session in clients:
            session.received.clear()
        romeo.sends(f"<message to='juliet@capulet.example/balcony' type='chat'>{BODY}{hints('no-copy')}</message>")
        romeo.sends(f"<message to='juliet@capulet.example' type='chat'>{BODY}{hints('no-copy')}</message>")
        for session, count in zip(clients, (2, 1), strict=True):
            for _ in range(count):
                self.assertEqual("romeo@montague.example/orchard", (await session.receives("message"))["from"])
        await self.host.silence(*clients)
