"""Where pages lie in a set that is there as a whole, and what fits into one."""

from twisted.trial.unittest import TestCase

from dynxmpp.module import JID, StanzaError
from dynxmpp.modules.mam.authors import shown_to
from dynxmpp.modules.mam.paging import PAGE_BYTES, is_complete, place, within_bytes
from dynxmpp.modules.mam.query import Page
from tests.protocol.test_xep_0313_lookup import MORE_NUMBERS, WORKED_NUMBERS, numbers

SET = list(range(1, 16))


def page_of(words: str) -> Page:
    """The page that the words of the table mean; ids are the numbers."""
    size, backward, edge, skip = 50, False, None, 0
    for word in filter(None, words.split(", ")):
        name, _, value = word.partition(" ")
        if name == "max":
            size = int(value)
        elif name == "index":
            skip = int(value)
        else:
            backward = name == "before"
            edge = int(value) if value else None
    return Page(size, backward, edge, skip)


class Places(TestCase):
    def test_as_pages_out_of_tables(self) -> None:
        """The rules are the same for a set in memory."""
        checked = 0
        for words, sent, index, count, complete in WORKED_NUMBERS + MORE_NUMBERS:
            names = [word.partition(" ")[0] for word in words.split(", ")]
            if not {*names} <= {"", "max", "index", "before", "after"} or len(names) > 2 or count != len(SET):
                continue
            checked += 1
            page = page_of(words)
            start, stop = place(page, SET)
            self.assertEqual(numbers(sent), SET[start:stop], words)
            self.assertEqual(complete, is_complete(page, start, stop - start, len(SET)), words)
            if index is not None:
                self.assertEqual(index, start, words)
        self.assertGreater(checked, 20)

    def test_an_order_of_ones_own(self) -> None:
        self.assertEqual((2, 4), place(Page(2, edge=1), [5, 1, 4, 2]))
        self.assertEqual((0, 2), place(Page(2, backward=True, edge=4), [5, 1, 4, 2]))

    def test_an_edge_that_is_not_in_it(self) -> None:
        for backward in (False, True):
            with self.assertRaises(StanzaError) as caught:
                place(Page(5, backward=backward, edge=99), SET)
            self.assertEqual("item-not-found", caught.exception.condition)

    def test_an_empty_set(self) -> None:
        for backward in (False, True):
            page = Page(5, backward=backward)
            self.assertEqual((0, 0), place(page, []))
            self.assertTrue(is_complete(page, 0, 0, 0))


class Bytes(TestCase):
    def rows(self, *sizes: int) -> list[tuple[int, str, str]]:
        return [(number, "", "x" * size) for number, size in enumerate(sizes)]

    def kept(self, *sizes: int, backward: bool = False) -> list[int]:
        return [row[0] for row in within_bytes(self.rows(*sizes), backward=backward)]

    def test_from_the_side_of_the_beginning(self) -> None:
        half = PAGE_BYTES // 2
        self.assertEqual([0, 1], self.kept(half, half, 1))
        self.assertEqual([1, 2], self.kept(half, half, 1, backward=True))
        self.assertEqual([0, 1, 2], self.kept(1, 1, 1))
        self.assertEqual([], self.kept())

    def test_the_first_one_whatever_its_size(self) -> None:
        self.assertEqual([0], self.kept(PAGE_BYTES + 1, 1))
        self.assertEqual([1], self.kept(1, PAGE_BYTES + 1, backward=True))


class Authors(TestCase):
    """Only who wrote a message in a room gets the full address of its author back."""

    x = "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='member' jid='a@b.example/secret'/></x>"
    source = "room@chat.example/a@b.example"

    def shown(self, reader: str, content: str) -> str:
        stanza = f"<message xmlns='jabber:client' from='{self.source}'>{content}</message>"
        return shown_to(JID.parse(reader), stanza, self.source)

    def test_the_author(self) -> None:
        self.assertIn("secret", self.shown("a@b.example/other", f"<body>x</body>{self.x}"))

    def test_others(self) -> None:
        expected = f"<message xmlns='jabber:client' from='{self.source}'><body>x</body></message>"
        self.assertEqual(expected, self.shown("c@b.example/other", f"<body>x</body>{self.x}"))
        self.assertEqual(expected, self.shown("c@b.example/other", "<body>x</body>"))

    def test_wherever_it_stands(self) -> None:
        namespace = "http://jabber.org/protocol/muc#user"
        for content in (
            f"{self.x}<body>x</body>",
            f"{self.x}{self.x}",
            f"<body>x</body><p:x xmlns:p='{namespace}'><p:item jid='a@b.example/secret'/></p:x>",
            f'<body>x</body><x xmlns="{namespace}"><item jid="a@b.example/secret"/></x>',
            f"<body>&lt;x xmlns='{namespace}'></body>{self.x}",
            f"<body><![CDATA[<x xmlns='{namespace}'>]]></body>{self.x}",
        ):
            self.assertNotIn("secret", self.shown("c@b.example/other", content), content)

    def test_texts_stay(self) -> None:
        shown = self.shown(
            "c@b.example/o", f"<body><![CDATA[<x xmlns='http://jabber.org/protocol/muc#user'>]]></body>{self.x}"
        )
        self.assertIn("&lt;x xmlns=", shown)
