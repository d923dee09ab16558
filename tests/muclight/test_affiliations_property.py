"""Affiliations, compared with a model written from section 10 of the description, and what is true of every room."""

from collections.abc import Iterator
from itertools import product
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.module import JID
from dynxmpp.modules.muc_light.affiliations import NotAllowed, Refused, Rules, change, check_permission, initial
from dynxmpp.modules.muc_light.room import Affiliation, Members

#: By address: "owner", "member", "none".
Texts = dict[str, str]
#: Members and effective changes, or the text of the refusal.
Answer = tuple[Texts, Texts] | str

# The order of whole addresses is another one than that of localparts, or of domains.
USERS = ("ann@example.org", "ann-b@example.org", "ben@other.example", "cat@example.org", "dan@example.org")
AFFILIATIONS = ("none", "owner", "member")


def model(members: Texts, requested: Texts, rules: Rules) -> Answer:
    """Section 10, with the validation of section 9 before it. Effective changes are kept step by step."""
    if any(members.get(user, "none") == wanted for user, wanted in requested.items()):
        return "Meaningless change"
    ownerless = "owner" not in members.values()
    if ownerless and "owner" in requested.values():
        return "Ownerless room"
    after, effective = {user: aff for user, aff in (members | requested).items() if aff != "none"}, dict(requested)
    owners = {user for user in after if after[user] == "owner"}
    made = owners & requested.keys()
    if made and len(owners) > 1 and not rules.allow_multiple_owners:
        if (len(owners), len(made)) != (2, 1):
            return "Failed to demote old owner"
        [old] = owners - made
        after[old] = effective[old] = "member"
    if after and not owners and not ownerless:
        if not rules.promote:
            return "Cannot remove the last owner"
        demoted = {user for user in after if members.get(user) == "owner"}
        [chosen, *_] = sorted(after.keys() - requested.keys() or after.keys() - members.keys() or demoted)
        after[chosen] = effective[chosen] = "owner"
        if chosen in demoted:
            del effective[chosen]
    if after.keys() - members.keys() and len(after) > rules.max_occupants:
        return "max_occupants_reached"
    return dict(sorted(after.items())), dict(sorted(effective.items()))


def may(members: Texts, requester: str, requested: Texts, *, all_can_invite: bool) -> bool:
    """The table of permissions of section 9."""
    if members.get(requester, "none") != "member":
        return requester in members
    invited = {user for user, wanted in requested.items() if wanted == "member" and members.get(user) != "owner"}
    leaves = {requester} if requested.get(requester) == "none" else set()
    return requested.keys() <= leaves | (invited if all_can_invite else set())


def typed(affiliations: Texts) -> dict[JID, Affiliation]:
    return {JID.parse(user): Affiliation[aff.upper()] for user, aff in affiliations.items()}


def texts(affiliations: Members) -> Texts:
    return {jid.full: affiliation.text for jid, affiliation in affiliations.items()}


def answer(members: Texts, requested: Texts, rules: Rules) -> Answer:
    """The one of the code under test, as the model has it."""
    try:
        outcome = change(typed(members), typed(requested), rules)
    except Refused as error:
        return str(error)
    return texts(outcome.members), texts(outcome.changes)


def allowed(members: Texts, requester: str, requested: Texts, *, all_can_invite: bool) -> bool:
    try:
        check_permission(typed(members), JID.parse(requester), typed(requested), all_can_invite=all_can_invite)
    except NotAllowed:
        return False
    return True


def owners_of(members: Texts) -> int:
    return list(members.values()).count("owner")


def difference(before: Texts, after: Texts) -> Texts:
    differing = {user for user in {*before, *after} if before.get(user) != after.get(user)}
    return {user: after.get(user, "none") for user in sorted(differing)}


RULES = st.builds(
    Rules,
    allow_multiple_owners=st.booleans(),
    promote=st.booleans(),
    max_occupants=st.sampled_from([1, 2, 3, 4, inf, inf, inf]),
)
ROOMS = st.dictionaries(st.sampled_from(USERS), st.sampled_from(["owner", "member"]), min_size=1)
REQUESTS = st.dictionaries(st.sampled_from(USERS), st.sampled_from(AFFILIATIONS))
#: How far each is moved on in AFFILIATIONS; 0, which means nothing, seldom.
SHIFTS = st.dictionaries(st.sampled_from(USERS), st.sampled_from([1, 2, 1, 2, 1, 2, 0]), min_size=1)


def shifted(members: Texts, shifts: dict[str, int]) -> Texts:
    """A request of which most entries mean something in the room that there is."""

    def wanted(user: str) -> str:
        return AFFILIATIONS[(AFFILIATIONS.index(members.get(user, "none")) + shifts[user]) % 3]

    return {user: wanted(user) for user in shifts}


def modest(members: Texts, requester: str, requested: Texts) -> Texts:
    """What of it a member may ask for where all can invite."""
    wishes = {user: wanted for user, wanted in requested.items() if wanted == "member" and user not in members}
    return wishes | ({requester: "none"} if requested.get(requester) == "none" else {})


def requester_of(members: Texts, place: int) -> str:
    """The owner for the first places, if there is one; then everybody, in the room or not."""
    owners = [user for user, aff in members.items() if aff == "owner"]
    return owners[0] if owners and place < 3 else USERS[place % len(USERS)]


def all_of_three() -> Iterator[tuple[Texts, Texts]]:
    """All rooms and requests among three users."""
    users = USERS[:3]
    for room in product(AFFILIATIONS, repeat=3):
        members = {user: aff for user, aff in zip(users, room, strict=True) if aff != "none"}
        for request in product((*AFFILIATIONS, None), repeat=3):
            yield members, {user: aff for user, aff in zip(users, request, strict=True) if aff is not None}


