"""Who may change whom in a room, what is refused, and who is what afterwards."""

from twisted.trial.unittest import TestCase

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.affiliations import (
    NotAllowed,
    Outcome,
    Refused,
    Rules,
    change,
    check_occupants,
    check_permission,
    check_request,
    initial,
)
from dynxmpp.modules.muc_light.room import Affiliation, Changes, Members

ANN, BEN, CAT, DAN = (JID.parse(f"{name}@example.org") for name in ("ann", "ben", "cat", "dan"))
OWNER, MEMBER, NONE = Affiliation.OWNER, Affiliation.MEMBER, Affiliation.NONE

ROOM = {ANN: OWNER, BEN: MEMBER, CAT: MEMBER}
TWO_OWNERS = {ANN: OWNER, BEN: OWNER, CAT: MEMBER}
EQUALS = {ANN: MEMBER, BEN: MEMBER, CAT: MEMBER}

DEFAULT = Rules()
MULTIPLE = Rules(allow_multiple_owners=True)
NO_PROMOTION = Rules(promote=False)

MEANINGLESS = "Meaningless change"
OWNERLESS = "Ownerless room"
TWO_NEW_OWNERS = "Failed to demote old owner"
NO_OWNER_LEFT = "Cannot remove the last owner"
FULL = "max_occupants_reached"


def refusal(members: Members, requested: Changes, rules: Rules = DEFAULT) -> str | None:
    """The text that the change is refused with."""
    try:
        change(members, requested, rules)
    except Refused as error:
        return str(error)
    return None


class Permission(TestCase):
    def allowed(self, members: Members, requester: JID, requested: Changes, *, all_can_invite: bool = False) -> bool:
        try:
            check_permission(members, requester, requested, all_can_invite=all_can_invite)
        except NotAllowed:
            return False
        return True

    def test_owners_may_do_anything(self) -> None:
        for members in (ROOM, TWO_OWNERS, {ANN: OWNER, DAN: OWNER}):
            for requested in (
                {ANN: NONE, BEN: OWNER, CAT: NONE},
                {ANN: MEMBER},
                {DAN: MEMBER},
                {BEN: NONE, DAN: OWNER},
            ):
                with self.subTest(members=members, requested=requested):
                    self.assertTrue(self.allowed(members, ANN, requested))

    def test_members_may_leave_in_every_room(self) -> None:
        for members in (ROOM, TWO_OWNERS, EQUALS):
            with self.subTest(members=members):
                self.assertTrue(self.allowed(members, CAT, {CAT: NONE}))

    def test_members_may_do_nothing_else(self) -> None:
        for members in (ROOM, EQUALS):
            for requested in (
                {DAN: MEMBER},
                {DAN: OWNER},
                {CAT: NONE},
                {CAT: OWNER},
                {BEN: OWNER},
                {BEN: MEMBER},
                {BEN: NONE, DAN: MEMBER},
                {BEN: NONE, CAT: NONE},
                {ANN: NONE},
                {ANN: MEMBER},
            ):
                with self.subTest(members=members, requested=requested):
                    self.assertFalse(self.allowed(members, BEN, requested))

    def test_members_may_invite_where_all_can(self) -> None:
        for members in (ROOM, EQUALS):
            for requested in ({DAN: MEMBER}, {DAN: MEMBER, JID.parse("eve@other.example"): MEMBER}):
                with self.subTest(members=members, requested=requested):
                    self.assertTrue(self.allowed(members, BEN, requested, all_can_invite=True))

    def test_members_may_invite_and_leave_at_once(self) -> None:
        self.assertTrue(self.allowed(ROOM, BEN, {BEN: NONE, DAN: MEMBER}, all_can_invite=True))
        self.assertFalse(self.allowed(ROOM, BEN, {BEN: NONE, DAN: MEMBER}))

    def test_who_may_invite_may_not_remove_promote_or_demote(self) -> None:
        for members, requested in (
            (ROOM, {CAT: NONE}),
            (ROOM, {DAN: MEMBER, CAT: NONE}),
            (ROOM, {DAN: OWNER}),
            (ROOM, {DAN: MEMBER, CAT: OWNER}),
            (ROOM, {BEN: OWNER}),
            (ROOM, {ANN: MEMBER}),
            (ROOM, {ANN: NONE}),
            (ROOM, {ANN: MEMBER, DAN: MEMBER}),
            (EQUALS, {CAT: NONE}),
            (EQUALS, {DAN: OWNER}),
        ):
            with self.subTest(members=members, requested=requested):
                self.assertFalse(self.allowed(members, BEN, requested, all_can_invite=True))

    def test_a_member_cannot_demote_one_owner_of_two(self) -> None:
        self.assertFalse(self.allowed(TWO_OWNERS, CAT, {BEN: MEMBER}, all_can_invite=True))

    def test_no_rights_follow_from_an_affiliation_that_is_asked_for(self) -> None:
        self.assertFalse(self.allowed(ROOM, BEN, {BEN: OWNER, CAT: NONE}, all_can_invite=True))

    def test_outsiders_may_do_nothing(self) -> None:
        for requested in ({DAN: MEMBER}, {DAN: NONE}, {}):
            with self.subTest(requested=requested):
                self.assertFalse(self.allowed(ROOM, DAN, requested, all_can_invite=True))


