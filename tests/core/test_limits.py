"""Token buckets."""

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.core.limits import TokenBucket


class TokenBucketTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.bucket = TokenBucket(100.0, self.clock)

    def test_one_seconds_worth_may_be_taken_at_once(self) -> None:
        self.assertEqual([0.0, 0.0], [self.bucket.take(60), self.bucket.take(40)])

    def test_who_overdraws_waits_until_nothing_is_owed(self) -> None:
        self.assertEqual(0.5, self.bucket.take(150))

    def test_debts_add_up(self) -> None:
        self.bucket.take(150)
        self.assertEqual(1.5, self.bucket.take(100))

    def test_after_the_wait_it_is_empty_but_not_overdrawn(self) -> None:
        self.clock.advance(self.bucket.take(150))
        self.assertEqual(0.0, self.bucket.take(0))
        self.assertAlmostEqual(0.01, self.bucket.take(1))

    def test_it_fills_up_continuously(self) -> None:
        self.bucket.take(100)
        self.clock.advance(0.25)
        self.assertEqual(0.0, self.bucket.take(25))
        self.assertAlmostEqual(0.01, self.bucket.take(1))

    def test_small_steps_fill_as_much_as_a_large_one(self) -> None:
        self.bucket.take(100)
        for _ in range(50):
            self.clock.advance(0.01)
            self.bucket.take(0)
        self.assertAlmostEqual(0.5, self.bucket.take(100), places=6)

    def test_it_never_holds_more_than_one_seconds_worth(self) -> None:
        self.clock.advance(1000)
        self.assertEqual(0.0, self.bucket.take(100))
        self.assertAlmostEqual(1.0, self.bucket.take(100))

    def test_in_the_long_run_the_rate_is_kept(self) -> None:
        passed, waited = 0, 0.0
        for _ in range(200):
            delay = self.bucket.take(30)
            passed += 30
            waited += delay
            self.clock.advance(delay)
        self.assertAlmostEqual(passed - 100, waited * 100, places=6)

    def test_what_the_clock_says_at_the_start_counts_for_nothing(self) -> None:
        self.clock.advance(3600)
        bucket = TokenBucket(10.0, self.clock)
        self.assertEqual(0.1, bucket.take(11))