class AsTheModel(TestCase):
    @settings(deadline=None, max_examples=500)
    @given(ROOMS, SHIFTS, RULES)
    def test_a_change(self, members: Texts, shifts: dict[str, int], rules: Rules) -> None:
        requested = shifted(members, shifts)
        expected, got = model(members, requested, rules), answer(members, requested, rules)
        self.assertEqual(expected, got)
        if not isinstance(got, str):
            self.assertEqual([list(one) for one in expected], [list(one) for one in got])

    def test_every_change_among_three(self) -> None:
        refusals: set[str] = set()
        for multiple, promote, limit in product((False, True), (False, True), (2, inf)):
            rules = Rules(allow_multiple_owners=multiple, promote=promote, max_occupants=limit)
            for members, requested in all_of_three():
                expected = model(members, requested, rules)
                self.assertEqual(expected, answer(members, requested, rules), (members, requested, rules))
                if isinstance(expected, str):
                    refusals.add(expected)
        self.assertEqual(
            {
                "Meaningless change",
                "Ownerless room",
                "Failed to demote old owner",
                "Cannot remove the last owner",
                "max_occupants_reached",
            },
            refusals,
        )

    @settings(deadline=None, max_examples=500)
    @given(ROOMS, st.sampled_from(USERS), REQUESTS, st.booleans())
    def test_a_permission(self, members: Texts, requester: str, requested: Texts, all_can_invite: bool) -> None:
        self.assertEqual(
            may(members, requester, requested, all_can_invite=all_can_invite),
            allowed(members, requester, requested, all_can_invite=all_can_invite),
        )

    def test_every_permission_among_three(self) -> None:
        for all_can_invite, requester in product((False, True), USERS[:4]):
            for members, requested in all_of_three():
                self.assertEqual(
                    may(members, requester, requested, all_can_invite=all_can_invite),
                    allowed(members, requester, requested, all_can_invite=all_can_invite),
                    (members, requester, requested, all_can_invite),
                )


class WhateverIsAsked(TestCase):
    """Rooms from their creation to their end, under options that change meanwhile."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(USERS),
        st.dictionaries(st.sampled_from(USERS[1:]), st.sampled_from(["member", "member", "member", "owner", "none"])),
        st.booleans(),
        RULES,
        st.lists(st.tuples(st.integers(0, 7), SHIFTS, st.booleans(), RULES, st.booleans()), min_size=3, max_size=12),
    )
    def test_rooms_stay_sound(
        self,
        creator: str,
        occupants: Texts,
        equal_occupants: bool,
        rules: Rules,
        steps: list[tuple[int, dict[str, int], bool, Rules, bool]],
    ) -> None:
        try:
            members = texts(initial(JID.parse(creator), typed(occupants), equal_occupants=equal_occupants, rules=rules))
        except Refused:
            return
        self.check_creation(creator, occupants, equal_occupants, rules, members)
        for place, shifts, modestly, rules, all_can_invite in steps:
            requester = requester_of(members, place)
            requested = shifted(members, shifts)
            if modestly:
                requested = modest(members, requester, requested)
            if not allowed(members, requester, requested, all_can_invite=all_can_invite):
                self.assertNotEqual("owner", members.get(requester))
                continue
            got = answer(members, requested, rules)
            if isinstance(got, str):
                continue
            self.check_step(members, requested, rules, *got)
            if members[requester] == "member":
                self.check_rights_of_members(requester, members, got[0], all_can_invite)
            members = got[0]
            if not members:
                return

    def check_creation(
        self, creator: str, occupants: Texts, equal_occupants: bool, rules: Rules, members: Texts
    ) -> None:
        self.assertEqual({creator, *occupants}, members.keys())
        self.assertEqual(occupants, {user: aff for user, aff in members.items() if user != creator})
        self.assertNotIn("none", members.values())
        self.assertEqual(sorted(members), list(members))
        self.assertLessEqual(len(members), rules.max_occupants)
        if equal_occupants:
            self.assertEqual(0, owners_of(members))
        else:
            self.assertGreaterEqual(owners_of(members), 1)
            self.assertTrue(rules.allow_multiple_owners or owners_of(members) == 1)

    def check_step(self, before: Texts, requested: Texts, rules: Rules, after: Texts, changes: Texts) -> None:
        self.assertEqual(difference(before, after), changes)
        self.assertEqual((sorted(after), sorted(changes)), (list(after), list(changes)))
        self.assertNotIn("none", after.values())
        # Nobody comes or goes who was not asked for, and of those asked for everybody.
        self.assertEqual(
            {user for user in {*before, *requested} if requested.get(user, before.get(user)) != "none"}, after.keys()
        )
        if owners_of(before) == 0:
            self.assertEqual(0, owners_of(after))
        elif after:
            self.assertGreaterEqual(owners_of(after), 1)
        if not rules.allow_multiple_owners:
            self.assertLessEqual(owners_of(after), max(1, owners_of(before)))
        if after.keys() - before.keys():
            self.assertLessEqual(len(after), rules.max_occupants)

    def check_rights_of_members(self, requester: str, before: Texts, after: Texts, all_can_invite: bool) -> None:
        """What a member has asked for took nobody else out, and changed nobody who stays."""
        others = {user: aff for user, aff in before.items() if user != requester}
        self.assertEqual(others, {user: aff for user, aff in after.items() if user in others})
        joined = after.keys() - before.keys()
        self.assertEqual(set(), {user for user in joined if after[user] != "member"})
        self.assertTrue(all_can_invite or not joined)
