"""Text search in an archive (XEP-0431): what is found, in which order, and what it costs who never searches."""

from typing import Any

from dynxmpp.jid import JID
from dynxmpp.modules.mam import search
from dynxmpp.modules.mam.search import CHUNK, PATIENCE_S
from tests.mam.archives import JULIET, NURSE, ROMEO, Archived, field, id_of, stored, text_id

FULL_TEXT = "{urn:xmpp:fulltext:0}fulltext"
#: Where the clock of these tests stands, in numbers of messages.
NOW = 100_000
RECENTLY = NOW - 60


class Searching(Archived):
    async def found(self, text: str, *fields: str, name: str = FULL_TEXT) -> list[int]:
        page = await self.ask(field(name, text) + "".join(fields))
        self.assertEqual((len(page.numbers), "true"), (page.count, page.complete))
        return page.numbers

    async def words(self) -> int:
        return int((await self.db.query("SELECT count(*) FROM mam_search"))[0][0])


class Words(Searching):
    async def setUp(self) -> None:
        await super().setUp()
        self.bodies = {
            1: "My cat, was eaten by: my dog?!? Why...?!?",
            2: "A cat and a dog",
            3: "Concatenation",
            4: "ŻÓŁW i żaba",
            5: "Die Straße ist naß",
            6: "don't e-mail me",
            7: "\u2160 \uff21\uff22\uff23",
        }
        await self.fill(self.bodies, bodies=self.bodies)

    async def check_words(self) -> None:
        for text, expected in (
            ("cat", [1, 2]),
            ("CAT", [1, 2]),
            ("dog, cat!", [1, 2]),
            ("eaten cat", [1]),
            ("ca", [1, 2]),
            ("cat mouse", []),
            ("at", []),
            ("żółw", [4]),
            ("Żaba ŻÓŁ", [4]),
            ("strasse NASS", [5]),
            ("dont", [6]),
            ("mail e", [6]),
            ("abc", [7]),
            ("why", [1]),
        ):
            self.assertEqual(expected, await self.found(text), text)

    async def test_old_ones_by_index(self) -> None:
        await self.check_words()
        self.assertEqual(7, await self.words())

    async def test_new_ones_one_by_one(self) -> None:
        await self.db.execute("DELETE FROM mam_message")
        archive = await self.archive()
        for number, body in self.bodies.items():
            row = (archive, id_of(RECENTLY) + number, JULIET, False, False, JULIET, stored(number, JULIET, body=body))
            await self.db.execute(
                "INSERT INTO mam_message (archive, id, remote, outgoing, groupchat, source, stanza) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                row,
            )
        await self.check_words()
        self.assertEqual(0, await self.words())

    async def test_all_names_of_the_field(self) -> None:
        for name in (FULL_TEXT, "fulltext", "full-text-search"):
            self.assertEqual([1, 2], await self.found("cat", name=name))

    async def test_a_text_without_words_is_no_condition(self) -> None:
        for text in ("?!", "...", "&lt;&gt;"):
            self.assertEqual(list(range(1, 8)), await self.found(text))

    async def test_ten_words_count(self) -> None:
        ten = "my cat was eaten by my dog why my cat"
        self.assertEqual([1], await self.found(ten))
        self.assertEqual([1], await self.found(f"{ten} giraffe"))

    async def test_texts_that_mean_something_to_the_database(self) -> None:
        for text in ("cat'", "cat:*", "'cat' &amp; 'dog'", "ca%", "c_t", "\\", "cat | giraffe", "!cat", "$$", "{cat}"):
            await self.found(text)  # no error
        self.assertEqual([], await self.found("cat | giraffe"))
        self.assertEqual([1, 2], await self.found("cat':*"))
        self.assertEqual([], await self.found("c_t"))
        self.assertEqual([], await self.found("ca t"))


