"""Documents that cannot be taken over, or not all of them."""

from collections.abc import AsyncIterator
from typing import Any

from dynxmpp.portability.importing import HELD_BYTES
from dynxmpp.portability.reader import DocumentError
from dynxmpp.portability.report import MAX_PROBLEMS
from dynxmpp.wire.errors import Unavailable
from tests.portability.support import SCRAM, PortabilityCase, document, pieces, user

VCARD = "<vCard xmlns='vcard-temp'><FN>{}</FN></vCard>"
ROSTER = "<query xmlns='jabber:iq:roster'>{}</query>"


def archive(*bodies: str, stamp: str = "2026-01-02T03:04:05Z") -> str:
    results = "".join(
        f"<result xmlns='urn:xmpp:mam:2' id='{number}'><forwarded xmlns='urn:xmpp:forward:0'>"
        f"<delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>"
        f"<message xmlns='jabber:client' from='a@verona.example/x' to='b@verona.example'><body>{body}</body></message>"
        "</forwarded></result>"
        for number, body in enumerate(bodies)
    )
    return f"<archive xmlns='urn:xmpp:pie:0#mam'>{results}</archive>"


#: More than is held of an account until it is complete.
LONG = archive(*(f"{number:04}" * 250 for number in range(2 * HELD_BYTES // 1000)))


class BadDocuments(PortabilityCase):
    async def test_one_that_breaks_off(self) -> None:
        whole = document(user("a", VCARD.format("A")), user("b", VCARD.format("B")), user("c"))
        cut = whole[: whole.index(b"B</FN>")]
        with self.assertRaises(DocumentError) as caught:
            await self.take(cut)
        self.assertEqual(
            "it breaks off, inside of the account b, which was left out; "
            "done before: accounts: 1 created, 0 existing, 0 refused",
            str(caught.exception),
        )
        self.assertEqual(["a"], await self.usernames())
        self.assertEqual([("a",)], await self.query("SELECT username FROM vcard WHERE server = 'verona.example'"))
        report = await self.take(whole)
        self.assertEqual({"created": 2, "existing": 1}, dict(report.accounts))

    async def test_nothing_is_left_of_a_large_account_that_was_cut(self) -> None:
        whole = document(user("a", VCARD.format("A"), LONG, VCARD.format("B")))
        before = (await self.rows()).of("verona.example")
        importer = self.importer("verona.example")
        stored: list[int] = []

        async def watched() -> AsyncIterator[bytes]:
            async for piece in pieces(whole[:-100], 65_536):
                yield piece
                stored.append((await self.query("SELECT count(*) FROM mam_message"))[0][0])

        with self.assertRaisesRegex(DocumentError, "inside of the account a"):
            await importer.run(watched())
        self.assertGreater(stored[-1], stored[0] + 300)  # it came in while the document did
        await self.written()
        self.assertEqual([], await self.usernames())
        self.assertEqual(before, (await self.rows()).of("verona.example"))
        report = await self.take(whole)
        self.assertEqual(2 * HELD_BYTES // 1000, report.taken["messages"])
        self.assertEqual(["a"], await self.usernames())

    async def test_what_an_account_had_stays_when_it_is_cut(self) -> None:
        await self.take(document(user("a", VCARD.format("A"))))
        whole = document(user("a", LONG, VCARD.format("B")))
        with self.assertRaises(DocumentError):
            await self.take(whole[:-100])
        self.assertEqual(["a"], await self.usernames())
        self.assertEqual([("<FN>A</FN>",)], await self.query("SELECT vcard FROM vcard WHERE server = 'verona.example'"))

    async def test_a_large_account_that_is_refused(self) -> None:
        before = (await self.rows()).of("verona.example")
        report = await self.take(document(user("a", LONG, credentials=""), user("b")))
        self.assertEqual({"created": 1, "refused": 1}, dict(report.accounts))
        self.assertEqual(["b"], await self.usernames())
        after = (await self.rows()).of("verona.example")
        self.assertEqual({"users"}, {table for table, _ in after - before})

    async def test_the_client_goes(self) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield document(user("a"), user("b"))[:-40]
            raise ConnectionError("gone")

        with self.assertRaises(ConnectionError):
            await self.importer("verona.example").run(broken())
        self.assertEqual(["a"], await self.usernames())

    async def test_the_database_goes(self) -> None:
        """What fails is told as it is; what was complete stays."""
        vcard: Any = self.host_type.modules["mod_vcard"]

        async def fail(*arguments: object) -> int:
            raise Unavailable("away")

        self.patch(vcard.database, "execute", fail)
        with self.assertRaises(Unavailable):
            await self.take(document(user("a"), user("b", VCARD.format("B")), user("c")))
        self.assertEqual(["a", "b"], await self.usernames())

    async def test_a_domain_that_goes_meanwhile(self) -> None:
        async def removed() -> AsyncIterator[bytes]:
            data = document(user("a"), user("b"))
            middle = data.index(b"<user name='b'")
            yield data[:middle]
            self.host.domains.delete("verona.example")
            yield data[middle:]

        with self.assertRaisesRegex(DocumentError, "served no longer; done before: accounts: 1 created"):
            await self.importer("verona.example").run(removed())

    async def test_another_domain(self) -> None:
        data = document(user("a"), host="padua.example")
        with self.assertRaisesRegex(DocumentError, "has no host verona.example; it has: padua.example; done before"):
            await self.take(data)
        self.assertFalse(self.begun)
        self.assertEqual([], await self.usernames())
        report = await self.take(data, host="padua.example")
        self.assertTrue(self.begun)
        self.assertEqual({"created": 1}, dict(report.accounts))

    async def test_other_hosts_are_named(self) -> None:
        other = document(user("x"), host="padua.example")
        start, end = other.index(b"<host"), other.index(b"</server-data>")
        data = document(user("a")).replace(b"</server-data>", other[start:end] + b"</server-data>")
        report = await self.take(data)
        self.assertEqual({"padua.example": 1}, dict(report.other_hosts))
        self.assertEqual(["a"], await self.usernames())

    async def test_another_spelling_of_the_domain(self) -> None:
        report = await self.take(document(user("a"), host="Verona.EXAMPLE."))
        self.assertEqual({"created": 1}, dict(report.accounts))


class BadAccounts(PortabilityCase):
    async def problems(self, *users: str, overwrite: bool = False) -> list[str]:
        return (await self.take(document(*users), overwrite=overwrite)).problems

    async def test_names(self) -> None:
        report = await self.take(document(user("a b", VCARD.format("x")), user(""), user("Good"), "<user/>"))
        self.assertEqual({"refused": 3, "created": 1}, dict(report.accounts))
        self.assertEqual(["good"], await self.usernames())
        self.assertRegex(report.problems[0], "^line 1: 'a b' is no user name: ")

    async def test_no_credentials(self) -> None:
        self.assertEqual(
            ["a@verona.example: refused: neither a password nor SCRAM credentials that can be taken over"],
            await self.problems(user("a", VCARD.format("A"), credentials="")),
        )
        self.assertEqual([], await self.query("SELECT FROM vcard WHERE server = 'verona.example'"))

    async def test_credentials_that_are_none(self) -> None:
        for old, new, reason in (
            ("SCRAM-SHA-1", "SCRAM-SHA3-512", "a mechanism that is not served here"),
            (">4096<", ">04096<", "iter-count is not from 1 to 1000000"),
            (">4096<", ">999999999<", "iter-count is not from 1 to 1000000"),
            ("QSXCR+Q6sek8bf92", "QSXCR+Q6sek8bf9", "salt is not base64"),
            ("QSXCR+Q6sek8bf92", "", "value out of range"),
            ("6dlGYMOdZcOPutkcNY8U2g7vK9Y=", "6dlG", "value out of range"),
            ("<iter-count>4096</iter-count>", "", "not one iter-count"),
        ):
            with self.subTest(new=new):
                first, second = await self.problems(user("a", credentials=SCRAM.replace(old, new)))
                self.assertEqual(f"a@verona.example: SCRAM credentials are left out: {reason}", first)
                self.assertIn("refused: neither", second)
        self.assertEqual([], await self.usernames())

    async def test_records_that_do_not_fit_together(self) -> None:
        """Those of the best hash are kept, with others of the same iteration count."""
        other = SCRAM.replace("SHA-1'", "SHA-256'").replace("4096", "8192")
        for name in ("D+CSWLOshSulAsxiupA+qs2/fTE=", "6dlGYMOdZcOPutkcNY8U2g7vK9Y="):
            other = other.replace(name, "A" * 43 + "=")
        (problem,) = await self.problems(user("a", other))
        self.assertRegex(problem, "SCRAM-SHA-1: left out")
        ((details,),) = await self.query("SELECT pass_details FROM users WHERE server = 'verona.example'")
        self.assertRegex(details, "^==MULTI_SCRAM==,8192,==SHA256==")

    async def test_passwords(self) -> None:
        (problem,) = await self.problems("<user name='a' password='&#x7;'/>".replace("&#x7;", "&#xE000;"))
        self.assertRegex(problem, r"^a@verona.example: refused: invalid password \(")
        self.assertEqual([], await self.problems("<user name='a' password='p'/>"))
        self.assertTrue(await self.accounts.check_password("verona.example", "a", "p"))

    async def test_an_account_that_is_there(self) -> None:
        await self.problems("<user name='a' password='old'/>")
        for users in (["<user name='a' password='new'/>"], [user("a")]):
            self.assertEqual([], await self.problems(*users))
            self.assertTrue(await self.accounts.check_password("verona.example", "a", "old"))
        await self.problems("<user name='a' password='new'/>", overwrite=True)
        self.assertTrue(await self.accounts.check_password("verona.example", "a", "new"))
        await self.problems(user("a"), overwrite=True)
        self.assertTrue(await self.accounts.check_password("verona.example", "a", "pencil"))

    async def test_problems_are_bounded(self) -> None:
        report = await self.take(document(*(user(f"a {n}") for n in range(MAX_PROBLEMS + 50))))
        self.assertEqual((MAX_PROBLEMS, 50), (len(report.problems), report.problems_left_out))
        names = "".join(f"<n{n} xmlns='urn:x'/>" for n in range(100))
        report = await self.take(document(user("a", names)))
        self.assertEqual((51, 50), (len(report.unknown), report.unknown["others"]))


class BadElements(PortabilityCase):
    async def problems(self, *children: str) -> list[str]:
        report = await self.take(document(user("a", *children)))
        assert all(problem.startswith("a@verona.example: ") for problem in report.problems)
        return [problem.removeprefix("a@verona.example: ") for problem in report.problems]

    async def test_contacts(self) -> None:
        items = "<item/><item jid='@'/><item jid='a@verona.example'/><item jid='b@x.example' subscription='remove'/>"
        found = await self.problems(ROSTER.format(items + "<item jid='c@x.example/r'/>"))
        self.assertEqual(4, len(found))
        self.assertRegex(found[0], "^contact '': ")
        self.assertEqual("contact a@verona.example: nobody is a contact of himself", found[2])
        self.assertEqual("contact b@x.example: no subscription: 'remove'", found[3])
        rows = await self.query("SELECT contact FROM rosters WHERE server = 'verona.example'")
        self.assertEqual([("c@x.example",)], rows)

    async def test_too_many_contacts(self) -> None:
        items = "".join(f"<item jid='c{n}@x.example'/>" for n in range(1003))
        found = await self.problems(ROSTER.format(items))
        self.assertEqual(["contact c1000@x.example: more contacts than an account may have"], found[:1])
        self.assertEqual(3, len(found))

    async def test_requests(self) -> None:
        (found,) = await self.problems("<presence xmlns='jabber:client' type='subscribe' from='@'/>")
        self.assertRegex(found, "^request of '@': ")
        report = await self.take(document(user("a", "<presence xmlns='jabber:client' type='unavailable'/>")))
        self.assertEqual({"presence {jabber:client}": 1}, dict(report.unknown))

    async def test_merged_subscriptions(self) -> None:
        await self.problems(ROSTER.format("<item jid='b@x.example' name='B' subscription='to'><group>g</group></item>"))
        request = "<presence xmlns='jabber:client' type='subscribe' from='b@x.example/r'/>"
        await self.problems(request, ROSTER.format("<item jid='b@x.example' name='C' subscription='none'/>"))
        sql = "SELECT name, groups, subscription, request IS NOT NULL FROM rosters WHERE server = 'verona.example'"
        self.assertEqual([("B", ["g"], "to", True)], await self.query(sql))
        await self.problems(ROSTER.format("<item jid='b@x.example' name='C' subscription='from'/>"))
        self.assertEqual([("B", ["g"], "both", False)], await self.query(sql))

    async def test_those_who_are_online_are_told(self) -> None:
        await self.problems()
        session = self.session("a@verona.example/home")
        await session.asks("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        await session.asks("<iq type='get' id='b'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
        await self.problems(
            ROSTER.format("<item jid='b@x.example' name='B'/>"),
            "<blocklist xmlns='urn:xmpp:blocking'><item jid='t@x.example'/></blocklist>",
        )
        push = await session.receives("iq")
        self.assertEqual(("b@x.example", "B"), (push.query.item["jid"], push.query.item["name"]))
        push = await session.receives("iq")
        self.assertEqual("t@x.example", push.block.item["jid"])
        session.sends("<message to='t@x.example' id='m'><body>hello?</body></message>")
        refusal = await session.receives("message")
        self.assertEqual(("error", "blocked"), (refusal["type"], [e.name for e in refusal.error.elements()][-1]))

    async def test_cards(self) -> None:
        self.assertEqual(
            ["vCard {vcard-temp} is left out: At most 262144 bytes"], await self.problems(VCARD.format("x" * 300_000))
        )
        self.assertEqual(
            ["vCard {vcard-temp} is left out: larger than 1048576 bytes"],
            await self.problems(VCARD.format("x" * 1_100_000)),
        )

    async def test_private_data(self) -> None:
        found = await self.problems(
            "<query xmlns='jabber:iq:private'><q xmlns='jabber:client'>x</q><big xmlns='urn:x'>"
            + "x" * 70_000
            + "</big><empty xmlns='urn:y'/><ok xmlns='urn:z'>1</ok></query>"
        )
        self.assertEqual(
            [
                "private data q {jabber:client}: reserved namespace",
                "private data big {urn:x}: more than 65536 bytes",
            ],
            found,
        )
        rows = await self.query("SELECT namespace FROM private_storage WHERE server = 'verona.example'")
        self.assertEqual([("urn:z",)], rows)
        many = "".join(f"<n xmlns='urn:n{n}'>1</n>" for n in range(120))
        found = await self.problems(f"<query xmlns='jabber:iq:private'>{many}<ok xmlns='urn:z'>2</ok></query>")
        self.assertEqual((21, "private data n {urn:n99}: more than 100 elements"), (len(found), found[0]))

    async def test_blocked_addresses(self) -> None:
        items = "<item jid='@'/><item/><item jid='t@x.example'/>"
        found = await self.problems(f"<blocklist xmlns='urn:xmpp:blocking'>{items}</blocklist>")
        self.assertEqual(2, len(found))
        self.assertEqual(
            [("t@x.example",)], await self.query("SELECT jid FROM blocklist WHERE server = 'verona.example'")
        )

    async def test_offline_messages(self) -> None:
        messages = (
            "<message xmlns='jabber:client'><body>x</body></message><iq xmlns='jabber:client'/>"
            "<message xmlns='jabber:client' from='b@x.example'><body>y</body></message>"
        )
        found = await self.problems(f"<offline-messages>{messages}</offline-messages>")
        self.assertEqual(2, len(found))
        self.assertRegex(found[0], "^offline message 1: no sender: ")
        self.assertEqual("offline message 2: iq is no message", found[1])
        many = "".join(
            f"<message xmlns='jabber:client' from='b@x.example'><body>{n}</body></message>" for n in range(120)
        )
        found = await self.problems(f"<offline-messages>{many}</offline-messages>")
        self.assertEqual(["offline message: there are more than an account may have"] * 21, found)

    async def test_archives(self) -> None:
        for bad, reason in (
            (archive("x", stamp="yesterday"), "its time is not a DateTime"),
            (archive("x", stamp="1969-01-02T03:04:05Z"), "its time is before 1970 or still to come"),
            (archive("x", stamp="2999-01-02T03:04:05Z"), "its time is before 1970 or still to come"),
            (archive("x").replace("a@verona.example/x", "@"), "the address '@': "),
            (archive("x").replace("b@verona.example", "b@"), "the address 'b@': "),
            (archive("x").replace("urn:xmpp:forward:0", "urn:x"), "no forwarded message with the time of its coming"),
            (archive("x").replace("<result", "<other").replace("</result", "</other"), "no forwarded message"),
        ):
            with self.subTest(reason=reason):
                (found,) = await self.problems(bad)
                self.assertTrue(found.startswith(f"message 0 of the archive: {reason}"), found)
        sql = "SELECT FROM mam_message AS m JOIN mam_archive AS a ON a.id = m.archive WHERE a.server = 'verona.example'"
        self.assertEqual([], await self.query(sql))

    async def test_preferences(self) -> None:
        (found,) = await self.problems("<prefs xmlns='urn:xmpp:mam:2' default='perhaps'/>")
        self.assertRegex(found, "is left out: default is always, never or roster")

    async def test_preferences_that_are_there(self) -> None:
        prefs = "<prefs xmlns='urn:xmpp:mam:2' default='{}'><always/><never/></prefs>"
        await self.problems(prefs.format("roster"))
        await self.problems(prefs.format("never"))
        sql = "SELECT behaviour FROM mam_preference AS p JOIN mam_archive AS a ON a.id = p.archive WHERE server = %s"
        self.assertEqual([("R",)], await self.query(sql, "verona.example"))

    async def test_last_activity(self) -> None:
        for attributes in ("", " seconds='x'"):
            (found,) = await self.problems(f"<query xmlns='jabber:iq:last'{attributes}/>")
            self.assertRegex(found, "is left out: Neither seconds nor a time")
