"""What is drawn from a seed."""

import random

from twisted.trial.unittest import TestCase

from tests.chaos.disasters import WEIGHTS, Kind, draw


class Drawing(TestCase):
    def test_the_seed_decides(self) -> None:
        first, again, other = (draw(random.Random(s), 50, after=(10, 99), away_s=2.0) for s in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_each_kind_is_there(self) -> None:
        self.assertEqual(set(Kind), set(WEIGHTS))
        for count in (len(Kind), 50):
            disasters = draw(random.Random(count), count, after=(10, 99), away_s=2.0)
            self.assertEqual(count, len(disasters))
            self.assertEqual(set(Kind), {disaster.kind for disaster in disasters})

    def test_bounds(self) -> None:
        for disaster in draw(random.Random(3), 200, after=(10, 12), away_s=0.5):
            self.assertIn(disaster.after, (10, 11, 12))
            self.assertLessEqual(0, disaster.away_s)
            self.assertLessEqual(disaster.away_s, 0.5)
            self.assertTrue(0 < disaster.share < 1)

    def test_fewer_than_kinds(self) -> None:
        self.assertEqual(2, len(draw(random.Random(1), 2, after=(1, 1), away_s=0.0)))
