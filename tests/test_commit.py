"""Commit tickets: settled when nothing is held, committed when nothing failed either."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.commit import CommitTicket


class CommitTickets(TestCase):
    def setUp(self) -> None:
        self.ticket = CommitTicket()
        self.told: list[CommitTicket] = []

    def test_nothing_was_written(self) -> None:
        self.assertTrue(self.ticket.settled and self.ticket.committed)
        self.assertFalse(self.ticket.failed)
        self.ticket.when_settled(self.told.append)
        self.assertEqual([self.ticket], self.told)

    def test_one_write(self) -> None:
        self.ticket.hold()
        self.ticket.when_settled(self.told.append)
        self.assertFalse(self.ticket.settled or self.ticket.committed)
        self.assertEqual([], self.told)
        self.ticket.release()
        self.assertTrue(self.ticket.settled and self.ticket.committed)
        self.assertEqual([self.ticket], self.told)

    def test_the_last_write_settles(self) -> None:
        for _ in range(3):
            self.ticket.hold()
        self.ticket.when_settled(self.told.append)
        for _ in range(2):
            self.ticket.release()
            self.assertFalse(self.ticket.settled)
            self.assertEqual([], self.told)
        self.ticket.release()
        self.assertTrue(self.ticket.committed)
        self.assertEqual([self.ticket], self.told)

    def test_one_that_fails_spoils_it(self) -> None:
        for fates in (("fail", "release"), ("release", "fail")):
            ticket = CommitTicket()
            ticket.hold()
            ticket.hold()
            getattr(ticket, fates[0])()
            self.assertFalse(ticket.settled)
            getattr(ticket, fates[1])()
            self.assertTrue(ticket.settled and ticket.failed)
            self.assertFalse(ticket.committed)

    def test_a_failure_is_told_too(self) -> None:
        self.ticket.hold()
        self.ticket.when_settled(self.told.append)
        self.ticket.fail()
        self.assertEqual([self.ticket], self.told)

    def test_who_waits_is_told_once_and_in_order(self) -> None:
        order: list[int] = []

        def note(number: int) -> Callable[[CommitTicket], object]:
            return lambda ticket: order.append(number)

        self.ticket.hold()
        for number in range(3):
            self.ticket.when_settled(note(number))
        self.ticket.release()
        self.assertEqual([0, 1, 2], order)
        self.ticket.hold()
        self.ticket.release()
        self.assertEqual([0, 1, 2], order)

    def test_who_asks_while_others_are_told(self) -> None:
        self.ticket.hold()
        self.ticket.when_settled(lambda ticket: ticket.when_settled(self.told.append))
        self.ticket.release()
        self.assertEqual([self.ticket], self.told)

    def test_more_releases_than_holds_are_a_bug(self) -> None:
        self.assertRaises(AssertionError, self.ticket.release)

    @given(st.lists(st.booleans(), min_size=1, max_size=20))
    def test_any_outcome_of_any_number_of_writes(self, fates: list[bool]) -> None:
        ticket = CommitTicket()
        told: list[CommitTicket] = []
        for _ in fates:
            ticket.hold()
        ticket.when_settled(told.append)
        for committed in fates:
            self.assertFalse(ticket.settled)
            (ticket.release if committed else ticket.fail)()
        self.assertEqual((True, all(fates), [ticket]), (ticket.settled, ticket.committed, told))