class Refusals(TestCase):
    def test_what_somebody_is_already(self) -> None:
        for members, requested in (
            (ROOM, {ANN: OWNER}),
            (ROOM, {BEN: MEMBER}),
            (ROOM, {DAN: NONE}),
            (TWO_OWNERS, {BEN: OWNER}),
            (EQUALS, {BEN: MEMBER}),
        ):
            with self.subTest(members=members, requested=requested):
                self.assertEqual(MEANINGLESS, refusal(members, requested, MULTIPLE))

    def test_one_meaningless_entry_refuses_the_others(self) -> None:
        self.assertEqual(MEANINGLESS, refusal(ROOM, {BEN: NONE, ANN: OWNER}))
        self.assertEqual(MEANINGLESS, refusal(ROOM, {ANN: OWNER, CAT: OWNER}))
        self.assertEqual(MEANINGLESS, refusal(ROOM, {DAN: NONE, CAT: NONE}))

    def test_an_owner_where_there_is_none(self) -> None:
        for requested in ({BEN: OWNER}, {DAN: OWNER}, {ANN: NONE, BEN: OWNER}):
            with self.subTest(requested=requested):
                self.assertEqual(OWNERLESS, refusal(EQUALS, requested))
                self.assertEqual(OWNERLESS, refusal(EQUALS, requested, MULTIPLE))

    def test_these_two_are_found_in_the_request_alone(self) -> None:
        for members, requested, text in (
            (ROOM, {DAN: MEMBER, ANN: OWNER}, MEANINGLESS),
            (EQUALS, {DAN: OWNER}, OWNERLESS),
        ):
            with self.subTest(text=text):
                error = self.assertRaises(Refused, check_request, members, requested)
                self.assertEqual(text, str(error))
        # This one is good once somebody is left out of it.
        check_request(ROOM, {CAT: OWNER, DAN: OWNER})

    def test_more_than_one_new_owner(self) -> None:
        for members, requested in (
            (ROOM, {BEN: OWNER, CAT: OWNER}),
            (ROOM, {CAT: OWNER, DAN: OWNER}),
            (ROOM, {ANN: NONE, BEN: OWNER, CAT: OWNER}),
            (ROOM, {ANN: MEMBER, BEN: OWNER, DAN: OWNER}),
            (TWO_OWNERS, {CAT: OWNER}),
        ):
            with self.subTest(members=members, requested=requested):
                self.assertEqual(TWO_NEW_OWNERS, refusal(members, requested))
                self.assertIsNone(refusal(members, requested, MULTIPLE))

    def test_the_last_owner_where_nobody_is_promoted(self) -> None:
        for members, requested, rules in (
            (ROOM, {ANN: NONE}, NO_PROMOTION),
            (ROOM, {ANN: MEMBER}, NO_PROMOTION),
            (ROOM, {ANN: MEMBER, BEN: NONE}, NO_PROMOTION),
            (ROOM, {ANN: NONE, BEN: NONE, CAT: NONE, DAN: MEMBER}, NO_PROMOTION),
            ({ANN: OWNER}, {ANN: MEMBER}, NO_PROMOTION),
            (TWO_OWNERS, {ANN: NONE, BEN: MEMBER}, Rules(allow_multiple_owners=True, promote=False)),
        ):
            with self.subTest(members=members, requested=requested):
                self.assertEqual(NO_OWNER_LEFT, refusal(members, requested, rules))

    def test_more_members_than_the_room_may_have(self) -> None:
        eve = JID.parse("eve@example.org")
        for requested, limit, text in (
            ({DAN: MEMBER}, 3, FULL),
            ({DAN: MEMBER}, 4, None),
            ({DAN: OWNER}, 3, FULL),
            ({DAN: MEMBER, eve: MEMBER, BEN: NONE}, 3, FULL),
            ({DAN: MEMBER, eve: MEMBER, BEN: NONE}, 4, None),
            ({DAN: MEMBER, BEN: NONE}, 3, None),
        ):
            with self.subTest(requested=requested, limit=limit):
                self.assertEqual(text, refusal(ROOM, requested, Rules(max_occupants=limit)))
                equals = {jid: MEMBER if wanted is OWNER else wanted for jid, wanted in requested.items()}
                self.assertEqual(text, refusal(EQUALS, equals, Rules(max_occupants=limit)))

    def test_a_room_that_is_too_full_already_may_lose_members(self) -> None:
        rules = Rules(max_occupants=1)
        self.assertEqual({ANN: OWNER, CAT: MEMBER}, change(ROOM, {BEN: NONE}, rules).members)
        self.assertEqual({CAT: OWNER, ANN: MEMBER, BEN: MEMBER}, change(ROOM, {CAT: OWNER}, rules).members)
        self.assertEqual(FULL, refusal(ROOM, {BEN: NONE, DAN: MEMBER}, rules))


