"""Archive ids: order, text and time."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.modules.mam.ids import MAX_ID, ArchiveIds, first_of, from_text, last_of, timestamp, to_text

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


class Texts(TestCase):
    def test_known_ones(self) -> None:
        for number, text in [(0, "0"), (1, "1"), (31, "V"), (32, "10"), (1023, "VV"), (1024, "100")]:
            with self.subTest(number=number):
                self.assertEqual(text, to_text(number))
                self.assertEqual(number, from_text(text))
        self.assertEqual("7VVVVVVVVVVVV", to_text(MAX_ID))
        self.assertEqual("2022-06-08T09:43:08.952999Z", timestamp(from_text("BO7CH1JQR9O1")))

    @given(st.integers(0, MAX_ID))
    def test_there_and_back(self, number: int) -> None:
        text = to_text(number)
        self.assertEqual(number, from_text(text))
        self.assertEqual(number, from_text(text.lower()))
        self.assertTrue(text == "0" or not text.startswith("0"))
        self.assertTrue(set(text) <= set(DIGITS))

    def test_what_is_none(self) -> None:
        for text in (
            "",
            "W",
            "-1",
            "+1",
            "1_0",
            " 1",
            "1 ",
            "1.0",
            "8000000000000",
            "V" * 14,
            "\u0661",
            "0x1",
            "\u00bd",
        ):
            with self.subTest(text=text):
                self.assertRaises(ValueError, from_text, text)


class Order(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = 1_654_681_388.952999
        self.node = 0
        self.ids = ArchiveIds(self.clock, lambda: self.node)

    def test_the_time_is_in_it(self) -> None:
        self.assertEqual("2022-06-08T09:43:08.952999Z", timestamp(self.ids.next()))

    def test_they_ascend_while_the_clock_stands_still_and_goes_back(self) -> None:
        ids = [self.ids.next() for _ in range(1000)]
        self.clock.rightNow -= 3600
        ids += [self.ids.next() for _ in range(1000)]
        self.clock.rightNow += 7200
        ids.append(self.ids.next())
        self.assertEqual(sorted(set(ids)), ids)
        self.assertEqual(int(self.clock.rightNow * 1_000_000), ids[-1] >> 8)

    def test_the_node_is_in_it(self) -> None:
        other = ArchiveIds(self.clock, lambda: 255)
        mine, its = [self.ids.next() for _ in range(100)], [other.next() for _ in range(100)]
        self.assertEqual(set(), set(mine) & set(its))
        self.assertEqual({0}, {id_ & 255 for id_ in mine})
        self.assertEqual({255}, {id_ & 255 for id_ in its})

    def test_a_node_that_gets_another_number_goes_on_ascending(self) -> None:
        self.node = 200
        first = self.ids.next()
        self.node = 3
        self.assertGreater(self.ids.next(), first)


class Bounds(TestCase):
    def test_of_a_moment(self) -> None:
        self.assertEqual((0, 255), (first_of(0), last_of(0)))
        self.assertEqual((256, 511), (first_of(1), last_of(1)))

    def test_before_and_after_all_time(self) -> None:
        self.assertEqual((0, -1), (first_of(-5), last_of(-5)))
        self.assertEqual((MAX_ID, MAX_ID), (first_of(1 << 60), last_of(1 << 60)))
