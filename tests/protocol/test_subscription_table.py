"""The subscription state machine, row by row against the tables of RFC 6121 Appendix A."""

from collections.abc import Callable

from twisted.trial.unittest import TestCase

from dynxmpp.protocol.subscription import SUBSCRIPTION_TYPES, State, Transition, inbound, outbound

N, NO, NI, NOI = State.NONE, State.NONE_PENDING_OUT, State.NONE_PENDING_IN, State.NONE_PENDING_OUT_IN
T, TI, F, FO, B = State.TO, State.TO_PENDING_IN, State.FROM, State.FROM_PENDING_OUT, State.BOTH

#: (existing state, must it be routed or delivered, new state)
Row = tuple[State, bool, State]
YES, NOT = True, False

OUTBOUND: dict[str, list[Row]] = {
    # A.2.1
    "subscribe": [
        (N, YES, NO),
        (NO, YES, NO),
        (NI, YES, NOI),
        (NOI, YES, NOI),
        (T, YES, T),
        (TI, YES, TI),
        (F, YES, FO),
        (FO, YES, FO),
        (B, YES, B),
    ],
    # A.2.2
    "unsubscribe": [
        (N, YES, N),
        (NO, YES, N),
        (NI, YES, NI),
        (NOI, YES, NI),
        (T, YES, N),
        (TI, YES, NI),
        (F, YES, F),
        (FO, YES, F),
        (B, YES, F),
    ],
    # A.2.3, without pre-approval
    "subscribed": [
        (N, NOT, N),
        (NO, NOT, NO),
        (NI, YES, F),
        (NOI, YES, FO),
        (T, NOT, T),
        (TI, YES, B),
        (F, NOT, F),
        (FO, NOT, FO),
        (B, NOT, B),
    ],
    # A.2.4
    "unsubscribed": [
        (N, NOT, N),
        (NO, NOT, NO),
        (NI, YES, N),
        (NOI, YES, NO),
        (T, NOT, T),
        (TI, YES, T),
        (F, YES, N),
        (FO, YES, NO),
        (B, YES, T),
    ],
}

INBOUND: dict[str, list[Row]] = {
    # A.3.1
    "subscribe": [
        (N, YES, NI),
        (NO, YES, NOI),
        (NI, NOT, NI),
        (NOI, NOT, NOI),
        (T, YES, TI),
        (TI, NOT, TI),
        (F, NOT, F),
        (FO, NOT, FO),
        (B, NOT, B),
    ],
    # A.3.2
    "unsubscribe": [
        (N, NOT, N),
        (NO, NOT, NO),
        (NI, YES, N),
        (NOI, YES, NO),
        (T, NOT, T),
        (TI, YES, T),
        (F, YES, N),
        (FO, YES, NO),
        (B, YES, T),
    ],
    # A.3.3
    "subscribed": [
        (N, NOT, N),
        (NO, YES, T),
        (NI, NOT, NI),
        (NOI, YES, TI),
        (T, NOT, T),
        (TI, NOT, TI),
        (F, NOT, F),
        (FO, YES, B),
        (B, NOT, B),
    ],
    # A.3.4
    "unsubscribed": [
        (N, NOT, N),
        (NO, YES, N),
        (NI, NOT, NI),
        (NOI, YES, NI),
        (T, YES, N),
        (TI, YES, NI),
        (F, NOT, F),
        (FO, YES, F),
        (B, YES, F),
    ],
}

#: subscription, ask: what a roster item shows of each state (RFC 6121 A.1).
SHOWN = {
    N: ("none", False),
    NO: ("none", True),
    NI: ("none", False),
    NOI: ("none", True),
    T: ("to", False),
    TI: ("to", False),
    F: ("from", False),
    FO: ("from", True),
    B: ("both", False),
}


class Tables(TestCase):
    def check(self, tables: dict[str, list[Row]], function: Callable[[State, str], Transition]) -> None:
        self.assertEqual(SUBSCRIPTION_TYPES, set(tables))
        for type_, rows in tables.items():
            self.assertEqual(list(State), sorted((row[0] for row in rows), key=list(State).index))
            for existing, passes, new in rows:
                transition = function(existing, type_)
                self.assertEqual((passes, new), (transition.passes, transition.state), f"{type_} in {existing.name}")
                self.assertEqual(SHOWN[existing] != SHOWN[new], transition.pushes, f"{type_} in {existing.name}")

    def test_outbound(self) -> None:
        self.check(OUTBOUND, outbound)

    def test_inbound(self) -> None:
        self.check(INBOUND, inbound)

    def test_only_a_request_that_was_granted_before_is_answered(self) -> None:
        answered = {
            (type_, state): inbound(state, type_).answer
            for type_ in SUBSCRIPTION_TYPES
            for state in State
            if inbound(state, type_).answer is not None
        }
        self.assertEqual({("subscribe", state): "subscribed" for state in (F, FO, B)}, answered)
        for type_ in SUBSCRIPTION_TYPES:
            self.assertEqual({None}, {outbound(state, type_).answer for state in State})

    def test_what_a_roster_shows(self) -> None:
        for state, (subscription, ask) in SHOWN.items():
            self.assertEqual((subscription, ask), (state.subscription, state.ask), state.name)
            self.assertEqual(state not in (N, NI), state.visible, state.name)

    def test_states_are_what_is_stored_of_them(self) -> None:
        for state in State:
            stored = State.of(state.subscription, ask=state.ask, pending_in=state.value.pending_in)
            self.assertIs(state, stored)

    def test_what_is_no_state(self) -> None:
        for subscription, ask, pending_in in [("to", True, False), ("from", False, True), ("both", True, True)]:
            self.assertRaises(ValueError, State.of, subscription, ask=ask, pending_in=pending_in)
        self.assertRaises(ValueError, State.of, "remove", ask=False, pending_in=False)

    def test_other_types(self) -> None:
        for type_ in ("probe", "unavailable", "", "Subscribe"):
            self.assertRaises(ValueError, outbound, State.NONE, type_)
            self.assertRaises(ValueError, inbound, State.NONE, type_)