class Vectors(TestCase):
    """The table of section 10, row by row."""

    def check(self, requested: Changes, members: Members, changes: Changes, rules: Rules = DEFAULT) -> None:
        self.assertEqual(Outcome(dict(members), dict(changes)), change(ROOM, requested, rules))

    def test_a_new_owner_replaces_the_old_one(self) -> None:
        self.check({CAT: OWNER}, {ANN: MEMBER, BEN: MEMBER, CAT: OWNER}, {ANN: MEMBER, CAT: OWNER})

    def test_an_owner_leaves_and_names_the_next_one(self) -> None:
        requested = {BEN: NONE, ANN: NONE, CAT: OWNER}
        self.check(requested, {CAT: OWNER}, requested)

    def test_who_was_not_spoken_of_becomes_owner(self) -> None:
        requested = {BEN: NONE, ANN: MEMBER}
        self.check(requested, {ANN: MEMBER, CAT: OWNER}, {**requested, CAT: OWNER})

    def test_an_owner_who_is_left_alone_stays_owner(self) -> None:
        self.check({ANN: MEMBER, BEN: NONE, CAT: NONE}, {ANN: OWNER}, {BEN: NONE, CAT: NONE})

    def test_owners_beside_one_another(self) -> None:
        self.check({BEN: OWNER}, TWO_OWNERS, {BEN: OWNER}, MULTIPLE)

    def test_a_room_that_all_have_left_is_empty(self) -> None:
        members: Members = ROOM
        for leaving in (BEN, CAT, ANN):
            self.assertEqual({ANN: OWNER}, {jid: one for jid, one in members.items() if one is OWNER})
            outcome = change(members, {leaving: NONE}, DEFAULT)
            self.assertEqual({leaving: NONE}, outcome.changes)
            members = outcome.members
        self.assertEqual({}, members)

    def test_without_promotion(self) -> None:
        self.assertEqual(NO_OWNER_LEFT, refusal(ROOM, {ANN: MEMBER, BEN: NONE}, NO_PROMOTION))

    def test_the_example_of_section_9(self) -> None:
        changes = {ANN: MEMBER, BEN: OWNER, CAT: NONE}
        self.check({BEN: OWNER, CAT: NONE}, {ANN: MEMBER, BEN: OWNER}, changes)


