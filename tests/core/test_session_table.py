"""Who is bound where, and who gets what (RFC 6121 8.5)."""

from typing import Any, cast

from twisted.trial.unittest import TestCase

from dynxmpp.core.interfaces import Session
from dynxmpp.core.session_table import SessionTable
from dynxmpp.jid import JID


class FakeSession:
    """As much of a session as the table looks at."""

    def __init__(self, jid: str, priority: int | None = None) -> None:
        self.jid = JID.parse(jid)
        self.available = priority is not None
        self.priority = priority or 0

    def __repr__(self) -> str:
        return self.jid.full


class SessionTableTestCase(TestCase):
    def setUp(self) -> None:
        self.table = SessionTable()

    def bind(self, jid: str, priority: int | None = None) -> Session:
        """A bound session; available when it has a priority."""
        session = cast(Session, FakeSession(jid, priority))
        self.table.add(session)
        return session

    def resources(self, sessions: list[Session]) -> list[str | None]:
        return [session.jid.resource for session in sessions]


class Binding(SessionTableTestCase):
    def test_an_empty_table(self) -> None:
        jid = JID.parse("romeo@montague.example/orchard")
        found: tuple[Any, ...] = (
            len(self.table),
            list(self.table),
            self.table.of(jid.bare),
            self.table.get(jid),
            self.table.of_domain(jid.domain),
            self.table.count_domain(jid.domain),
        )
        self.assertEqual((0, [], [], None, [], 0), found)

    def test_a_session_is_found_by_all_its_names(self) -> None:
        session = self.bind("romeo@montague.example/orchard")
        self.assertIs(session, self.table.get(JID.parse("romeo@montague.example/orchard")))
        self.assertEqual([session], self.table.of("romeo@montague.example"))
        self.assertEqual([session], self.table.of_domain("montague.example"))
        self.assertEqual([session], list(self.table))
        self.assertEqual((1, 1), (len(self.table), self.table.count_domain("montague.example")))

    def test_a_session_is_found_by_no_other_name(self) -> None:
        self.bind("romeo@montague.example/orchard")
        for jid in ("romeo@montague.example/balcony", "romeo@montague.example", "juliet@montague.example/orchard"):
            self.assertIsNone(self.table.get(JID.parse(jid)), jid)
        self.assertEqual([], self.table.of("romeo@montague.example/orchard"))
        self.assertEqual([], self.table.of_domain("capulet.example"))

    def test_an_accounts_sessions_stand_oldest_first(self) -> None:
        for resource in "cab":
            self.bind(f"romeo@montague.example/{resource}")
        self.assertEqual(["c", "a", "b"], self.resources(self.table.of("romeo@montague.example")))

    def test_a_second_session_of_the_same_name_takes_the_place(self) -> None:
        """RFC 6120 7.7.2.2: the caller ends the one that is given back."""
        old = self.bind("romeo@montague.example/orchard")
        new = cast(Session, FakeSession("romeo@montague.example/orchard"))
        self.assertIs(old, self.table.add(new))
        self.assertIs(new, self.table.get(new.jid))
        self.assertEqual(
            ([new], 1, 1), (list(self.table), len(self.table), self.table.count_domain("montague.example"))
        )

    def test_a_replaced_session_leaves_the_others_alone(self) -> None:
        for resource in "abc":
            self.bind(f"romeo@montague.example/{resource}")
        self.bind("romeo@montague.example/b")
        self.assertEqual(["a", "c", "b"], self.resources(self.table.of("romeo@montague.example")))
        self.assertEqual(3, len(self.table))

    def test_a_new_resource_replaces_nobody(self) -> None:
        self.bind("romeo@montague.example/orchard")
        self.assertIsNone(self.table.add(cast(Session, FakeSession("romeo@montague.example/garden"))))

    def test_resources_are_told_apart_by_case(self) -> None:
        self.bind("romeo@montague.example/A")
        self.assertIsNone(self.table.add(cast(Session, FakeSession("romeo@montague.example/a"))))
        self.assertEqual(2, len(self.table))


