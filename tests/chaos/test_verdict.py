"""The judge sees what it is there for: forged histories, each with one thing wrong."""

from twisted.trial.unittest import TestCase

from tests.chaos.archive import base32
from tests.chaos.history import Arrival, History, Kept, Name
from tests.chaos.verdict import VIOLATIONS, Verdict, examine

ANN, BOB = "ann@one.example", "bob@two.example"
COUNT = 5


def archive_id(number: int) -> str:
    return base32(1_000_000 + number)


class Forged(TestCase):
    """A faultless history of five messages from Ann to Bob, which a test then spoils."""

    def setUp(self) -> None:
        self.history = History()
        self.talk, _ = self.history.converse([(ANN, BOB)])
        for _ in range(COUNT):
            self.talk.next()
        for message in self.talk.messages:
            message.acknowledged = True
        names = [Name("c0", number) for number in range(COUNT)]
        kept = [Kept(archive_id(name.number), name) for name in names]
        self.history.archives = {ANN: list(kept), BOB: list(kept)}
        self.history.rows = {ANN: list(kept), BOB: list(kept)}
        self.history.arrivals = {ANN: [], BOB: [Arrival(name, 1, archive_id(name.number), False) for name in names]}

    def in_archive(self, account: str, kept: list[Kept]) -> None:
        """Both ways of looking show the same."""
        assert self.history.rows is not None
        self.history.archives[account] = self.history.rows[account] = kept

    def violations(self) -> dict[str, int]:
        self.verdict: Verdict = examine(self.history)
        found = {kind: count for kind, count in self.verdict.violations.items() if count}
        self.assertEqual(not found, self.verdict.passed)
        self.assertEqual(set(found), set(self.verdict.examples))
        return found

    def test_nothing_is_wrong(self) -> None:
        self.assertEqual({}, self.violations())
        self.assertEqual(dict.fromkeys(VIOLATIONS, 0), dict(self.verdict.violations))
        figures = {name: count for name, count in self.verdict.figures.items() if count}
        self.assertEqual({"sent": 5, "acknowledged": 5, "received": 5}, figures)

    def test_lost_by_the_senders_archive(self) -> None:
        del self.history.archives[ANN][2]
        self.in_archive(ANN, self.history.archives[ANN])
        self.assertEqual({"acknowledged, not in the sender's archive": 1}, self.violations())

    def test_lost_by_the_recipients_archive(self) -> None:
        self.in_archive(BOB, self.history.archives[BOB][:-1])
        kinds = {"acknowledged, not in the recipient's archive", "received under an id that the archive does not have"}
        self.assertEqual(dict.fromkeys(kinds, 1), self.violations())

    def test_lost_altogether(self) -> None:
        self.in_archive(BOB, self.history.archives[BOB][:-1])
        del self.history.arrivals[BOB][-1]
        kinds = {
            "acknowledged, not in the recipient's archive",
            "acknowledged, neither received nor in the recipient's archive",
        }
        self.assertEqual(dict.fromkeys(kinds, 1), self.violations())

    def test_an_archive_that_is_empty(self) -> None:
        self.in_archive(ANN, [])
        self.assertEqual({"acknowledged, not in the sender's archive": COUNT}, self.violations())

    def test_what_was_never_acknowledged_may_be_lost(self) -> None:
        self.talk.messages[4].acknowledged = False
        for account in (ANN, BOB):
            self.in_archive(account, self.history.archives[account][:-1])
        del self.history.arrivals[BOB][-1]
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["never acknowledged"])

    def test_what_was_refused_may_be_lost(self) -> None:
        self.talk.messages[4].refused = True
        self.in_archive(BOB, self.history.archives[BOB][:-1])
        del self.history.arrivals[BOB][-1]
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["refused with an error"])

    def test_not_received_but_archived(self) -> None:
        del self.history.arrivals[BOB][-1]
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["acknowledged, only in the archive"])

    # -- twice

    def test_received_twice(self) -> None:
        self.history.arrivals[BOB].append(self.history.arrivals[BOB][2])
        self.assertEqual({"received twice in one session": 1}, self.violations())

    def test_received_twice_without_ids(self) -> None:
        self.history.arrivals[BOB] = [arrival._replace(archive_id=None) for arrival in self.history.arrivals[BOB]]
        self.assertEqual({}, self.violations())
        self.history.arrivals[BOB].append(self.history.arrivals[BOB][2])
        self.assertEqual({"received twice in one session": 1}, self.violations())

    def test_received_again_in_the_next_session(self) -> None:
        again = self.history.arrivals[BOB][4]._replace(session=2)
        self.history.arrivals[BOB].append(again)
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["received again in a later session"])

    def test_archived_twice(self) -> None:
        twice = Kept(archive_id(COUNT), Name("c0", 4))
        for account in (ANN, BOB):
            self.in_archive(account, [*self.history.archives[account], twice])
        self.assertEqual({"archived twice, never sent again": 1}, self.violations())

    def test_archived_twice_after_it_was_sent_again(self) -> None:
        self.talk.messages[4].again = True
        for account in (ANN, BOB):
            self.in_archive(account, [*self.history.archives[account], Kept(archive_id(COUNT), Name("c0", 4))])
        self.history.arrivals[BOB].append(Arrival(Name("c0", 4), 1, archive_id(COUNT), False))
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["archived twice, having been sent again"])

    # -- order

    def test_received_out_of_order(self) -> None:
        arrivals = self.history.arrivals[BOB]
        arrivals[1], arrivals[3] = arrivals[3], arrivals[1]
        self.assertEqual({"received out of order": 2 + 2}, self.violations(), "by number and by id")

    def test_received_out_of_order_without_ids(self) -> None:
        arrivals = [arrival._replace(archive_id=None) for arrival in self.history.arrivals[BOB]]
        self.history.arrivals[BOB] = [*arrivals[1:], arrivals[0]]
        self.assertEqual({"received out of order": 1}, self.violations())

    def test_out_of_order_though_sent_again(self) -> None:
        """A first copy of 1 was lost on its way, and a second one is late; but that must not come before the first."""
        self.talk.messages[1].again = True
        arrivals = self.history.arrivals[BOB]
        second = Arrival(Name("c0", 1), 2, archive_id(COUNT), False)
        self.in_archive(BOB, [*self.history.archives[BOB], Kept(archive_id(COUNT), Name("c0", 1))])
        self.history.arrivals[BOB] = [arrivals[0], *arrivals[2:], second]
        self.assertEqual({}, self.violations())
        self.assertEqual(1, self.verdict.figures["received after later ones, having been sent again"])
        self.history.arrivals[BOB].append(arrivals[1]._replace(session=2))
        self.assertEqual({"received out of order": 1}, self.violations(), "by id")

    def test_what_comes_again_is_not_out_of_order(self) -> None:
        """After a lost session 3 and 4 come once more; what is new comes behind them."""
        arrivals = self.history.arrivals[BOB]
        again = [arrival._replace(session=2) for arrival in arrivals[3:]]
        self.history.arrivals[BOB] = [*arrivals, *again]
        self.assertEqual({}, self.violations())

    def test_offline_storage_may_come_late_but_in_order(self) -> None:
        arrivals = self.history.arrivals[BOB]
        late = [arrival._replace(delayed=True) for arrival in arrivals[1:3]]
        self.history.arrivals[BOB] = [arrivals[0], *arrivals[3:], *late]
        self.assertEqual({}, self.violations())
        self.assertEqual(2, self.verdict.figures["from offline storage, after later ones"])
        self.history.arrivals[BOB][-2:] = reversed(late)
        self.assertEqual({"received out of order": 1}, self.violations())

    def test_archived_out_of_order(self) -> None:
        names = [Name("c0", number) for number in (0, 2, 1, 3, 4)]
        self.in_archive(ANN, [Kept(archive_id(place), name) for place, name in enumerate(names)])
        self.assertEqual({"archived out of order": 1}, self.violations())

    def test_ids_out_of_order(self) -> None:
        kept = self.history.archives[ANN]
        names = [entry.name for entry in kept]
        ids = [entry.archive_id for entry in (kept[0], kept[2], kept[1], *kept[3:])]
        self.in_archive(ANN, [Kept(id_, name) for id_, name in zip(ids, names, strict=True)])
        self.assertEqual({"archive not in the order of its ids": 1}, self.violations())

    # -- what should not be there

    def test_the_archive_has_what_nobody_sent(self) -> None:
        for name in (None, Name("c0", COUNT), Name("c9", 0)):
            strange = [*self.history.archives[ANN][:COUNT], Kept(archive_id(COUNT), name)]
            self.in_archive(ANN, strange)
            self.assertEqual({"archived, never sent": 1}, self.violations(), name)

    def test_received_what_nobody_sent(self) -> None:
        for name in (None, Name("c0", COUNT), Name("c9", 0)):
            self.history.arrivals[BOB][COUNT:] = [Arrival(name, 1, archive_id(COUNT), False)]
            self.assertEqual({"received, never sent": 1}, self.violations(), name)

    def test_what_others_said(self) -> None:
        carol = "carol@one.example"
        self.history.arrivals[carol] = [self.history.arrivals[BOB][0]]
        self.history.archives[carol] = [self.history.archives[BOB][0]]
        assert self.history.rows is not None
        self.history.rows[carol] = self.history.archives[carol]
        self.assertEqual({"received, never sent": 1, "archived, never sent": 1}, self.violations())

    def test_received_under_another_id(self) -> None:
        arrivals = self.history.arrivals[BOB]
        arrivals[4] = arrivals[4]._replace(archive_id=archive_id(77))
        self.assertEqual({"received under an id that the archive does not have": 1}, self.violations())

    def test_paging_and_table_differ(self) -> None:
        assert self.history.rows is not None
        del self.history.archives[ANN][3]
        kinds = {"acknowledged, not in the sender's archive", "archive read by MAM differs from its table"}
        self.assertEqual(dict.fromkeys(kinds, 1), self.violations())

    def test_what_clients_saw(self) -> None:
        self.history.fault("acknowledged what was never sent", "h=9")
        self.assertEqual({"acknowledged what was never sent": 1}, self.violations())
