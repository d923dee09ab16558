"""XEP-0313 Message Archive Management: which messages come into which archives, and what is told about it."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.jid import JID
from dynxmpp.module import RoutingContext
from dynxmpp.modules.blocking import Blocking
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import ArchiveOptions, AsyncWriter, MamConfig, MucArchive, PmArchive
from dynxmpp.modules.mam.ids import from_text
from dynxmpp.modules.mam.schema import ROOM
from dynxmpp.modules.offline import Offline
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import Host, TestSession, parse
from tests.mam.support import Archived, ArchiveTestCase
from tests.protocol.support import condition

ROMEO, JULIET = "romeo@montague.example", "juliet@capulet.example"
BALCONY = f"{JULIET}/balcony"
NS_SID = "urn:xmpp:sid:0"
NS_MARKERS = "urn:xmpp:chat-markers:0"


def message(
    inner: str = "<body>hi</body>", to: str | None = BALCONY, type_: str | None = "chat", id_: str = "m1"
) -> str:
    address = "" if to is None else f" to='{to}'"
    kind = "" if type_ is None else f" type='{type_}'"
    return f"<message{address}{kind} id='{id_}'>{inner}</message>"


def stanza_ids(element: Any) -> list[tuple[str, str]]:
    """(by, id) of each <stanza-id/> of a message."""
    return [(e["by"], e["id"]) for e in element.elements() if e.uri == NS_SID and e.name == "stanza-id"]


class Copies(ArchiveTestCase):
    """Section 2 of the specification: an archive on each side."""

    async def test_two_rows_a_message(self) -> None:
        self.romeo.sends(message())
        (sent,) = await self.archived(ROMEO)
        (received,) = await self.archived(JULIET)
        text = (
            "<message xmlns='jabber:client' to='juliet@capulet.example/balcony' type='chat' id='m1' "
            "from='romeo@montague.example/orchard'><body>hi</body></message>"
        )
        source = "romeo@montague.example/orchard"
        self.assertEqual(Archived(sent.id, JULIET, "balcony", True, False, source, None, text), sent)
        self.assertEqual(Archived(received.id, ROMEO, "orchard", False, False, source, None, text), received)
        self.assertGreater(received.id, sent.id)

    async def test_ids_ascend_with_the_order_of_sending(self) -> None:
        for number in range(20):
            self.romeo.sends(message(f"<body>{number}</body>"))
        for owner in (ROMEO, JULIET):
            rows = await self.archived(owner)
            self.assertEqual(
                [f"<body>{n}</body>" in row.stanza for n, row in enumerate(rows)], [True] * 20, [r.stanza for r in rows]
            )

    async def test_the_ticket_is_open_until_both_rows_are_committed(self) -> None:
        self.romeo.sends(message())
        await self.settle()  # both archives are known now
        context: RoutingContext = self.romeo.sends(message())
        assert context.ticket is not None
        self.assertFalse(context.ticket.settled)
        rows: Deferred[int] = Deferred()
        context.ticket.when_settled(lambda ticket: rows.callback(1))
        await rows
        self.assertTrue(context.ticket.committed)
        ((count,),) = await self.db.query("SELECT count(*) FROM mam_message")
        self.assertEqual(4, count)

    async def test_the_ticket_fails_with_a_row(self) -> None:
        self.romeo.sends(message())
        await self.settle()
        await self.db.execute("ALTER TABLE mam_message ADD CHECK (outgoing OR position('poison' IN stanza) = 0)")
        context = self.romeo.sends(message("<body>poison</body>"))
        good = self.romeo.sends(message("<body>food</body>"))
        await self.settle()
        self.flushLoggedErrors()
        self.assertEqual((True, True), (context.ticket.settled, context.ticket.failed))
        self.assertTrue(good.ticket.committed)
        self.assertEqual(2 + 1 + 2, await self.count())

    async def test_the_first_message_waits_for_the_archive_and_keeps_its_place(self) -> None:
        for number in range(3):
            self.romeo.sends(message(id_=str(number)))
        received = [(await self.juliet.receives("message"))["id"] for _ in range(3)]
        self.assertEqual(["0", "1", "2"], received)
        self.assertEqual(3, len(await self.archived(JULIET)))

    async def test_to_somebody_elsewhere_and_to_nobody(self) -> None:
        self.romeo.sends(message(to="who@elsewhere.example"))
        self.romeo.sends(message(to="nobody@capulet.example"))
        self.romeo.sends(message(to="capulet.example"))
        self.assertEqual(
            ["who@elsewhere.example", "nobody@capulet.example", "capulet.example"],
            [row.remote for row in await self.archived(ROMEO)],
        )
        self.assertEqual(3, await self.count())
        self.assertEqual(1, await self.count("mam_archive"))

    async def test_an_account_that_is_found_by_asking_only(self) -> None:
        self.host.accounts.cold.add("nurse@capulet.example")
        self.romeo.sends(message(to="nurse@capulet.example"))
        self.assertEqual(1, len(await self.archived("nurse@capulet.example")))

    async def test_to_oneself_once(self) -> None:
        other = self.host.session(f"{ROMEO}/garden")
        self.romeo.sends(message(to=f"{ROMEO}/garden"))
        (row,) = await self.archived(ROMEO)
        self.assertEqual((True, ROMEO, "garden"), (row.outgoing, row.remote, row.resource))
        ((by, id_),) = stanza_ids(await other.receives("message"))
        self.assertEqual((ROMEO, row.id), (by, from_text(id_)))

    async def test_without_an_address_it_is_to_oneself(self) -> None:
        self.romeo.sends(message(to=None))
        (row,) = await self.archived(ROMEO)
        self.assertEqual((True, ROMEO, ""), (row.outgoing, row.remote, row.resource))
        self.assertNotIn(" to=", row.stanza)

    async def test_from_the_server_itself(self) -> None:
        stanza = parse(message().replace("<message", "<message from='capulet.example'"))
        self.host.router.route(stanza, JID.parse("capulet.example"), JID.parse(JULIET))
        (row,) = await self.archived(JULIET)
        self.assertEqual(("capulet.example", False, "capulet.example"), (row.remote, row.outgoing, row.source))
        self.assertEqual(1, await self.count())

    async def test_the_sender_is_told_nothing_and_carbons_are(self) -> None:
        context = self.romeo.sends(message())
        (row,) = await self.archived(ROMEO)
        self.assertEqual(row.id, from_text(context.sent_as))
        await self.host.silence(self.romeo)

    async def test_presence_and_requests_are_none_of_it(self) -> None:
        self.romeo.sends(f"<presence to='{BALCONY}'><body>x</body></presence>")
        self.romeo.sends(f"<iq type='get' id='1' to='{BALCONY}'><body xmlns='jabber:client'/></iq>")
        self.assertEqual(0, await self.count())

    async def test_a_node_that_does_not_know_the_archives_yet(self) -> None:
        self.romeo.sends(message())
        await self.settle()
        self.host = await self.start_host()
        self.mam = self.host.host_types[0].modules["mod_mam_meta"]  # type: ignore[assignment]
        self.host.accounts.names.add(JULIET)
        self.host.session(f"{ROMEO}/orchard").sends(message())
        self.assertEqual((2, 2), (len(await self.archived(ROMEO)), len(await self.archived(JULIET))))
        self.assertEqual(2, await self.count("mam_archive"))

    async def test_any_text_survives(self) -> None:
        texts = ["&lt;&amp;&apos;\u2028\U0001f600", "%s %(x)s \\ \\x00", "'; DROP TABLE mam_message; --"]
        for text in texts:
            self.romeo.sends(message(f"<body>{text}</body>"))
        for owner in (ROMEO, JULIET):
            self.assertEqual(texts, [row.stanza.split("body>")[1][:-2] for row in await self.archived(owner)])

    async def test_prefixes_are_declared_in_what_is_stored(self) -> None:
        self.romeo.sends(
            f"<message xmlns:x='urn:example:x' to='{JULIET}' type='chat'><body>hi</body><x:y x:a='1'/></message>"
        )
        (row,) = await self.archived(JULIET)
        stanza = parse(row.stanza)
        self.assertTrue(row.stanza.startswith("<message xmlns='jabber:client' "))
        self.assertEqual(("jabber:client body", "urn:example:x y"), stanza.child_keys)


class Archivable(ArchiveTestCase):
    """Section 2.1."""

    async def check(self, xml: str, expected: int) -> None:
        before = await self.count()
        self.romeo.sends(xml)
        self.assertEqual(expected, await self.count() - before, xml)

    async def test_types(self) -> None:
        for type_, expected in [
            (None, 2),
            ("normal", 2),
            ("chat", 2),
            ("unheard-of", 2),
            ("headline", 0),
            ("error", 0),
            ("groupchat", 0),
        ]:
            with self.subTest(type=type_):
                await self.check(message(type_=type_), expected)

    async def test_children(self) -> None:
        for inner, expected in [
            ("", 0),
            ("<body/>", 2),
            ("<subject>s</subject>", 0),
            ("<composing xmlns='http://jabber.org/protocol/chatstates'/>", 0),
            ("<received xmlns='urn:xmpp:receipts' id='1'/>", 0),
            ("<body xmlns='http://www.w3.org/1999/xhtml'>x</body>", 0),
            ("<store xmlns='urn:xmpp:hints'/>", 2),
            (f"<displayed xmlns='{NS_MARKERS}' id='1'/>", 0),
            (f"<displayed xmlns='{NS_MARKERS}' id='1'/><store xmlns='urn:xmpp:hints'/>", 2),
            ("<body>x</body><no-store xmlns='urn:xmpp:hints'/>", 0),
            ("<store xmlns='urn:xmpp:hints'/><no-store xmlns='urn:xmpp:hints'/>", 0),
            ("<body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/>", 2),
            ("<body>x</body><no-copy xmlns='urn:xmpp:hints'/>", 2),
            ("<body>x</body><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>", 0),
            ("<body>x</body><delay xmlns='urn:example:other'/>", 0),
            ("<body>x</body><delay xmlns=''/>", 0),
            ("<body>x</body><result xmlns='urn:xmpp:mam:2'/>", 0),
            ("<body>x</body><x xmlns='urn:example:x'><delay/><result/></x>", 2),
            ("<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'/></received>", 0),
        ]:
            with self.subTest(inner=inner):
                await self.check(message(inner), expected)

    async def test_requests_to_retract(self) -> None:
        retract = "<retract xmlns='urn:xmpp:message-retract:0'/>"
        for inner, expected in [
            (f"<apply-to xmlns='urn:xmpp:fasten:0' id='o1'>{retract}</apply-to>", 2),
            ("<retract xmlns='urn:xmpp:message-retract:1' id='o1'/>", 2),
            (
                "<apply-to xmlns='urn:xmpp:fasten:0' id='A1'>"
                "<retract xmlns='urn:esl:message-retract-by-stanza-id:0'/></apply-to>",
                2,
            ),
            ("<apply-to xmlns='urn:xmpp:fasten:0' id='o1'><edit xmlns='urn:example:edit'/></apply-to>", 0),
            (retract, 0),
            (f"<x xmlns='urn:example:x'>{retract}</x>", 0),
        ]:
            with self.subTest(inner=inner):
                await self.check(message(inner), expected)


class WithOptions(ArchiveTestCase):
    config = MamConfig(
        pm=PmArchive(
            archive_chat_markers=True,
            archive_groupchats=True,
            no_stanzaid_element=True,
            same_mam_id_for_peers=True,
            message_retraction=False,
        )
    )

    async def test_markers(self) -> None:
        for name in ("received", "displayed", "acknowledged"):
            self.romeo.sends(message(f"<{name} xmlns='{NS_MARKERS}' id='1'/>"))
        self.romeo.sends(message(f"<markable xmlns='{NS_MARKERS}'/>"))
        self.assertEqual(3, len(await self.archived(JULIET)))

    async def test_groupchat_is_archived_as_it_comes_in_only(self) -> None:
        text = message(type_="groupchat")
        self.romeo.sends(text)
        room = JID.parse("balcony@chat.example/romeo")
        stanza = parse(text.replace("<message", f"<message from='{room.full}'"))
        self.host.router.route(stanza, room, JID.parse(BALCONY))
        rows = await self.archived(JULIET)
        self.assertEqual(
            [(ROMEO, "orchard", True), ("balcony@chat.example", "romeo", True)],
            [(row.remote, row.resource, row.groupchat) for row in rows],
        )
        self.assertEqual([], await self.archived(ROMEO))

    async def test_no_stanza_id_is_told_and_forged_ones_go_all_the_same(self) -> None:
        self.romeo.sends(message(f"<body>hi</body><stanza-id xmlns='{NS_SID}' by='{JULIET}' id='forged'/>"))
        self.assertEqual([], stanza_ids(await self.juliet.receives("message")))

    async def test_the_same_id_on_both_sides(self) -> None:
        context = self.romeo.sends(message())
        (sent,) = await self.archived(ROMEO)
        (received,) = await self.archived(JULIET)
        self.assertEqual((from_text(context.sent_as),) * 2, (sent.id, received.id))

    async def test_a_request_to_retract_is_archived_although_nothing_is_retracted(self) -> None:
        self.romeo.sends(message("<body>hi</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"))
        self.romeo.sends(
            message(
                "<apply-to xmlns='urn:xmpp:fasten:0' id='o1'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>"
            )
        )
        rows = await self.archived(JULIET)
        self.assertEqual(2, len(rows))
        self.assertIn("<body>hi</body>", rows[0].stanza)


class StanzaIds(ArchiveTestCase):
    """XEP-0359, section 5."""

    async def received(self, inner: str, **kwargs: Any) -> Any:
        self.romeo.sends(message(inner, **kwargs))
        return await self.juliet.receives("message")

    async def test_the_recipient_is_told_and_the_copy_is_as_it_came(self) -> None:
        element = await self.received("<body>hi</body>")
        (row,) = await self.archived(JULIET)
        ((by, id_),) = stanza_ids(element)
        self.assertEqual((JULIET, row.id), (by, from_text(id_)))
        self.assertNotIn("stanza-id", row.stanza)

    async def test_forged_ones_are_taken_out_archived_or_not(self) -> None:
        forged = f"<stanza-id xmlns='{NS_SID}' by='{JULIET}' id='forged'/>"
        other = f"<stanza-id xmlns='{NS_SID}' by='room@chat.example' id='other'/>"
        spelled = forged.replace("juliet", "JULIET")
        element = await self.received(f"<body>hi</body>{forged}{other}{forged}{spelled}")
        ids = stanza_ids(element)
        self.assertEqual(["room@chat.example", JULIET], [by for by, _ in ids])
        self.assertNotIn("forged", [id_ for _, id_ in ids])
        (row,) = await self.archived(JULIET)
        self.assertEqual(1, row.stanza.count("stanza-id"))
        for type_ in ("chat", "headline"):
            with self.subTest(type=type_):
                element = await self.received(f"<subject>x</subject>{forged}{other}", to=BALCONY, type_=type_)
                self.assertEqual([("room@chat.example", "other")], stanza_ids(element))

    async def test_one_that_claims_to_be_of_the_senders_archive(self) -> None:
        element = await self.received(f"<body>hi</body><stanza-id xmlns='{NS_SID}' by='{ROMEO}' id='forged'/>")
        self.assertEqual([JULIET], [by for by, _ in stanza_ids(element)])

    async def test_origin_ids_are_kept(self) -> None:
        element = await self.received(f"<body>hi</body><origin-id xmlns='{NS_SID}' id='o&amp;1'/>")
        self.assertEqual("o&1", next(element.elements(NS_SID, "origin-id"))["id"])
        for owner in (ROMEO, JULIET):
            (row,) = await self.archived(owner)
            self.assertEqual("o&1", row.origin_id)

    async def test_an_endless_origin_id_is_none(self) -> None:
        for length in (256, 257):
            self.romeo.sends(message(f"<body/><origin-id xmlns='{NS_SID}' id='{'x' * length}'/>"))
        self.assertEqual(["x" * 256, None], [row.origin_id for row in await self.archived(JULIET)])


class Policies(ArchiveTestCase):
    """What is stopped does not come so far."""

    modules = (Blocking,)

    async def setUp(self) -> None:
        self.migrations = (*Mam.migrations, *Blocking.migrations)
        await super().setUp()
        await self.host.settle()

    async def block(self, session: TestSession, contact: str) -> None:
        request = f"<block xmlns='urn:xmpp:blocking'><item jid='{contact}'/></block>"
        reply = await session.asks(f"<iq type='set' id='b'>{request}</iq>")
        self.assertEqual("result", reply["type"])

    async def test_the_recipient_does_not_archive_whom_he_blocks(self) -> None:
        await self.block(self.juliet, ROMEO)
        self.romeo.sends(message())
        self.assertEqual("service-unavailable", condition(await self.romeo.receives("message")))
        self.assertEqual((1, 0), (len(await self.archived(ROMEO)), len(await self.archived(JULIET))))

    async def test_nor_the_sender_to_whom_he_blocks(self) -> None:
        await self.block(self.romeo, JULIET)
        self.romeo.sends(message())
        self.assertEqual("not-acceptable", condition(await self.romeo.receives("message")))
        self.assertEqual(0, await self.count())


class Interplay(ArchiveTestCase):
    modules = (Offline, Presence)

    async def setUp(self) -> None:
        self.migrations = (*Mam.migrations, *Offline.migrations)
        await super().setUp()

    async def test_a_message_that_waited_is_archived_once_and_comes_with_its_id(self) -> None:
        self.romeo.sends(message(to=JULIET))
        await self.settle()
        offline: Any = self.host.host_types[0].modules["mod_offline"]
        await offline._writer.flush()
        self.addCleanup(offline.stop)
        self.juliet.sends("<presence/>")
        await self.juliet.receives("presence")
        late = await self.juliet.receives("message")
        (row,) = await self.archived(JULIET)
        self.assertTrue(list(late.elements("urn:xmpp:delay", "delay")))
        self.assertEqual([(JULIET, row.id)], [(by, from_text(id_)) for by, id_ in stanza_ids(late)])
        self.assertEqual(2, await self.count())


class AtOnce(ArchiveTestCase):
    """`async_writer.enabled = false`."""

    config = MamConfig(pm=PmArchive(async_writer=AsyncWriter(enabled=False)))

    async def test_a_message_goes_on_when_it_is_committed(self) -> None:
        for expected in (2, 4):  # archives unknown, and known
            context = self.romeo.sends(message())
            await self.juliet.receives("message")
            self.assertEqual([(expected,)], await self.db.query("SELECT count(*) FROM mam_message"))
            await self.settle()
            self.assertTrue(context.ticket.committed)


class Removal(ArchiveTestCase):
    async def talk(self) -> None:
        self.romeo.sends(message())
        self.juliet.sends(message(to=ROMEO))
        await self.settle()

    async def fill(self, owner: str) -> None:
        """Something in each table that belongs to an archive."""
        for archive, id_ in await self.db.query(
            "SELECT m.archive, m.id FROM mam_message AS m JOIN mam_archive AS a ON a.id = archive WHERE server = %s",
            (JID.parse(owner).domain,),
        ):
            await self.db.execute("INSERT INTO mam_search VALUES (%s, %s, 'hi'::tsvector)", (archive, id_))
            await self.db.execute("INSERT INTO mam_preference VALUES (%s, %s, 'A')", (archive, str(id_)))

    async def counts(self) -> list[int]:
        return [await self.count(table) for table in Mam.removed_here]

    async def test_of_an_account(self) -> None:
        await self.talk()
        for owner in (ROMEO, JULIET):
            await self.fill(owner)
        self.assertEqual([2, 4, 4, 4], await self.counts())
        await self.mam.remove_account(JID.parse(JULIET))
        self.assertEqual([1, 2, 2, 2], await self.counts())
        self.assertEqual(2, len(await self.archived(ROMEO)))
        await self.mam.remove_account(JID.parse(JULIET))
        await self.mam.remove_account(JID.parse("nobody@capulet.example"))
        self.assertEqual([1, 2, 2, 2], await self.counts())

    async def test_what_is_on_its_way_goes_with_it(self) -> None:
        await self.talk()
        self.romeo.sends(message())
        await self.mam.remove_account(JID.parse(JULIET))
        self.assertEqual([], await self.archived(JULIET))
        self.assertEqual(3, await self.count())

    async def test_an_account_of_the_same_name_has_another_archive(self) -> None:
        await self.talk()
        old = (await self.db.query("SELECT id FROM mam_archive WHERE name = 'juliet'"))[0][0]
        await self.mam.remove_account(JID.parse(JULIET))
        self.romeo.sends(message("<body>anew</body>"))
        (row,) = await self.archived(JULIET)
        self.assertIn("anew", row.stanza)
        self.assertGreater((await self.db.query("SELECT id FROM mam_archive WHERE name = 'juliet'"))[0][0], old)

    async def test_of_a_domain(self) -> None:
        await self.talk()
        for owner in (ROMEO, JULIET):
            await self.fill(owner)
        self.host.domains.delete("capulet.example")
        await self.mam.remove_domain("capulet.example")
        self.assertEqual([1, 2, 2, 2], await self.counts())
        await self.mam.remove_domain("capulet.example")
        self.assertEqual([1, 2, 2, 2], await self.counts())

    async def test_of_a_domain_that_was_made_anew(self) -> None:
        """By another node, while this one was at it: what is there now is not the old one's."""
        await self.talk()
        await self.mam.remove_domain("capulet.example")
        self.assertEqual(2, len(await self.archived(JULIET)))

    async def test_that_a_crash_has_interrupted(self) -> None:
        await self.talk()
        await self.db.execute("UPDATE mam_archive SET kind = 2, name = id::text WHERE name = 'juliet'")
        self.host = await self.start_host()
        self.assertEqual([1, 2, 0, 0], await self.counts())


