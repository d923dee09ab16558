"""Lines of jobs that wait: order within a pair, nobody else held up, bounds, and what becomes of the session."""

import gc
from collections.abc import Awaitable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.core.interfaces import Session
from dynxmpp.core.slow_lane import SLOW_AT, Job, Key, SlowLane
from dynxmpp.wire.errors import Unavailable

PAIR: Key = ("romeo@montague.example/orchard", "juliet@capulet.example")
OTHER: Key = ("nurse@capulet.example/kitchen", "juliet@capulet.example")


class FakeSession:
    def __init__(self) -> None:
        self.calls: list[bool] = []

    def slow_down(self, slow: bool) -> None:
        self.calls.append(slow)


class SlowLaneTestCase(TestCase):
    def setUp(self) -> None:
        self.lane = SlowLane()
        self.done: list[str] = []

    def at_once(self, name: str) -> Job:
        def job() -> None:
            self.done.append(name)

        return job

    def waits(self, name: str) -> tuple[Job, Deferred[None]]:
        """A job, and what it waits for."""
        waiting: Deferred[None] = Deferred()

        def job() -> Awaitable[None]:
            self.done.append(f"{name} begins")

            async def work() -> None:
                await waiting
                self.done.append(f"{name} ends")

            return work()

        return job, waiting

    def occupy(self, key: Key = PAIR, lane: SlowLane | None = None, origin: Any = None) -> Deferred[None]:
        """Puts a job into the lane that ends when the Deferred is fired."""
        job, waiting = self.waits("first")
        (self.lane if lane is None else lane).add(key, job, cast(Session | None, origin))
        return waiting


class Order(SlowLaneTestCase):
    def test_a_job_starts_at_once_when_the_pair_has_none(self) -> None:
        self.lane.add(PAIR, self.at_once("a"))
        self.assertEqual(["a"], self.done)
        self.assertFalse(self.lane)

    def test_a_pairs_jobs_run_one_after_the_other(self) -> None:
        first = self.occupy()
        second, second_waits = self.waits("second")
        self.lane.add(PAIR, second)
        self.lane.add(PAIR, self.at_once("third"))
        self.assertEqual(["first begins"], self.done)
        first.callback(None)
        self.assertEqual(["first begins", "first ends", "second begins"], self.done)
        second_waits.callback(None)
        self.assertEqual(["second begins", "second ends", "third"], self.done[2:])

    def test_other_pairs_pass(self) -> None:
        self.occupy()
        self.lane.add(OTHER, self.at_once("other"))
        self.assertEqual(["first begins", "other"], self.done)
        self.assertIn(PAIR, self.lane)
        self.assertNotIn(OTHER, self.lane)

    def test_what_a_job_goes_on_with_comes_before_what_lined_up(self) -> None:
        first: Deferred[None] = Deferred()

        def job() -> Awaitable[None]:
            async def work() -> None:
                await first
                self.lane.add_next(PAIR, self.at_once("next"))

            return work()

        self.lane.add(PAIR, job)
        self.lane.add(PAIR, self.at_once("behind"))
        first.callback(None)
        self.assertEqual(["next", "behind"], self.done)

    def test_a_job_that_lines_another_up_runs_it_later(self) -> None:
        def job() -> None:
            self.lane.add(PAIR, self.at_once("second"))
            self.done.append("first")

        self.lane.add(PAIR, job)
        self.assertEqual(["first", "second"], self.done)
        self.assertNotIn(PAIR, self.lane)

    def test_a_long_line_needs_no_deep_stack(self) -> None:
        lane = SlowLane(max_line=5000)
        first = self.occupy(lane=lane)
        for number in range(5000):
            lane.add(PAIR, self.at_once(str(number)))
        first.callback(None)
        self.assertEqual([str(number) for number in range(5000)], self.done[2:])