class Owners(TestCase):
    def check(
        self, members: Members, requested: Changes, expected: Members, changes: Changes, rules: Rules = DEFAULT
    ) -> None:
        self.assertEqual(Outcome(dict(expected), dict(changes)), change(members, requested, rules))

    def test_the_first_untouched_member_in_the_order_of_addresses(self) -> None:
        # "-" is before "@": the order is that of the whole address, and not of its localpart.
        first = JID.parse("ben-b@example.org")
        members = {CAT: MEMBER, BEN: MEMBER, first: MEMBER, ANN: OWNER}
        self.check(members, {ANN: NONE}, {first: OWNER, BEN: MEMBER, CAT: MEMBER}, {ANN: NONE, first: OWNER})

    def test_an_untouched_member_comes_before_one_who_joins(self) -> None:
        joining = JID.parse("aaron@example.org")
        self.check(
            ROOM,
            {ANN: NONE, BEN: NONE, joining: MEMBER},
            {joining: MEMBER, CAT: OWNER},
            {ANN: NONE, BEN: NONE, joining: MEMBER, CAT: OWNER},
        )

    def test_who_joins_comes_before_the_old_owner(self) -> None:
        self.check({ANN: OWNER}, {ANN: MEMBER, DAN: MEMBER}, {ANN: MEMBER, DAN: OWNER}, {ANN: MEMBER, DAN: OWNER})

    def test_the_first_of_those_who_join(self) -> None:
        self.check(
            {ANN: OWNER},
            {DAN: MEMBER, CAT: MEMBER, ANN: NONE},
            {CAT: OWNER, DAN: MEMBER},
            {ANN: NONE, CAT: OWNER, DAN: MEMBER},
        )

    def test_the_first_of_several_who_are_demoted_stays(self) -> None:
        self.check(
            TWO_OWNERS,
            {BEN: MEMBER, ANN: MEMBER, CAT: NONE},
            {ANN: OWNER, BEN: MEMBER},
            {BEN: MEMBER, CAT: NONE},
            MULTIPLE,
        )

    def test_one_owner_leaves_the_other_is_demoted(self) -> None:
        requested = {ANN: NONE, BEN: MEMBER}
        self.check(TWO_OWNERS, requested, {BEN: MEMBER, CAT: OWNER}, {**requested, CAT: OWNER}, MULTIPLE)
        self.check(TWO_OWNERS, {**requested, CAT: NONE}, {BEN: OWNER}, {ANN: NONE, CAT: NONE}, MULTIPLE)

    def test_one_of_two_owners_is_enough(self) -> None:
        for rules in (MULTIPLE, Rules(allow_multiple_owners=True, promote=False)):
            with self.subTest(rules=rules):
                self.check(TWO_OWNERS, {ANN: MEMBER}, {ANN: MEMBER, BEN: OWNER, CAT: MEMBER}, {ANN: MEMBER}, rules)

    def test_an_only_member_who_would_be_none_but_the_owner(self) -> None:
        self.check({ANN: OWNER}, {ANN: MEMBER}, {ANN: OWNER}, {})

    def test_an_owner_who_joins(self) -> None:
        expected = {ANN: MEMBER, BEN: MEMBER, CAT: MEMBER, DAN: OWNER}
        self.check(ROOM, {DAN: OWNER}, expected, {ANN: MEMBER, DAN: OWNER})
        self.check(ROOM, {DAN: OWNER, ANN: MEMBER}, expected, {ANN: MEMBER, DAN: OWNER})

    def test_the_last_one_may_leave_though_nobody_is_promoted(self) -> None:
        self.check({ANN: OWNER}, {ANN: NONE}, {}, {ANN: NONE}, NO_PROMOTION)
        requested = {ANN: NONE, BEN: NONE, CAT: NONE}
        self.check(ROOM, requested, {}, requested, NO_PROMOTION)

    def test_a_named_successor_needs_no_promotion(self) -> None:
        self.check(ROOM, {ANN: NONE, CAT: OWNER}, {BEN: MEMBER, CAT: OWNER}, {ANN: NONE, CAT: OWNER}, NO_PROMOTION)
        self.check(ROOM, {CAT: OWNER}, {ANN: MEMBER, BEN: MEMBER, CAT: OWNER}, {ANN: MEMBER, CAT: OWNER}, NO_PROMOTION)

    def test_two_owners_from_when_that_was_allowed_stay(self) -> None:
        self.check(TWO_OWNERS, {CAT: NONE}, {ANN: OWNER, BEN: OWNER}, {CAT: NONE})
        self.check(TWO_OWNERS, {ANN: NONE}, {BEN: OWNER, CAT: MEMBER}, {ANN: NONE})
        expected = {ANN: MEMBER, BEN: MEMBER, CAT: OWNER}
        self.check(TWO_OWNERS, {ANN: MEMBER, CAT: OWNER}, expected, expected)

    def test_rooms_of_equals_stay_so(self) -> None:
        for rules in (DEFAULT, MULTIPLE, NO_PROMOTION):
            with self.subTest(rules=rules):
                requested = {ANN: NONE, DAN: MEMBER}
                self.check(EQUALS, requested, {BEN: MEMBER, CAT: MEMBER, DAN: MEMBER}, requested, rules)
                self.check({ANN: MEMBER}, {ANN: NONE}, {}, {ANN: NONE}, rules)

    def test_what_is_left_of_a_request_may_be_nothing(self) -> None:
        self.check(ROOM, {}, ROOM, {})
        self.check(TWO_OWNERS, {}, TWO_OWNERS, {})
        self.check(EQUALS, {}, EQUALS, {}, Rules(max_occupants=1))

    def test_both_answers_are_in_order(self) -> None:
        outcome = change({CAT: MEMBER, BEN: OWNER}, {DAN: MEMBER, CAT: OWNER, ANN: MEMBER}, DEFAULT)
        self.assertEqual([ANN, BEN, CAT, DAN], list(outcome.members))
        self.assertEqual([ANN, BEN, CAT, DAN], list(outcome.changes))

    def test_what_was_given_is_not_changed(self) -> None:
        members, requested = dict(ROOM), {CAT: OWNER, BEN: NONE}
        change(members, requested, DEFAULT)
        self.assertEqual((ROOM, {CAT: OWNER, BEN: NONE}), (members, requested))


