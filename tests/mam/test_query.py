"""What a request is read into; how pages of it look over the wire is in tests/protocol/test_xep_0313_lookup.py."""

from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.module import StanzaError
from dynxmpp.modules.mam.ids import MAX_ID
from dynxmpp.modules.mam.query import Filters, Page, Query, read_query
from dynxmpp.modules.mam.words import MAX_LETTERS, MAX_WORDS, has_all, normalised, words_of, words_of_query
from tests.fixtures.dialogue import parse
from tests.mam.archives import field, id_of, text_id


def read(form: str = "", page: str = "", extra: str = "", **options: Any) -> Query:
    x = f"<x xmlns='jabber:x:data' type='submit'>{form}</x>" if form else ""
    rsm = f"<set xmlns='http://jabber.org/protocol/rsm'>{page}</set>" if page else ""
    iq = parse(f"<iq type='set' id='1'><query xmlns='urn:xmpp:mam:2' queryid='f27'>{x}{rsm}{extra}</query></iq>")
    given = {"is_room": False, "default_size": 50, "largest_size": 100, **options}
    return read_query(next(iter(iq.child_elements())), **given)


class Requests(TestCase):
    def test_nothing(self) -> None:
        self.assertEqual(Query("urn:xmpp:mam:2", "f27", Filters(), Page(50), simple=False, flip=False), read())

    def test_sizes(self) -> None:
        for content, size in (("", 50), ("<max>0</max>", 0), ("<max>100</max>", 100), ("<max>101</max>", 100)):
            self.assertEqual(size, read(page=content).page.size)
        self.assertEqual(10, read(default_size=50, largest_size=10).page.size)

    def test_edges_decide_before_places(self) -> None:
        one = text_id(1)
        self.assertEqual(Page(50, skip=7), read(page="<index>7</index>").page)
        self.assertEqual(Page(50, edge=id_of(1)), read(page=f"<index>7</index><after>{one}</after>").page)
        self.assertEqual(Page(50, backward=True), read(page="<index>7</index><before/>").page)
        self.assertEqual(Page(50, backward=True, edge=id_of(1)), read(page=f"<before>{one}</before>").page)

    def test_before_and_after(self) -> None:
        query = read(page=f"<before>{text_id(9)}</before><after>{text_id(2)}</after>")
        self.assertEqual(Page(50, backward=True, edge=id_of(9)), query.page)
        self.assertEqual(Filters(low=id_of(2) + 1, named=(id_of(2),)), query.filters)

    def test_the_narrowest_interval_holds(self) -> None:
        form = field("start", "2022-06-08T09:00:03Z") + field("after-id", text_id(1)) + field("from-id", text_id(2))
        form += field("end", "2022-06-08T09:00:09Z") + field("before-id", text_id(7)) + field("to-id", text_id(8))
        filters = read(form).filters
        self.assertEqual((id_of(3), id_of(7) - 1), (filters.low, filters.high))
        self.assertEqual({id_of(n) for n in (1, 2, 7, 8)}, set(filters.named))

    def test_times_are_all_ids_of_their_microsecond(self) -> None:
        form = field("start", "2022-06-08T09:00:03Z") + field("end", "2022-06-08T09:00:03Z")
        filters = read(form).filters
        self.assertEqual((id_of(3), id_of(3) + 255), (filters.low, filters.high))
        never = read(field("start", "9999-01-01T00:00:00Z")).filters
        self.assertEqual((MAX_ID, MAX_ID), (never.low, never.high))

    def test_with(self) -> None:
        with_ = field("with", "Room@Chat.Example/Nick")
        self.assertEqual(Filters(remote="room@chat.example", resource="Nick"), read(with_).filters)
        self.assertEqual(Filters(remote="Nick"), read(with_, is_room=True).filters)
        self.assertEqual(Filters(), read(field("with", "room@chat.example"), is_room=True).filters)

    def test_simple(self) -> None:
        for value, simple in (("true", True), ("1", True), ("false", False), ("yes", False), ("", False)):
            self.assertEqual(simple, read(field("simple", value)).simple)
        self.assertTrue(read(always_simple=True).simple)

    def test_flip_page_is_of_the_query(self) -> None:
        self.assertTrue(read(extra="<flip-page/>").flip)
        self.assertFalse(read(extra="<flip-page xmlns='urn:example:other'/>").flip)

    def test_ids(self) -> None:
        query = read(field("ids", text_id(3), text_id(1), text_id(3)))
        self.assertEqual((id_of(3), id_of(1)), query.filters.ids)
        self.assertIsNone(read(field("ids")).filters.ids)

    def test_refusals(self) -> None:
        for condition, form, page in (
            ("not-acceptable", field("after-id", "not an id"), ""),
            ("not-acceptable", field("ids", text_id(1), "!"), ""),
            ("not-acceptable", "", "<before>!</before>"),
            ("bad-request", "", "<max>many</max>"),
            ("jid-malformed", field("with", "@"), ""),
        ):
            with self.assertRaises(StanzaError) as caught:
                read(form, page)
            self.assertEqual(condition, caught.exception.condition)


class Words(TestCase):
    def test_normalised(self) -> None:
        for text, expected in (
            ("My cat, was eaten by: my dog?!? Why...?!?", "my cat was eaten by my dog why"),
            ("  A\tb\n\nc ", "a b c"),
            ("don't", "dont"),
            ("Straße ŻÓŁW", "strasse żółw"),
            ("ﬁn Å", "fin å"),
            ("\U0001f422 !?", ""),
            ("snake_case", "snake_case"),
        ):
            self.assertEqual(expected, normalised(text))
            self.assertEqual(expected, normalised(expected))

    def test_bounds(self) -> None:
        self.assertEqual(MAX_WORDS, len(words_of(" ".join(f"w{n}" for n in range(3 * MAX_WORDS)))))
        self.assertEqual({"x" * MAX_LETTERS}, words_of("x" * 1000))
        self.assertEqual(frozenset(), words_of(""))

    def test_of_queries(self) -> None:
        self.assertEqual(("a", "b"), words_of_query("A b a"))
        self.assertEqual(tuple("abcdefghij"), words_of_query("a b c d e f g h i j k"))
        self.assertEqual((), words_of_query("?"))

    def test_beginnings(self) -> None:
        words = words_of("concatenation of cats")
        self.assertTrue(has_all(words, ("cat", "con")))
        self.assertFalse(has_all(words, ("cat", "enation")))
        self.assertTrue(has_all(words, ()))