class SmallBatches(ArchiveTestCase):
    config = MamConfig(pm=PmArchive(delete_domain_limit=3))

    async def test_removal_in_more_steps_than_one(self) -> None:
        for number in range(10):
            self.romeo.sends(message(to=f"someone{number}@elsewhere.example"))
        self.assertEqual(10, await self.count())
        self.host.domains.delete("montague.example")
        await self.mam.remove_domain("montague.example")
        self.assertEqual((0, 0), (await self.count(), await self.count("mam_archive")))


class RoomArchives(ArchiveTestCase):
    """Section 10, as the service that has the rooms uses it."""

    config = MamConfig(pm=PmArchive(), muc=MucArchive(host="muclight.@HOST@"))
    room = JID.parse("balcony@muclight.capulet.example")

    async def setUp(self) -> None:
        await super().setUp()
        host_type = self.host.host_types[0]
        self.host.domains.register_subdomain(host_type.name, host_type, "muclight.@HOST@")
        self.rooms = self.mam.rooms

    def store(
        self, inner: str = "<body>hi</body>", author: str | None = f"{ROMEO}/orchard", type_: str = "groupchat"
    ) -> Any:
        sender = None if author is None else JID.parse(author)
        source = self.room.full if sender is None else f"{self.room.full}/{sender.bare}"
        stanza = parse(f"<message from='{source}' type='{type_}' id='1'>{inner}</message>")
        context = RoutingContext(self.romeo.jid, self.room)
        id_ = self.rooms.store(self.room, sender, stanza, context.open_ticket())
        return id_, context.ticket

    async def kept(self) -> list[Archived]:
        await self.settle()
        return await self.rows("capulet.example", ROOM, self.room.bare)

    async def test_which_service(self) -> None:
        self.assertTrue(self.rooms.serves("muclight.@HOST@"))
        self.assertFalse(self.rooms.serves("conference.@HOST@"))

    async def test_a_message_of_an_occupant_and_one_of_the_room(self) -> None:
        await self.rooms.load(self.room, "capulet.example")
        first, ticket = self.store("<body>hi</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>")
        second, _ = self.store("<body/>", None)
        self.assertFalse(ticket.settled)
        rows = await self.kept()
        self.assertTrue(ticket.committed)
        self.assertEqual([from_text(first), from_text(second)], [row.id for row in rows])
        self.assertEqual(
            [
                (ROMEO, "orchard", False, True, f"{self.room.full}/{ROMEO}", "o1"),
                ("", "", False, True, self.room.full, None),
            ],
            [(r.remote, r.resource, r.outgoing, r.groupchat, r.source, r.origin_id) for r in rows],
        )
        self.assertTrue(rows[0].stanza.startswith(f"<message xmlns='jabber:client' from='{self.room.full}/{ROMEO}' "))

    async def test_a_room_that_is_not_in_memory_any_more(self) -> None:
        id_, ticket = self.store()
        self.assertFalse(ticket.settled)
        (row,) = await self.kept()
        self.assertTrue(ticket.committed)
        self.assertEqual(from_text(id_), row.id)

    async def test_what_is_not_archivable(self) -> None:
        for inner, type_ in [("<subject/>", "groupchat"), ("<body/><no-store xmlns='urn:xmpp:hints'/>", "groupchat")]:
            id_, ticket = self.store(inner, type_=type_)
            self.assertEqual((None, True), (id_, ticket.settled))
        self.assertEqual([], await self.kept())

    async def test_removal(self) -> None:
        await self.rooms.load(self.room, "capulet.example")
        self.store()
        self.romeo.sends(message())
        await self.db.transaction(lambda transaction: self.rooms.release(self.room, "capulet.example", transaction))
        self.rooms.clean(self.room, "capulet.example")
        self.assertEqual([], await self.kept())
        self.assertEqual(2, await self.count())
        self.store("<body>a room of the same name</body>")
        self.assertEqual(1, len(await self.kept()))
        self.host.domains.delete("capulet.example")
        await self.mam.remove_domain("capulet.example")
        self.assertEqual(1, await self.count())

    async def test_a_message_that_passes_a_service_is_none_of_an_account(self) -> None:
        self.romeo.sends(message(to=self.room.full, type_="chat"))
        await self.romeo.receives("message")  # nobody serves it here
        self.assertEqual(1, await self.count())