class Creation(TestCase):
    def made(self, occupants: Changes, rules: Rules = DEFAULT, *, equal_occupants: bool = False) -> Members:
        return initial(BEN, occupants, equal_occupants=equal_occupants, rules=rules)

    def refused(self, occupants: Changes, rules: Rules = DEFAULT, *, equal_occupants: bool = False) -> str:
        error = self.assertRaises(Refused, initial, BEN, occupants, equal_occupants=equal_occupants, rules=rules)
        return str(error)

    def test_the_creator_alone(self) -> None:
        self.assertEqual({BEN: OWNER}, self.made({}))
        self.assertEqual({BEN: OWNER}, self.made({}, Rules(promote=False, max_occupants=1)))
        self.assertEqual({BEN: MEMBER}, self.made({}, equal_occupants=True))

    def test_with_members(self) -> None:
        occupants = {CAT: MEMBER, ANN: MEMBER}
        members = self.made(occupants)
        self.assertEqual({ANN: MEMBER, BEN: OWNER, CAT: MEMBER}, members)
        self.assertEqual([ANN, BEN, CAT], list(members))
        self.assertEqual({ANN: MEMBER, BEN: MEMBER, CAT: MEMBER}, self.made(occupants, equal_occupants=True))

    def test_an_owner_among_them(self) -> None:
        occupants = {ANN: OWNER, CAT: MEMBER}
        for rules in (DEFAULT, NO_PROMOTION):
            with self.subTest(rules=rules):
                self.assertEqual({ANN: OWNER, BEN: MEMBER, CAT: MEMBER}, self.made(occupants, rules))
        self.assertEqual({ANN: OWNER, BEN: OWNER, CAT: MEMBER}, self.made(occupants, MULTIPLE))

    def test_two_owners_among_them(self) -> None:
        occupants = {ANN: OWNER, CAT: OWNER}
        self.assertEqual(TWO_NEW_OWNERS, self.refused(occupants))
        self.assertEqual({ANN: OWNER, BEN: OWNER, CAT: OWNER}, self.made(occupants, MULTIPLE))

    def test_no_owner_among_equals(self) -> None:
        for rules in (DEFAULT, MULTIPLE):
            with self.subTest(rules=rules):
                self.assertEqual(OWNERLESS, self.refused({ANN: OWNER}, rules, equal_occupants=True))

    def test_the_creator_is_not_listed(self) -> None:
        for wanted in Affiliation:
            for equal_occupants in (False, True):
                with self.subTest(wanted=wanted, equal_occupants=equal_occupants):
                    occupants = {ANN: MEMBER, BEN: wanted}
                    self.assertEqual(
                        "The creator is not to be listed",
                        self.refused(occupants, MULTIPLE, equal_occupants=equal_occupants),
                    )
                    self.assertRaises(Refused, check_occupants, BEN, occupants)

    def test_nobody_is_listed_who_shall_not_be_in_the_room(self) -> None:
        occupants = {ANN: NONE, CAT: MEMBER}
        self.assertEqual(MEANINGLESS, self.refused(occupants))
        self.assertEqual(MEANINGLESS, self.refused(occupants, equal_occupants=True))
        self.assertRaises(Refused, check_occupants, BEN, occupants)
        check_occupants(BEN, {ANN: OWNER, CAT: MEMBER})

    def test_the_creator_counts(self) -> None:
        for equal_occupants in (False, True):
            with self.subTest(equal_occupants=equal_occupants):
                occupants = {ANN: MEMBER, CAT: MEMBER}
                self.assertEqual(FULL, self.refused(occupants, Rules(max_occupants=2), equal_occupants=equal_occupants))
                self.made(occupants, Rules(max_occupants=3), equal_occupants=equal_occupants)