class Earlier(SlowLaneTestCase):
    """What a job waits for that needs all that its sender sent before it, to whomever."""

    ROOM: Key = (PAIR[0], "coven@chat.montague.example")

    def asks(self, name: str, key: Key) -> Job:
        async def work() -> None:
            await self.lane.earlier(key)
            self.done.append(name)

        return work

    def test_it_comes_after_what_waits_in_other_lines(self) -> None:
        first = self.occupy(PAIR)
        self.lane.add(PAIR, self.at_once("second"))
        self.lane.add(self.ROOM, self.asks("query", self.ROOM))
        self.assertEqual(["first begins"], self.done)
        first.callback(None)
        self.assertEqual(["first begins", "first ends", "second", "query"], self.done)

    def test_not_after_what_came_later(self) -> None:
        first = self.occupy(PAIR)
        self.lane.add(self.ROOM, self.asks("query", self.ROOM))
        later, waiting = self.waits("later")
        self.lane.add(PAIR, later)
        first.callback(None)
        self.assertEqual(["first begins", "first ends", "query", "later begins"], self.done)
        waiting.callback(None)

    def test_after_what_a_job_has_begun(self) -> None:
        more, waiting = self.waits("more")
        self.lane.add(PAIR, lambda: self.lane.add_next(PAIR, more))
        self.lane.add(self.ROOM, self.asks("query", self.ROOM))
        self.assertEqual(["more begins"], self.done)
        waiting.callback(None)
        self.assertEqual(["more begins", "more ends", "query"], self.done)

    def test_others_are_not_waited_for(self) -> None:
        first = self.occupy(OTHER)
        self.lane.add(PAIR, self.asks("query", PAIR))
        self.assertEqual(["first begins", "query"], self.done)
        first.callback(None)

    def test_two_that_ask_do_not_wait_for_each_other(self) -> None:
        """Each stands behind a job that has to wait, and has something behind it that the other would wait for."""
        first, second = self.occupy(PAIR), self.occupy(self.ROOM)
        for number, key in enumerate((PAIR, self.ROOM)):
            self.lane.add(key, self.asks(f"query {number}", key))
        for number, key in enumerate((PAIR, self.ROOM)):
            self.lane.add(key, self.at_once(f"behind {number}"))
        first.callback(None)
        self.assertNotIn("query 0", self.done)
        second.callback(None)
        self.assertEqual(["query 0", "behind 0", "query 1", "behind 1"], self.done[-4:])
        self.assertFalse(self.lane)

    def test_a_line_that_ends_with_a_failure_lets_go(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def fails() -> None:
            await waiting
            raise ZeroDivisionError

        self.lane.add(PAIR, fails)
        self.lane.add(self.ROOM, self.asks("query", self.ROOM))
        waiting.callback(None)
        self.assertEqual(["query"], self.done)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class Bounds(SlowLaneTestCase):
    def test_a_pairs_line_is_bounded(self) -> None:
        lane = SlowLane(max_line=3)
        first = self.occupy(lane=lane)
        for name in "abc":
            lane.add(PAIR, self.at_once(name))
        self.assertRaises(Unavailable, lane.add, PAIR, self.at_once("too much"))
        lane.add(OTHER, self.at_once("other"))
        first.callback(None)
        self.assertEqual(["first begins", "other", "first ends", "a", "b", "c"], self.done)

    def test_all_lines_together_are_bounded(self) -> None:
        lane = SlowLane(max_jobs=2)
        first = self.occupy(lane=lane)
        self.occupy(OTHER, lane)
        lane.add(PAIR, self.at_once("a"))
        lane.add(OTHER, self.at_once("b"))
        for key in (PAIR, OTHER, ("somebody", "else")):
            self.assertRaises(Unavailable, lane.add, key, self.at_once("too much"))
        first.callback(None)
        lane.add(PAIR, self.at_once("room again"))
        self.assertEqual("room again", self.done[-1])

    def test_some_of_it_is_for_sessions_only(self) -> None:
        lane, session = SlowLane(max_jobs=1, reserved=1), cast(Session, FakeSession())
        first = self.occupy(lane=lane)
        lane.add(PAIR, self.at_once("a room's"))
        self.assertRaises(Unavailable, lane.add, OTHER, self.at_once("too much of the room"))
        lane.add(PAIR, self.at_once("a session's"), session)
        self.assertRaises(Unavailable, lane.add, OTHER, self.at_once("too much"), session)
        first.callback(None)
        self.assertEqual(["first begins", "first ends", "a room's", "a session's"], self.done)

    def test_what_was_refused_leaves_nothing(self) -> None:
        lane = SlowLane(max_jobs=0)
        self.assertRaises(Unavailable, lane.add, PAIR, self.at_once("too much"))
        self.assertFalse(lane)
        self.assertEqual([], self.done)

    def test_the_room_of_what_is_done_is_free_again(self) -> None:
        lane = SlowLane(max_line=2, max_jobs=2)
        for _ in range(10):
            first = self.occupy(lane=lane)
            lane.add(PAIR, self.at_once("a"))
            lane.add(PAIR, self.at_once("b"))
            first.callback(None)
        self.assertEqual(20, len([name for name in self.done if name in "ab"]))
        self.assertFalse(lane)

    def test_what_has_begun_may_always_go_on(self) -> None:
        lane = SlowLane(max_line=1, max_jobs=1)
        first = self.occupy(lane=lane)
        lane.add(PAIR, self.at_once("behind"))
        lane.add_next(PAIR, self.at_once("next"))
        first.callback(None)
        self.assertEqual(["next", "behind"], self.done[2:])


class SlowSessions(SlowLaneTestCase):
    def test_a_line_that_grows_again_slows_once(self) -> None:
        """What is sent on behalf of a session comes although the session is not read from."""
        session = FakeSession()
        first = self.occupy(origin=session)
        job, second = self.waits("second")
        self.lane.add(PAIR, job)
        for number in range(SLOW_AT - 1):
            self.lane.add(PAIR, self.at_once(str(number)))
        first.callback(None)
        self.lane.add(PAIR, self.at_once("once more"))
        second.callback(None)
        self.assertEqual([True, False], session.calls)

    def test_a_line_that_grows_by_what_goes_on_slows_too(self) -> None:
        session = FakeSession()
        first = self.occupy(origin=session)
        for number in range(SLOW_AT - 1):
            self.lane.add(PAIR, self.at_once(str(number)))
        self.lane.add_next(PAIR, self.at_once("next"))
        self.lane.add(PAIR, self.at_once("last"))
        self.assertEqual([True], session.calls)
        first.callback(None)
        self.assertEqual([True, False], session.calls)

    def test_a_short_line_slows_nobody(self) -> None:
        session = FakeSession()
        first = self.occupy(origin=session)
        for number in range(SLOW_AT - 1):
            self.lane.add(PAIR, self.at_once(str(number)))
        first.callback(None)
        self.assertEqual([], session.calls)

    def test_a_long_line_slows_once_and_lets_go_when_empty(self) -> None:
        session = FakeSession()
        first = self.occupy(origin=session)
        for number in range(2 * SLOW_AT):
            self.assertEqual([True] if number >= SLOW_AT else [], session.calls)
            self.lane.add(PAIR, self.at_once(str(number)))
        last, last_waits = self.waits("last")
        self.lane.add(PAIR, last)
        first.callback(None)
        self.assertEqual([True], session.calls)
        last_waits.callback(None)
        self.assertEqual([True, False], session.calls)

    def test_a_line_of_the_servers_own_stanzas_slows_nobody(self) -> None:
        first = self.occupy()
        for number in range(2 * SLOW_AT):
            self.lane.add(PAIR, self.at_once(str(number)))
        first.callback(None)
        self.assertEqual(2 * SLOW_AT + 2, len(self.done))


class Idle(SlowLaneTestCase):
    def test_an_empty_lane_is_idle(self) -> None:
        self.assertFalse(self.lane)
        self.successResultOf(self.lane.when_idle())

    def test_the_last_line_makes_it_idle(self) -> None:
        first, second = self.occupy(), self.occupy(OTHER)
        waiting = [self.lane.when_idle(), self.lane.when_idle()]
        first.callback(None)
        self.assertTrue(self.lane)
        for idle in waiting:
            self.assertNoResult(idle)
        second.callback(None)
        self.assertFalse(self.lane)
        for idle in waiting:
            self.successResultOf(idle)


class Faults(SlowLaneTestCase):
    """A job must not raise; should one do so, those behind it are done all the same."""

    def fails(self, **bounds: int) -> tuple[SlowLane, Deferred[None]]:
        lane = SlowLane(**bounds)
        first = self.occupy(lane=lane)
        lane.add(PAIR, self.at_once("second"))
        return lane, first

    async def test_the_pair_may_go_on(self) -> None:
        lane, first = self.fails(max_line=1, max_jobs=1)
        idle = lane.when_idle()
        first.errback(ZeroDivisionError())
        self.successResultOf(idle)
        self.assertNotIn(PAIR, lane)
        self.occupy(lane=lane).callback(None)
        self.assertEqual(["first begins", "second", "first begins", "first ends"], self.done)

    async def test_the_session_is_let_go(self) -> None:
        session = FakeSession()
        first = self.occupy(origin=session)
        for number in range(SLOW_AT):
            self.lane.add(PAIR, self.at_once(str(number)))
        first.errback(ZeroDivisionError())
        self.assertEqual([True, False], session.calls)

    def tearDown(self) -> None:
        gc.collect()  # an unhandled failure is logged when its Deferred goes
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)), "the fault is in the log")
