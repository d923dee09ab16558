"""XEP-0424 Message Retraction: what its author takes back becomes a tombstone in the archives, nothing else does."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.jid import JID
from dynxmpp.module import CommitTicket, Unavailable
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.mam.retraction import (
    NS_RETRACT,
    NS_RETRACT_0,
    NS_RETRACT_BY_STANZA_ID,
    RECENT,
    Retraction,
    request_of,
)
from dynxmpp.modules.mam.schema import ROOM
from tests.fixtures.dialogue import TestSession, parse
from tests.mam.support import Archived, ArchiveTestCase

ROMEO, JULIET = "romeo@montague.example", "juliet@capulet.example"
NS_SID = "urn:xmpp:sid:0"
STAMP = r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$"


def origin(id_: str) -> str:
    return f"<origin-id xmlns='{NS_SID}' id='{id_}'/>"


def fastened(id_: str, namespace: str = NS_RETRACT_0) -> str:
    return f"<apply-to xmlns='urn:xmpp:fasten:0' id='{id_}'><retract xmlns='{namespace}'/></apply-to>"


def retract(id_: str) -> str:
    return f"<retract xmlns='{NS_RETRACT}' id='{id_}'/>"


def message(inner: str, to: str = JULIET, id_: str = "m1", type_: str = "chat") -> str:
    return f"<message type='{type_}' to='{to}' id='{id_}'>{inner}</message>"


class Requests(TestCase):
    def test_what_is_one(self) -> None:
        for inner, expected in (
            (fastened("a"), Retraction(NS_RETRACT_0, "a")),
            (fastened("a", NS_RETRACT_BY_STANZA_ID), Retraction(NS_RETRACT_BY_STANZA_ID, "a")),
            (retract("a"), Retraction(NS_RETRACT, "a")),
            (f"<body>x</body>{retract('a')}", Retraction(NS_RETRACT, "a")),
            (fastened("a") + retract("b"), Retraction(NS_RETRACT, "b")),
            (fastened("a") + f"<retract xmlns='{NS_RETRACT}'/>", Retraction(NS_RETRACT_0, "a")),
            (retract("&lt;&amp;&apos;"), Retraction(NS_RETRACT, "<&'")),
            (retract("x" * 256), Retraction(NS_RETRACT, "x" * 256)),
            ("<body>x</body>", None),
            (retract(""), None),
            (retract("x" * 257), None),
            (fastened("x" * 257), None),
            (fastened(""), None),
            (fastened("a", NS_RETRACT), None),
            (fastened("a", "urn:other"), None),
            (f"<retract xmlns='{NS_RETRACT_0}' id='a'/>", None),
            (f"<apply-to xmlns='urn:xmpp:fasten:0'><retract xmlns='{NS_RETRACT_0}'/></apply-to>", None),
            (f"<apply-to xmlns='urn:other' id='a'><retract xmlns='{NS_RETRACT_0}'/></apply-to>", None),
            ("<apply-to xmlns='urn:xmpp:fasten:0' id='a'/>", None),
            ("<apply-to xmlns='urn:xmpp:fasten:0' id='a'>retract</apply-to>", None),
        ):
            self.assertEqual(expected, request_of(parse(f"<message>{inner}</message>")), inner)


class RetractionTestCase(ArchiveTestCase):
    def setUp(self) -> Any:
        self.events: list[str] = []

        def watch(event: dict[str, Any]) -> None:
            self.events.append(str(event.get("log_format")))

        globalLogPublisher.addObserver(watch)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, watch)  # type: ignore[arg-type]
        return super().setUp()

    async def says(self, inner: str, sender: TestSession | None = None, **options: Any) -> None:
        (sender or self.romeo).sends(message(inner, **options))
        await self.settle()

    async def texts(self, owner: str = ROMEO) -> list[str]:
        """Of each message of an archive its body, or `-` where there is none."""
        return [text(row) for row in await self.archived(owner)]

    async def tombstone(self, owner: str = ROMEO) -> domish.Element:
        """The <retracted/> of the one message that has one, and nothing else."""
        stanzas = [parse(row.stanza) for row in await self.archived(owner)]
        (buried,) = [stanza for stanza in stanzas if any(c.name == "retracted" for c in stanza.child_elements())]
        (retracted,) = buried.children
        assert isinstance(retracted, domish.Element)
        return retracted


def text(row: Archived) -> str:
    body = parse(row.stanza).child("jabber:client", "body")
    return "-" if body is None else str(body)


class ByOriginId(RetractionTestCase):
    async def test_a_tombstone_in_both_archives(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}", to=f"{JULIET}/balcony", id_="m1")
        before = {owner: (await self.archived(owner))[0] for owner in (ROMEO, JULIET)}
        await self.says(fastened("o1"), id_="r1")
        for owner, first in before.items():
            rows = await self.archived(owner)
            self.assertEqual(2, len(rows))
            stanza = parse(rows[0].stanza)
            self.assertEqual(parse(first.stanza).attributes, stanza.attributes)
            self.assertTrue(rows[0].stanza.startswith("<message xmlns='jabber:client' "), rows[0].stanza)
            self.assertNotIn("secret", rows[0].stanza)
            self.assertEqual([f"{NS_RETRACT_0} retracted"], list(stanza.child_keys))
            retracted = await self.tombstone(owner)
            self.assertRegex(retracted["stamp"], STAMP)
            (kept,) = retracted.elements()
            self.assertEqual((NS_SID, "origin-id", "o1"), (kept.uri, kept.name, kept["id"]))
            # All else of the row is as before, and the request is there.
            self.assertEqual(first, Archived(*[*_values(rows[0])[:-1], first.stanza]))
            self.assertEqual(Retraction(NS_RETRACT_0, "o1"), request_of(parse(rows[1].stanza)))

    async def test_the_request_is_delivered(self) -> None:
        await self.says(fastened("never-seen"), to=f"{JULIET}/balcony")
        received = await self.juliet.receives("message")
        self.assertEqual("never-seen", received.firstChildElement()["id"])
        self.assertEqual(1, len(await self.archived(ROMEO)))
        self.assertEqual(1, len(await self.archived(JULIET)))
        self.assertEqual(2, self.events.count("retraction_of_nothing"))

    async def test_sent_together_with_what_it_takes_back(self) -> None:
        self.romeo.sends(message(f"<body>secret</body>{origin('o1')}"))
        self.romeo.sends(message(fastened("o1")))
        self.assertEqual(["-", "-"], await self.texts(ROMEO))
        self.assertEqual(["-", "-"], await self.texts(JULIET))

    async def test_the_most_recent_of_several(self) -> None:
        for body in ("one", "two"):
            await self.says(f"<body>{body}</body>{origin('o1')}")
        await self.says(f"<body>three</body>{origin('o2')}")
        await self.says(fastened("o1"))
        self.assertEqual(["one", "-", "three", "-"], await self.texts())
        # Once more: it is retracted already.
        await self.says(fastened("o1"))
        self.assertEqual(["one", "-", "three", "-", "-"], await self.texts())

    async def test_a_tombstone_stays_as_it_is(self) -> None:
        await self.says(f"<body>older</body>{origin('o1')}", id_="m1")
        await self.says(f"<body>secret</body>{origin('o1')}", id_="m1")
        await self.says(fastened("o1"))
        before = await self.archived(ROMEO)
        await self.says(retract("m1"))
        self.assertEqual(before, (await self.archived(ROMEO))[:3])

    async def test_only_the_author(self) -> None:
        await self.says(f"<body>of romeo</body>{origin('o1')}")
        await self.says(fastened("o1"), self.juliet, to=ROMEO)
        self.assertEqual(["of romeo", "-"], await self.texts(ROMEO))
        self.assertEqual(["of romeo", "-"], await self.texts(JULIET))

    async def test_only_in_the_same_conversation(self) -> None:
        kate = self.host.session("kate@capulet.example/study")
        await self.says(f"<body>to juliet</body>{origin('o1')}")
        await self.says(fastened("o1"), to="kate@capulet.example")
        await self.says(fastened("o1"), kate)
        self.assertEqual(["to juliet", "-"], await self.texts(ROMEO))
        self.assertEqual(["to juliet", "-"], await self.texts(JULIET))

    async def test_from_another_resource_to_another_resource(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}", to=f"{JULIET}/balcony")
        await self.says(fastened("o1"), self.host.session(f"{ROMEO}/garden"), to=JULIET)
        self.assertEqual(["-", "-"], await self.texts(ROMEO))
        self.assertEqual(["-", "-"], await self.texts(JULIET))

    async def test_a_request_stays_whatever_names_it(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        await self.says(fastened("o1") + origin("o1"))
        self.assertEqual(["-", "-"], await self.texts())
        await self.tombstone()  # one, and it is the message's
        await self.says(fastened("none") + origin("o2"))
        await self.says(fastened("o2"))
        self.assertEqual(
            [None, Retraction(NS_RETRACT_0, "o1"), Retraction(NS_RETRACT_0, "none"), Retraction(NS_RETRACT_0, "o2")],
            [request_of(parse(row.stanza)) for row in await self.archived(ROMEO)],
        )

    async def test_the_attribute_is_no_origin_id(self) -> None:
        await self.says("<body>x</body>", id_="o1")
        await self.says(fastened("o1"))
        self.assertEqual(["x", "-"], await self.texts())

    async def test_ids_that_would_end_something(self) -> None:
        for number, id_ in enumerate(("%s", "&apos;/&gt;&lt;x&gt;", "&apos;; DROP TABLE mam_message; --")):
            await self.says(f"<body>x</body>{origin(id_)}", id_=f"m{number}")
            await self.says(fastened(id_))
            rows = await self.archived(ROMEO)
            (retracted,) = parse(rows[-2].stanza).child_elements()
            self.assertEqual(rows[-2].origin_id, next(retracted.elements())["id"])

    async def test_words_are_forgotten(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        await self.says(f"<body>open</body>{origin('o2')}")
        await self.db.execute("INSERT INTO mam_search SELECT archive, id, ''::tsvector FROM mam_message")
        await self.says(fastened("o1"))
        left = await self.db.query(
            "SELECT stanza FROM mam_message AS m JOIN mam_search AS s ON s.archive = m.archive AND s.id = m.id"
        )
        self.assertEqual(["open", "open"], [str(parse(stanza).body) for (stanza,) in left])
        self.assertEqual(2, await self.count("mam_search"))

    async def test_a_broken_row_is_passed_over(self) -> None:
        await self.says(f"<body>one</body>{origin('o1')}")
        await self.says(f"<body>two</body>{origin('o1')}")
        await self.db.execute("UPDATE mam_message SET stanza = '<message' WHERE position('two' IN stanza) > 0")
        await self.says(fastened("o1"))
        texts = [row.stanza for row in await self.archived(ROMEO)]
        self.assertIn("retracted", texts[0])
        self.assertEqual("<message", texts[1])
        self.assertIn("archived_message_broken", self.events)


def _values(row: Archived) -> list[Any]:
    return [getattr(row, name) for name in Archived.__slots__]


class Tickets(RetractionTestCase):
    async def test_open_until_it_is_done(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        context = self.romeo.sends(message(fastened("o1")))
        self.assertFalse(context.ticket.settled)
        settled: Deferred[CommitTicket] = Deferred()
        context.ticket.when_settled(settled.callback)
        self.assertTrue((await settled).committed)
        rows = await self.db.query("SELECT stanza FROM mam_message ORDER BY id")
        self.assertEqual([True, True, False, False], ["<retracted" in stanza for (stanza,) in rows])

    async def test_tried_again_while_the_database_is_away(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        transaction, failures = self.db.transaction, [Unavailable("away"), Unavailable("away")]

        def away(work: Any) -> Any:
            if failures:
                raise failures.pop()
            return transaction(work)

        self.patch(self.db, "transaction", away)
        context = self.romeo.sends(message(fastened("o1")))
        await self.settle()
        self.assertTrue(context.ticket.committed)
        self.assertEqual(["-", "-"], await self.texts())
        self.assertIn("retraction_retried", self.events)

    async def test_failed_when_it_cannot_be_done(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")

        def broken(work: Any) -> Any:
            raise LookupError

        self.patch(self.db, "transaction", broken)
        context = self.romeo.sends(message(fastened("o1")))
        settled: Deferred[CommitTicket] = Deferred()
        context.ticket.when_settled(settled.callback)
        await settled
        self.assertTrue(context.ticket.failed)
        self.assertEqual(2, len(self.host.background))
        while self.host.background:
            with self.assertRaises(LookupError):
                await self.host.background.pop()

    async def test_stopping_waits_for_it(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        self.romeo.sends(message(fastened("o1")))
        await self.host.slow_lane.when_idle()
        await self.mam.stop()
        rows = await self.db.query("SELECT stanza FROM mam_message ORDER BY id")
        self.assertEqual([True, True, False, False], ["<retracted" in stanza for (stanza,) in rows])


class ByMessageId(RetractionTestCase):
    """Version 0.4: the attribute `id` names the message."""

    async def test_a_tombstone(self) -> None:
        await self.says("<body>secret</body>", id_="wrong-1")
        await self.says(f"{retract('wrong-1')}<body>/me took something back</body>", id_="retract-1")
        for owner in (ROMEO, JULIET):
            self.assertEqual(["-", "/me took something back"], await self.texts(owner))
            retracted = await self.tombstone(owner)
            self.assertEqual((NS_RETRACT, "retract-1", []), (retracted.uri, retracted["id"], retracted.children))
            self.assertRegex(retracted["stamp"], STAMP)

    async def test_a_request_without_an_id(self) -> None:
        await self.says("<body>secret</body>", id_="wrong-1")
        self.romeo.sends(f"<message to='{JULIET}'>{retract('wrong-1')}</message>")
        self.assertFalse((await self.tombstone()).hasAttribute("id"))

    async def test_the_origin_id_will_do(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}", id_="m1")
        await self.says(retract("o1"))
        self.assertEqual(["-", "-"], await self.texts())

    async def test_the_most_recent_of_several(self) -> None:
        await self.says("<body>one</body>", id_="x")
        await self.says("<body>two</body>", id_="x")
        await self.says(f"<body>three</body>{origin('x')}", id_="y")
        await self.says("<body>four <b id='x'/></body>", id_="z")
        await self.says(retract("x"))
        self.assertEqual(["one", "two", "-", "four ", "-"], await self.texts())

    async def test_only_the_author_and_the_conversation(self) -> None:
        await self.says("<body>of romeo</body>", id_="x")
        await self.says(retract("x"), self.juliet, to=ROMEO, id_="r1")
        await self.says(retract("x"), to="kate@capulet.example", id_="r2")
        self.assertEqual(["of romeo", "-", "-"], await self.texts(ROMEO))

    async def test_only_among_the_recent_ones(self) -> None:
        await self.says("<body>secret</body>", id_="x")
        later = """
        INSERT INTO mam_message SELECT archive, id + n, remote, resource, outgoing, groupchat, source, NULL, '<message'
        FROM mam_message, generate_series(1, %s) AS n
        """
        await self.db.execute(later, (RECENT,))
        await self.says(retract("x"))
        self.assertEqual("secret", text((await self.archived(ROMEO))[0]))
        await self.db.execute("DELETE FROM mam_message WHERE stanza = '<message' AND id & 1 = 0")
        await self.says(retract("x"))
        self.assertEqual("-", text((await self.archived(ROMEO))[0]))

    async def test_ids_that_need_escaping(self) -> None:
        await self.says("<body>secret</body>", id_="&apos;&lt;&amp;%_")
        await self.says(retract("&apos;&lt;&amp;%_"))
        self.assertEqual(["-", "-"], await self.texts())


class ByStanzaId(RetractionTestCase):
    config = MamConfig(pm=PmArchive(same_mam_id_for_peers=True))

    async def test_a_tombstone(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}")
        await self.says("<body>open</body>")
        (row, second) = await self.archived(ROMEO)
        await self.says(fastened(to_text(row.id).lower(), NS_RETRACT_BY_STANZA_ID))
        for owner in (ROMEO, JULIET):
            self.assertEqual(["-", "open", "-"], await self.texts(owner))
            retracted = await self.tombstone(owner)
            self.assertEqual(NS_RETRACT_BY_STANZA_ID, retracted.uri)
            self.assertRegex(retracted["stamp"], STAMP)
            stanza_id, origin_id = retracted.elements()
            self.assertEqual(
                (NS_SID, "stanza-id", to_text(row.id), owner),
                (stanza_id.uri, stanza_id.name, stanza_id["id"], stanza_id["by"]),
            )
            self.assertEqual((NS_SID, "origin-id", "o1"), (origin_id.uri, origin_id.name, origin_id["id"]))
        await self.says(fastened(to_text(second.id), NS_RETRACT_BY_STANZA_ID))
        stanza = parse((await self.archived(ROMEO))[1].stanza)
        (retracted,) = stanza.child_elements()
        self.assertEqual(["stanza-id"], [child.name for child in retracted.elements()])

    async def test_only_the_author(self) -> None:
        await self.says("<body>of romeo</body>")
        (row,) = await self.archived(ROMEO)
        await self.says(fastened(to_text(row.id), NS_RETRACT_BY_STANZA_ID), self.juliet, to=ROMEO)
        await self.says(fastened(to_text(row.id), NS_RETRACT_BY_STANZA_ID), to="kate@capulet.example")
        self.assertEqual(["of romeo", "-", "-"], await self.texts(ROMEO))
        self.assertEqual(["of romeo", "-"], await self.texts(JULIET))

    async def test_what_is_no_id(self) -> None:
        await self.says("<body>x</body>")
        for id_ in ("Z", "-1", "VVVVVVVVVVVVV", "1 OR 1=1"):
            await self.says(fastened(id_, NS_RETRACT_BY_STANZA_ID))
        self.assertEqual(["x", "-", "-", "-", "-"], await self.texts())
        self.assertEqual(8, self.events.count("retraction_of_nothing"))


class Off(RetractionTestCase):
    config = MamConfig(pm=PmArchive(message_retraction=False))
    modules = (Disco,)

    async def test_nothing_becomes_of_it(self) -> None:
        await self.says(f"<body>secret</body>{origin('o1')}", id_="m1")
        await self.says(fastened("o1"))
        await self.says(retract("m1"))
        self.assertEqual(["secret", "-", "-"], await self.texts(ROMEO))
        self.assertEqual(["secret", "-", "-"], await self.texts(JULIET))

    async def test_no_tombstones_are_announced(self) -> None:
        features = await announced(self.romeo)
        self.assertIn(NS_RETRACT_0, features)
        self.assertIn(NS_RETRACT, features)
        self.assertEqual([], [f for f in features if f.endswith("#tombstone") or f == NS_RETRACT_BY_STANZA_ID])


class On(RetractionTestCase):
    modules = (Disco,)

    async def test_tombstones_are_announced(self) -> None:
        wanted = {NS_RETRACT_0, f"{NS_RETRACT_0}#tombstone", NS_RETRACT, f"{NS_RETRACT}#tombstone"}
        self.assertEqual(set(), {*wanted, NS_RETRACT_BY_STANZA_ID} - await announced(self.romeo))


async def announced(session: TestSession) -> set[str]:
    reply = await session.asks(
        "<iq type='get' id='d1' to='montague.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    return {e["var"] for e in reply.query.elements() if e.name == "feature"}


class Groupchats(RetractionTestCase):
    """Copies that a room sends out, in the archives of its occupants."""

    config = MamConfig(pm=PmArchive(archive_groupchats=True))
    room = "coven@rooms.example"

    async def from_room(self, nick: str, inner: str, type_: str = "groupchat") -> None:
        sender = JID.parse(f"{self.room}/{nick}")
        stanza = parse(message(inner, type_=type_, to=f"{ROMEO}/orchard"))
        self.host.router.route(stanza.with_attributes({"from": sender.full}), sender, JID.parse(f"{ROMEO}/orchard"))
        await self.settle()

    async def test_an_occupant_does_not_take_back_what_others_said(self) -> None:
        await self.from_room("hecate", f"<body>of hecate</body>{origin('o1')}")
        await self.from_room("witch", fastened("o1"))
        await self.from_room("witch", fastened("o1"), type_="chat")
        await self.from_room("hecate", fastened("o1"), type_="chat")
        self.assertEqual(["of hecate", "-", "-", "-"], await self.texts())
        await self.from_room("hecate", fastened("o1"))
        self.assertEqual(["-", "-", "-", "-", "-"], await self.texts())


class RoomArchives(RetractionTestCase):
    config = MamConfig(muc=MucArchive(host="rooms.@HOST@"))

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.room = JID.parse("coven@rooms.montague.example")
        self.host.domains.register_subdomain("basic", self.host.host_types[0], "rooms.@HOST@")
        self.rooms = self.host.host_types[0].require(RoomArchive)
        await self.rooms.load(self.room, "montague.example")

    async def say(self, sender: str, inner: str) -> str:
        """The id that the room gives to a message."""
        stanza = parse(f"<message type='groupchat' from='{self.room.bare}/{sender}' id='m1'>{inner}</message>")
        id_ = self.rooms.store(self.room, JID.parse(f"{sender}/r"), stanza, CommitTicket())
        await self.settle()
        assert id_ is not None
        return id_

    async def in_room(self) -> list[str]:
        return [text(row) for row in await self.rows("montague.example", ROOM, self.room.bare)]

    async def test_only_the_author(self) -> None:
        id_ = await self.say(ROMEO, f"<body>of romeo</body>{origin('o1')}")
        requests = (fastened("o1"), retract(id_), fastened(id_, NS_RETRACT_BY_STANZA_ID))
        for request in requests:
            await self.say(JULIET, request)
        self.assertEqual(["of romeo", "-", "-", "-"], await self.in_room())

    async def test_by_any_id(self) -> None:
        for request in (
            lambda id_: fastened("o1"),
            lambda id_: retract("o1"),
            retract,
            lambda id_: fastened(id_, NS_RETRACT_BY_STANZA_ID),
        ):
            await self.db.execute("DELETE FROM mam_message")
            id_ = await self.say(ROMEO, f"<body>of romeo</body>{origin('o1')}")
            await self.say(ROMEO, request(id_))
            self.assertEqual(["-", "-"], await self.in_room())

    async def test_in_a_room_the_attribute_names_nothing(self) -> None:
        await self.say(ROMEO, "<body>of romeo</body>")
        await self.say(ROMEO, retract("m1"))
        self.assertEqual(["of romeo", "-"], await self.in_room())

    async def test_the_tombstone_is_by_the_room(self) -> None:
        id_ = await self.say(ROMEO, "<body>of romeo</body>")
        await self.say(ROMEO, fastened(id_, NS_RETRACT_BY_STANZA_ID))
        stanza = parse((await self.rows("montague.example", ROOM, self.room.bare))[0].stanza)
        (retracted,) = stanza.child_elements()
        (stanza_id,) = retracted.elements()
        self.assertEqual((self.room.bare, id_), (stanza_id["by"], stanza_id["id"]))
