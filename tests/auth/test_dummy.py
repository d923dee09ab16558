from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from dynxmpp.auth.base import NotSupported
from dynxmpp.auth.dummy import DummyAuth


class DummyAuthTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.auth = DummyAuth(clock=self.clock, random=Random(1), base_time_ms=50, variance_ms=450)

    def test_says_yes_after_base_time_and_variance(self) -> None:
        delays = []
        for _ in range(200):
            answer = Deferred.fromCoroutine(self.auth.check_password("example.org", "anybody", "anything"))
            self.assertNoResult(answer)
            (call,) = self.clock.getDelayedCalls()
            delays.append(round((call.getTime() - self.clock.seconds()) * 1000))
            self.clock.advance(0.5)
            self.assertTrue(self.successResultOf(answer))
        self.assertGreaterEqual(min(delays), 50)
        self.assertLessEqual(max(delays), 500)
        self.assertGreater(max(delays) - min(delays), 300)

    def test_without_variance(self) -> None:
        auth = DummyAuth(clock=self.clock, random=Random(1), base_time_ms=50, variance_ms=0)
        answer = Deferred.fromCoroutine(auth.check_password("example.org", "anybody", ""))
        self.clock.advance(0.049)
        self.assertNoResult(answer)
        self.clock.advance(0.001)
        self.assertTrue(self.successResultOf(answer))

    async def test_everybody_exists(self) -> None:
        self.assertTrue(await self.auth.exists("example.org", "anybody"))

    async def test_plain_only(self) -> None:
        self.assertEqual(self.auth.mechanisms, {"PLAIN"})
        self.assertIsNone(await self.auth.scram_record("example.org", "anybody", "sha1"))

    async def test_keeps_no_accounts(self) -> None:
        self.assertEqual((self.auth.stored, self.auth.migrations), ((), ()))
        for refused in (
            self.auth.create("example.org", "anybody", "x"),
            self.auth.set_password("example.org", "anybody", "x"),
            self.auth.remove("example.org", "anybody"),
            self.auth.list("example.org", None, 10),
            self.auth.count("example.org"),
        ):
            with self.assertRaises(NotSupported):
                await refused
