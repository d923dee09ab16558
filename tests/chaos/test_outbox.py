"""XEP-0198: what is acknowledged, what is sent again."""

from twisted.trial.unittest import TestCase

from tests.chaos.history import Name
from tests.chaos.outbox import WRAP, BadCount, Entry, Outbox


def entries(*numbers: int) -> list[Entry]:
    return [Entry(b"%d" % number, Name("c0", number)) for number in numbers]


class Counting(TestCase):
    def setUp(self) -> None:
        self.outbox = Outbox()
        self.put(1, 2, 3)

    def put(self, *numbers: int) -> None:
        for entry in entries(*numbers):
            self.outbox.put(entry)

    def test_from_the_front(self) -> None:
        self.assertEqual(entries(1, 2), self.outbox.acknowledge(2))
        self.assertEqual([], self.outbox.acknowledge(2))
        self.put(4)
        self.assertEqual(entries(3, 4), self.outbox.acknowledge(4))
        self.assertEqual(0, len(self.outbox))

    def test_resumed(self) -> None:
        self.outbox.acknowledge(1)
        self.assertEqual(entries(2, 3), self.outbox.waiting())
        self.assertEqual(entries(2, 3), self.outbox.acknowledge(3), "the counting goes on")

    def test_a_new_session(self) -> None:
        self.outbox.acknowledge(1)
        self.outbox.put(Entry(b"<presence/>"))
        again = self.outbox.begin()
        self.assertEqual(entries(2, 3), again)
        self.assertEqual(0, len(self.outbox))
        self.put(2, 3)
        self.assertEqual(entries(2), self.outbox.acknowledge(1))

    def test_too_many(self) -> None:
        with self.assertRaises(BadCount):
            self.outbox.acknowledge(4)
        self.assertEqual(3, len(self.outbox))

    def test_taken_back(self) -> None:
        self.outbox.acknowledge(2)
        with self.assertRaises(BadCount):
            self.outbox.acknowledge(1)

    def test_it_wraps(self) -> None:
        self.outbox._acknowledged = WRAP - 1
        self.assertEqual(entries(1, 2), self.outbox.acknowledge(1))
