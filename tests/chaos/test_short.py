"""One disaster of each kind. What a long run finds is for `make chaos`."""

import sys

from twisted.trial.unittest import TestCase

from tests.chaos.disasters import Kind
from tests.chaos.report import as_text
from tests.chaos.run import Options, Run

SEED = 20


def tell(line: str) -> None:
    """Shown when the test fails."""
    sys.stdout.write(line + "\n")


class Short(TestCase):
    timeout = 120

    async def test_acknowledged_is_archived(self) -> None:
        options = Options(seed=SEED, kills=len(Kind), connections=12, window=20, after=(50, 400), away_s=0.5)
        tell(f"seed {SEED}")
        result = await Run(options, tell).result()
        report = as_text(result)
        self.assertTrue(result.verdict.passed, report)
        self.assertEqual({kind.value: 1 for kind in Kind}, dict(result.disasters))
        self.assertGreater(result.verdict.figures["acknowledged"], 500, report)
        self.assertGreater(result.clients["resumptions"], 0, report)
        self.assertGreater(result.clients["sessions lost"], 0, report)