class Announced(ArchiveTestCase):
    """Section 1: what disco#info says."""

    config = MamConfig(pm=PmArchive(archive_groupchats=True), muc=MucArchive(host="muclight.@HOST@"))
    modules = (Disco,)
    both = (
        "urn:xmpp:mam:1",
        "urn:xmpp:mam:2",
        "urn:xmpp:mam:2#extended",
        "urn:xmpp:message-retract:0",
        "urn:xmpp:message-retract:0#tombstone",
        "urn:xmpp:message-retract:1",
        "urn:xmpp:message-retract:1#tombstone",
        "urn:esl:message-retract-by-stanza-id:0",
        "urn:xmpp:sid:0",
        "http://jabber.org/protocol/rsm",
        "urn:xmpp:fulltext:0",
    )

    async def asked(self, to: str) -> set[str]:
        reply = await self.romeo.asks(
            f"<iq type='get' id='1' to='{to}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        self.assertEqual("result", reply["type"], reply.toXml())
        return {e["var"] for e in reply.query.elements() if e.name == "feature"}

    async def test_of_the_domain_the_account_and_rooms(self) -> None:
        pm = {*self.both, "urn:xmpp:mam:2#groupchat-field", "urn:xmpp:mam:2#groupchat-available"}
        for to in ("montague.example", ROMEO):
            with self.subTest(to=to):
                self.assertEqual(set(), pm - await self.asked(to))
        self.assertEqual(set(self.both), set(self.mam.rooms.features))

    async def test_less_with_less(self) -> None:
        plain = PmArchive(message_retraction=False)
        host = Host([(Mam, MamConfig(pm=plain)), Disco], database=self.db)
        features = set(host.host_types[0].features())
        self.assertIn("urn:xmpp:message-retract:0", features)
        for feature in (
            "urn:xmpp:message-retract:0#tombstone",
            "urn:xmpp:message-retract:1#tombstone",
            "urn:esl:message-retract-by-stanza-id:0",
            "urn:xmpp:mam:2#groupchat-available",
        ):
            self.assertNotIn(feature, features)


class Without(TestCase):
    """A host type that has no archive, or none of accounts, and says so."""

    async def check(self, host: Host) -> None:
        await host.start()
        romeo, juliet = host.session(f"{ROMEO}/orchard"), host.session(BALCONY)
        self.assertEqual([], [f for f in host.host_types[0].features() if "mam" in f or "retract" in f])
        for payload in ("<query xmlns='urn:xmpp:mam:2'/>", "<prefs xmlns='urn:xmpp:mam:2'/>"):
            for type_ in ("get", "set"):
                reply = await romeo.asks(f"<iq type='{type_}' id='1'>{payload}</iq>")
                self.assertEqual("service-unavailable", condition(reply))
        context = romeo.sends(message())
        self.assertIsNone(context.ticket)
        self.assertEqual([], stanza_ids(await juliet.receives("message")))

    async def test_no_module(self) -> None:
        await self.check(Host())


class WithoutAccounts(Without, ArchiveTestCase):
    config = MamConfig(muc=MucArchive(host="muclight.@HOST@"))

    async def test_rooms_only(self) -> None:
        await self.check(self.host)

    async def test_options_of_a_kind_that_is_off(self) -> None:
        self.assertIsInstance(self.config, ArchiveOptions)
        self.assertIsNone(self.mam.writing)