class Leaving(SessionTableTestCase):
    def test_a_session_leaves(self) -> None:
        session = self.bind("romeo@montague.example/orchard")
        self.assertTrue(self.table.remove(session))
        self.assertEqual((0, [], 0), (len(self.table), list(self.table), self.table.count_domain("montague.example")))
        self.assertIsNone(self.table.get(session.jid))

    def test_it_leaves_once(self) -> None:
        session = self.bind("romeo@montague.example/orchard")
        self.bind("romeo@montague.example/garden")
        self.assertEqual([True, False], [self.table.remove(session), self.table.remove(session)])
        self.assertEqual(1, len(self.table))

    def test_a_session_that_was_never_in_does_not_leave(self) -> None:
        stranger = cast(Session, FakeSession("romeo@montague.example/orchard"))
        self.assertFalse(self.table.remove(stranger))
        self.bind("romeo@montague.example/orchard")
        self.assertFalse(self.table.remove(stranger), "of the same name, but another one")
        self.assertEqual(1, len(self.table))

    def test_who_was_replaced_does_not_take_the_new_one_along(self) -> None:
        old = self.bind("romeo@montague.example/orchard")
        new = self.bind("romeo@montague.example/orchard")
        self.assertFalse(self.table.remove(old))
        self.assertIs(new, self.table.get(new.jid))

    def test_others_stay(self) -> None:
        gone = self.bind("romeo@montague.example/a")
        for jid in ("romeo@montague.example/b", "benvolio@montague.example/a", "juliet@capulet.example/a"):
            self.bind(jid)
        self.table.remove(gone)
        self.assertEqual(["b"], self.resources(self.table.of("romeo@montague.example")))
        self.assertEqual(
            (3, 2, 1), (len(self.table), *map(self.table.count_domain, ("montague.example", "capulet.example")))
        )

    def test_nothing_is_left_of_an_account_or_domain_without_sessions(self) -> None:
        sessions = [self.bind(f"user{n}@domain{n % 7}.example/r") for n in range(50)]
        for session in sessions:
            self.table.remove(session)
        self.assertEqual(({}, {}), (self.table._accounts, self.table._domains))

    def test_a_session_may_leave_while_the_account_is_walked(self) -> None:
        for resource in "abc":
            self.bind(f"romeo@montague.example/{resource}")
        walked = []
        for session in self.table.of("romeo@montague.example"):
            walked.append(session)
            self.table.remove(session)
        self.assertEqual((["a", "b", "c"], 0), (self.resources(walked), len(self.table)))

    def test_a_domain_and_the_whole_table_may_be_emptied_while_walked(self) -> None:
        for number in range(6):
            self.bind(f"user{number % 3}@d.example/{number}")
            self.bind(f"user{number % 3}@e.example/{number}")
        for session in self.table.of_domain("d.example"):
            self.table.remove(session)
        self.assertEqual((0, 6), (self.table.count_domain("d.example"), self.table.count_domain("e.example")))
        for session in self.table:
            self.table.remove(session)
        self.assertEqual(0, len(self.table))


class Top(SessionTableTestCase):
    """RFC 6121 8.5.2.1.1: a message to the bare JID goes to the most available resources."""

    def top(self, *priorities: int | None) -> list[str | None]:
        """The top ones of sessions 0, 1, 2... with these priorities; None is not available."""
        for number, priority in enumerate(priorities):
            self.bind(f"romeo@montague.example/{number}", priority)
        return self.resources(self.table.top("romeo@montague.example"))

    def test_nobody_bound(self) -> None:
        self.assertEqual([], self.top())

    def test_one(self) -> None:
        self.assertEqual(["0"], self.top(3))

    def test_one_with_priority_zero(self) -> None:
        self.assertEqual(["0"], self.top(0))

    def test_one_unavailable(self) -> None:
        self.assertEqual([], self.top(None))

    def test_one_negative(self) -> None:
        self.assertEqual([], self.top(-1))

    def test_several_negative_and_unavailable(self) -> None:
        self.assertEqual([], self.top(-1, None, -128))

    def test_the_highest(self) -> None:
        self.assertEqual(["2"], self.top(0, 5, 127, -1))

    def test_all_of_the_highest(self) -> None:
        self.assertEqual(["0", "2"], self.top(5, 0, 5))

    def test_zero_beside_negative(self) -> None:
        self.assertEqual(["1"], self.top(-1, 0))

    def test_an_unavailable_one_counts_for_nothing(self) -> None:
        self.bind("romeo@montague.example/high", 10)
        self.bind("romeo@montague.example/low", 1)
        self.bind("romeo@montague.example/same", 1)
        for number in (0, 2):
            self.table.of("romeo@montague.example")[number].available = False
        self.assertEqual(["low"], self.resources(self.table.top("romeo@montague.example")))

    def test_others_do_not_count(self) -> None:
        self.bind("romeo@capulet.example/x", 100)
        self.assertEqual(["0"], self.top(1))


class Available(SessionTableTestCase):
    def test_negative_ones_are_available_too(self) -> None:
        for resource, priority in (("a", None), ("b", -1), ("c", 4)):
            self.bind(f"romeo@montague.example/{resource}", priority)
        self.assertEqual(["b", "c"], self.resources(self.table.available("romeo@montague.example")))

    def test_nobody(self) -> None:
        self.assertEqual([], self.table.available("romeo@montague.example"))
