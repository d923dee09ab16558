"""Documents in the style of other servers: of Prosody's storage in this format, and of ejabberd's export_piefxis."""

from pathlib import Path

from dynxmpp.modules.mam.ids import timestamp
from dynxmpp.portability.report import Report
from tests.portability.support import PortabilityCase, document, user

SAMPLES = Path(__file__).parent / "samples"
ROMEO = ("verona.example", "romeo")
JULIET = ("verona.example", "juliet")


class Samples(PortabilityCase):
    async def take_sample(self, name: str, *, dry_run: bool = False) -> Report:
        return await self.take((SAMPLES / name).read_bytes(), dry_run=dry_run)

    async def roster(self, owner: tuple[str, str]) -> list[tuple[object, ...]]:
        sql = "SELECT contact, name, groups, subscription, ask, listed, request IS NOT NULL FROM rosters"
        return await self.query(f"{sql} WHERE server = %s AND username = %s ORDER BY contact", *owner)

    async def test_of_prosody(self) -> None:
        report = await self.take_sample("prosody.xml")
        self.assertEqual([], report.problems)
        self.assertEqual({"created": 1}, dict(report.accounts))
        self.assertEqual({"SCRAM-SHA-1": 1}, dict(report.credentials))
        self.assertEqual(
            {
                "contacts": 3,
                "requests": 1,
                "vcards": 1,
                "private": 1,
                "blocked": 1,
                "messages": 3,
                "offline messages": 2,
            },
            dict(report.taken),
        )
        self.assertEqual(
            {
                "pubsub {http://jabber.org/protocol/pubsub#owner}": 1,
                "pubsub {http://jabber.org/protocol/pubsub}": 1,
            },
            dict(report.unknown),
        )
        self.assertTrue(await self.accounts.check_password(*ROMEO, "pencil"))
        self.assertEqual(
            [
                ("juliet@verona.example", "Juliet", ["Family", "Friends & foes"], "both", False, True, False),
                ("mercutio@verona.example", "", [], "none", False, False, True),
                ("nurse@verona.example", "", [], "none", True, True, False),
                ("transport.example", "", [], "to", False, True, False),
            ],
            await self.roster(ROMEO),
        )

    async def test_what_a_client_sees_of_it(self) -> None:
        await self.take_sample("prosody.xml")
        romeo = self.session("romeo@verona.example/home")
        query = "<query xmlns='urn:xmpp:mam:2'/>"
        answer = await romeo.asks(f"<iq type='set' id='q'>{query}</iq>")
        self.assertEqual("result", answer["type"])
        results = [next(message.elements()) for message in romeo.received]
        forwarded = [next(result.elements()) for result in results]
        found = [(str(f.message.body), f.delay["from"], f.delay["stamp"]) for f in forwarded]
        self.assertEqual(
            [
                ("Good night", "juliet@verona.example/balcony", "2026-01-02T03:04:05.000000Z"),
                ("Good night, good night", "romeo@verona.example/orchard", "2026-01-02T03:04:05.000001Z"),
                ("Parting is such sweet sorrow", "juliet@verona.example/balcony", "2026-01-02T03:04:05.000002Z"),
            ],
            found,
        )
        romeo.received.clear()
        romeo.sends("<presence/>")
        stanzas = [await romeo.receives() for _ in range(4)]
        bodies = [(str(s.body), s.delay["stamp"]) for s in stanzas if s.name == "message"]
        await self.written()
        stamp = "2026-01-02T03:05:00.000Z"
        self.assertEqual([("Where are you?", stamp), ("Hello?", stamp)], bodies)
        asking = [s for s in stanzas if s.name == "presence" and s.getAttribute("type") == "subscribe"]
        self.assertEqual(["mercutio@verona.example"], [s["from"] for s in asking])
        self.assertEqual("Mercutio", str(asking[0].nick))
        answer = await romeo.asks(
            "<iq type='get' id='p'><query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query></iq>"
        )
        self.assertEqual("Orchard", answer.query.storage.conference["name"])
        answer = await romeo.asks("<iq type='get' id='v'><vCard xmlns='vcard-temp'/></iq>")
        self.assertEqual("iVBORw0KGgo=", str(answer.vCard.PHOTO.BINVAL))
        answer = await romeo.asks("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
        self.assertEqual(["tybalt@verona.example"], [item["jid"] for item in answer.blocklist.elements()])

    async def test_twice(self) -> None:
        await self.take_sample("prosody.xml")
        report = await self.take_sample("prosody.xml")
        self.assertEqual({"existing": 1}, dict(report.accounts))
        ids = (
            "SELECT m.id FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive WHERE a.server = %s ORDER BY 1"
        )
        stamps = [timestamp(id_)[-8:] for (id_,) in await self.query(ids, "verona.example")]
        self.assertEqual(["000000Z", "000001Z", "000002Z"], [stamp[-7:] for stamp in stamps])
        self.assertEqual([(2,)], await self.query("SELECT count(*) FROM offline_message WHERE server = %s", ROMEO[0]))
        self.assertEqual(4, len(await self.roster(ROMEO)))

    async def test_more_of_the_same_archive(self) -> None:
        """A later export has what the first had, and one message more of the same second."""
        await self.take_sample("prosody.xml")
        sample = (SAMPLES / "prosody.xml").read_bytes()
        start = sample.index(b"<result"), sample.index(b"</result>") + len(b"</result>")
        other = sample[slice(*start)].replace(b"Good night", b"Anon!").replace(b"405-1", b"405-4")
        await self.take(sample.replace(b"</archive>", other + b"</archive>"))
        rows = await self.query(
            "SELECT m.id, m.stanza FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive"
            " WHERE a.server = %s ORDER BY 1",
            "verona.example",
        )
        self.assertEqual(4, len(rows))
        self.assertIn("Anon!", rows[-1][1])
        self.assertEqual("2026-01-02T03:04:05.000003Z", timestamp(rows[-1][0]))

    async def test_words_of_messages_that_arrive_are_found(self) -> None:
        await self.take_sample("prosody.xml")
        romeo = self.session("romeo@verona.example/home")
        search = (
            "<iq type='set' id='{}'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'>"
            "<field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"
            "<field var='{{urn:xmpp:fulltext:0}}fulltext'><value>{}</value></field></x></query></iq>"
        )
        await romeo.asks(search.format("s1", "sorrow"))
        self.assertEqual(1, len(romeo.received))
        romeo.received.clear()
        older = (SAMPLES / "prosody.xml").read_bytes().replace(b"2026-01-02T03:04", b"2025-01-02T03:04")
        await self.take(older.replace(b"sweet sorrow", b"bitter sorrow"))
        await romeo.asks(search.format("s2", "bitter"))
        self.assertEqual(1, len(romeo.received))

    async def test_what_is_known_of_a_message(self) -> None:
        sample = (SAMPLES / "prosody.xml").read_bytes()
        delay = b"<delay xmlns='urn:xmpp:delay' stamp='2026-01-02T03:04:05Z'"
        await self.take(sample.replace(delay, delay + b" from='room@x.example/juliet'", 1))
        rows = await self.query(
            "SELECT remote, resource, outgoing, groupchat, source, origin_id FROM mam_message AS m"
            " JOIN mam_archive AS a ON a.id = m.archive WHERE a.server = 'verona.example' ORDER BY m.id"
        )
        juliet = ("juliet@verona.example", "balcony")
        self.assertEqual(
            [
                (*juliet, False, False, "room@x.example/juliet", "a1"),
                (*juliet, True, False, "romeo@verona.example/orchard", None),
                (*juliet, False, False, "juliet@verona.example/balcony", None),
            ],
            rows,
        )

    async def test_offline_messages_of_one_second_keep_their_order(self) -> None:
        message = (
            "<message xmlns='jabber:client' from='b@x.example'><body>{}</body>"
            "<delay xmlns='urn:xmpp:delay' from='verona.example' stamp='2026-01-02T03:05:00Z'/></message>"
        )
        messages = [message.format(number) for number in range(12)]
        halves = (f"<offline-messages>{''.join(half)}</offline-messages>" for half in (messages[:6], messages[6:]))
        await self.take(document(user("a", *halves)))
        session = self.session("a@verona.example/home")
        session.sends("<presence/>")
        received = [await session.receives() for _ in range(13)]
        bodies = [str(stanza.body) for stanza in received if stanza.name == "message"]
        self.assertEqual([str(number) for number in range(12)], bodies)
        await self.written()

    async def test_of_ejabberd(self) -> None:
        report = await self.take_sample("ejabberd.xml")
        self.assertEqual({"created": 2}, dict(report.accounts))
        self.assertEqual({"password": 1, "SCRAM-SHA-1": 1}, dict(report.credentials))
        self.assertEqual({}, dict(report.unknown))
        self.assertEqual(
            [
                "juliet@verona.example: privacy rule 3: more than to block an address",
                "juliet@verona.example: privacy list 'private': not the default list",
            ],
            report.problems,
        )
        self.assertTrue(await self.accounts.check_password(*JULIET, "w'herefore"))
        self.assertEqual(
            [
                ("nurse@verona.example", "", [], "from", True, True, False),
                ("romeo@verona.example", "Romeo", ["Friends"], "both", False, True, False),
            ],
            await self.roster(JULIET),
        )
        sql = "SELECT jid FROM blocklist WHERE server = %s AND username = %s ORDER BY 1"
        blocked = [jid for (jid,) in await self.query(sql, *JULIET)]
        self.assertEqual(["paris@verona.example", "tybalt@verona.example"], blocked)
        ((sent_at, stanza),) = await self.query("SELECT sent_at, stanza FROM offline_message WHERE username = 'juliet'")
        self.assertEqual("2026-02-03T04:05:06.789012+00:00", sent_at.isoformat())
        self.assertNotIn(b"delay", bytes(stanza))
        self.assertIn(b"xml:lang='en'", bytes(stanza))
        ((status,),) = await self.query("SELECT status FROM last_activity WHERE username = 'juliet'")
        self.assertEqual("asleep", status)

    async def test_under_another_name(self) -> None:
        report = await self.take((SAMPLES / "prosody.xml").read_bytes(), "mantua.example", "verona.example")
        self.assertEqual([], report.problems)
        found = await self.roster(("mantua.example", "romeo"))
        self.assertEqual(
            ["juliet@mantua.example", "mercutio@mantua.example", "nurse@mantua.example", "transport.example"],
            [row[0] for row in found],
        )
        ((data,),) = await self.query("SELECT data FROM private_storage WHERE server = 'mantua.example'")
        self.assertIn("orchard@conference.verona.example", data)  # what a user has stored is his own
        rows = await self.query(
            "SELECT remote, source, stanza FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive"
            " WHERE a.server = 'mantua.example' ORDER BY m.id"
        )
        self.assertEqual(["juliet@mantua.example"] * 3, [row[0] for row in rows])
        self.assertIn(" to='romeo@mantua.example'", rows[0][2])

    async def test_a_dry_run_writes_nothing(self) -> None:
        before = await self.rows()
        report = await self.take_sample("prosody.xml", dry_run=True)
        self.assertEqual({"created": 1}, dict(report.accounts))
        self.assertEqual(3, report.taken["messages"])
        self.assertEqual(before, await self.rows())