class Finding(Searching):
    async def test_old_and_new_together(self) -> None:
        await self.fill([1, 2, RECENTLY], bodies={1: "cat", 2: "dog", RECENTLY: "cats"})
        self.assertEqual([1, RECENTLY], await self.found("cat"))
        self.assertEqual(2, await self.words())

    async def test_what_comes_later_is_found_later(self) -> None:
        await self.fill([1], bodies={1: "cat"})
        self.assertEqual([1], await self.found("cat"))
        await self.fill([5, RECENTLY], bodies={5: "cat", RECENTLY: "cat"})
        self.assertEqual([1, 5, RECENTLY], await self.found("cat"))
        self.clock.advance(3600)
        self.assertEqual([1, 5, RECENTLY], await self.found("cat"))
        self.assertEqual(3, await self.words())

    async def test_other_filters(self) -> None:
        await self.fill([1, 2, RECENTLY], bodies={1: "cat", 2: "cat", RECENTLY: "cat"})
        await self.fill([3, RECENTLY + 1], bodies={3: "cat", RECENTLY + 1: "cat"}, remote=NURSE)
        await self.fill([4], bodies={4: "cat"}, groupchat=True, remote="coven@chat.example", resource="witch")
        self.assertEqual([1, 2, RECENTLY], await self.found("cat", field("with", JULIET)))
        self.assertEqual([3, RECENTLY + 1], await self.found("cat", field("with", f"{NURSE}/balcony")))
        self.assertEqual([], await self.found("cat", field("with", f"{NURSE}/kitchen")))
        without = [1, 2, 3, RECENTLY, RECENTLY + 1]
        self.assertEqual(without, await self.found("cat", field("include-groupchat", "false")))
        self.assertEqual(
            [2, 3, 4], await self.found("cat", field("start", "2022-06-08T09:00:02Z"), field("to-id", text_id(4)))
        )
        self.assertEqual(
            [4, 1], (await self.ask(field("fulltext", "cat") + field("ids", text_id(4), text_id(1)))).numbers
        )

    async def test_pages(self) -> None:
        await self.fill(range(1, 31), bodies={n: "cat" if n % 2 else "dog" for n in range(1, 31)})
        cat = field("fulltext", "cat")
        page = await self.ask(cat, "<max>5</max>")
        self.assertEqual(([1, 3, 5, 7, 9], 0, 15, None), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask(cat, f"<max>5</max><after>{text_id(21)}</after>")
        self.assertEqual(([23, 25, 27, 29], 11, 15, "true"), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask(cat, "<max>2</max><before/>", extra="<flip-page/>")
        self.assertEqual(([29, 27], 13, 15, None), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask(cat + field("simple", "true"), "<max>2</max><before/>")
        self.assertEqual(([27, 29], None, None), (page.numbers, page.index, page.count))
        error = await self.refusal(cat, f"<after>{text_id(2)}</after>")
        self.assert_error(error, "cancel", "item-not-found", "Message with specified ID is not found")

    async def test_nobody_finds_in_the_archive_of_another(self) -> None:
        await self.fill([1], owner=JULIET, remote=ROMEO, bodies={1: "cat"})
        await self.fill([2], bodies={2: "cat"})
        juliet = self.host.session(f"{JULIET}/balcony")
        page = await self.ask(field("fulltext", "cat"), session=juliet)
        self.assertEqual([1], page.numbers)
        self.assertEqual([2], await self.found("cat"))

    async def test_archives_whose_numbers_look_alike(self) -> None:
        """The words of archive 1 are not those of archives 11 and 111."""
        for n in range(12):
            await self.fill([n], owner=f"a{n}@capulet.example", remote=ROMEO, bodies={n: f"cat{n} 1cat"})
        for n in range(12):
            session = self.host.session(f"a{n}@capulet.example/x")
            self.assertEqual([n], (await self.ask(field("fulltext", "cat"), session=session)).numbers)
            self.assertEqual([n], (await self.ask(field("fulltext", "1"), session=session)).numbers)

    async def test_messages_without_words(self) -> None:
        await self.fill([1, 2], bodies={1: "", 2: "cat"})
        await self.db.execute("UPDATE mam_message SET stanza = 'broken' WHERE id = %s", (id_of(1),))
        self.assertEqual([2], await self.found("cat"))
        self.assertEqual(1, await self.words())

    async def test_very_long_texts(self) -> None:
        many = " ".join(f"word{n}" for n in range(5000))
        await self.fill([1, 2], bodies={1: many, 2: "ż" * 30_000})
        self.assertEqual([1], await self.found("word1999"))
        self.assertEqual([2], await self.found("ż" * 20_000))


class Cost(Searching):
    async def test_who_never_searches_has_no_words_kept(self) -> None:
        await self.fill([1], bodies={1: "cat"})
        await self.fill([2], owner=JULIET, remote=ROMEO, bodies={2: "cat"})
        await self.ask()
        self.assertEqual(0, await self.words())
        await self.found("cat")
        self.assertEqual(1, await self.words())

    async def test_a_large_archive_in_chunks(self) -> None:
        count = 2 * CHUNK + 1
        await self.fill(range(count), bodies=dict.fromkeys(range(count), "cat"))
        page = await self.ask(field("fulltext", "cat"))
        self.assertEqual((count, None), (page.count, page.complete))
        self.assertEqual(count, await self.words())

    async def test_several_searches_share_the_work(self) -> None:
        await self.fill(range(CHUNK + 1), bodies=dict.fromkeys(range(CHUNK + 1), "cat"))
        sessions = [self.host.session(f"{ROMEO}/{n}") for n in range(4)]
        looked_into: list[str] = []
        original = search.body_words

        def counted(stanza: str) -> frozenset[str]:
            looked_into.append(stanza)
            return original(stanza)

        self.patch(search, "body_words", counted)
        for session in sessions:
            session.sends(self.query_xml(field("fulltext", "cat"), "<max>0</max>"))
        for session in sessions:
            reply = await session.receives("iq")
            self.assertIn(f"<count>{CHUNK + 1}</count>", reply.toXml())
        self.assertEqual(CHUNK + 1, len(looked_into))

    async def test_who_asks_for_too_much_at_once_is_told_to_come_again(self) -> None:
        await self.fill([1], bodies={1: "cat"})
        lock = await self.start_database(self.settings)

        async def hold(transaction: Any) -> None:
            await transaction.query("SELECT FROM mam_archive FOR UPDATE")
            self.romeo.sends(self.query_xml(field("fulltext", "cat")))
            while not await transaction.query("SELECT FROM pg_locks WHERE NOT granted"):
                pass
            self.clock.advance(PATIENCE_S)
            reply = await self.romeo.receives("iq")
            self.assert_error(reply.error, "wait", "resource-constraint", "The archive is being prepared for searching")

        await lock.transaction(hold)
        # The work went on all the same.
        self.assertEqual([1], await self.found("cat"))

    async def test_words_go_with_the_archive(self) -> None:
        await self.fill([1], bodies={1: "cat"})
        await self.found("cat")
        await self.module.remove_account(JID.parse(ROMEO))
        await self.host.settle()
        self.assertEqual(0, await self.words())
        self.assertEqual([], await self.found("cat"))


class Disabled(Searching):
    options = {"full_text_search": False}

    async def test_is_an_error(self) -> None:
        await self.fill([1], bodies={1: "cat"})
        for text in ("cat", "?!"):
            error = await self.refusal(field(FULL_TEXT, text))
            self.assert_error(error, "wait", "internal-server-error", "Text search is not available")
        self.assertEqual([1], (await self.ask(field(FULL_TEXT, ""))).numbers)
