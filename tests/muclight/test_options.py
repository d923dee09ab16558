"""Section 16: what options make of rooms, as far as it is said nowhere else."""

from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CREATE
from tests.muclight.affiliation_dialogues import AffiliationTestCase, users
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, error, notice, refusal, result

EVE = "eve@example.org"
MEANINGLESS = "Meaningless change"
OWNERLESS = "Ownerless room"
DEMOTE = "Failed to demote old owner"
FULL = "max_occupants_reached"


class OptionTestCase(AffiliationTestCase):
    async def made(self, occupants: dict[str, str], members: dict[str, str]) -> None:
        """ann makes a room; it has these members, each is told what he is, and then it ends."""
        heard = await self.hear(self.ann, NS_CREATE, f"<occupants>{users(occupants)}</occupants>")
        self.assertEqual(members, await self.members())
        version = f"<version>{await self.version()}</version>"
        expected = {
            user: [notice(user, f"<x xmlns='{NS_AFFILIATIONS}'>{version}{users({user: affiliation})}</x>")]
            for user, affiliation in members.items()
        }
        expected[ANN].append(result(ANN))
        self.assertEqual(expected, heard)

    async def not_made(self, occupants: dict[str, str], text: str) -> None:
        """ann does not get a room."""
        heard = await self.hear(self.ann, NS_CREATE, f"<occupants>{users(occupants)}</occupants>")
        self.assertEqual({ANN: [error(ANN, "bad-request", text, type_="modify")]}, heard)
        self.assertEqual({}, await self.members())


class Equals(OptionTestCase):
    """All are the same, and who is in the room is frozen but for leaving."""

    config = MucLightConfig(equal_occupants=True)

    async def test_a_room_begins_with_members_only(self) -> None:
        await self.made({BEN: "member"}, {ANN: "member", BEN: "member"})

    async def test_it_cannot_begin_with_an_owner(self) -> None:
        await self.not_made({BEN: "owner"}, OWNERLESS)

    async def test_everybody_may_leave_and_do_nothing_else(self) -> None:
        await self.room()
        for session in (self.ann, self.ben):
            for wanted in ({DAN: "member"}, {CAT: "none"}, {CAT: "owner"}, {session.jid.bare: "owner"}):
                with self.subTest(who=session.jid.bare, wanted=wanted):
                    await self.refused(session, wanted, "not-allowed")
        await self.told(self.ann, {ANN: "none"})
        await self.told(self.cat, {CAT: "none"})
        self.assertEqual({BEN: "member"}, await self.members())
        self.assertEqual("result", (await self.affiliate(self.ben, (BEN, "none")))["type"])
        self.assertEqual([], await self.db.query("SELECT name FROM muc_light_rooms"))

    async def test_the_subject_alone_can_be_changed(self) -> None:
        await self.room()
        for session in (self.ann, self.ben):
            self.assertEqual("result", (await self.configure(session, "<subject>soup</subject>"))["type"])
            reply = await self.configure(session, "<roomname>Den</roomname>")
            self.assertEqual(("cancel", "not-allowed", None), refusal(reply))


class EqualsWhoInvite(OptionTestCase):
    config = MucLightConfig(equal_occupants=True, all_can_invite=True, all_can_configure=True)

    async def test_everybody_may_add_members(self) -> None:
        await self.room()
        await self.told(self.ben, {DAN: "member"})
        await self.told(self.dan, {EVE: "member", DAN: "none"}, {DAN: "none", EVE: "member"})

    async def test_nobody_becomes_owner_or_is_put_out(self) -> None:
        await self.room()
        for wanted in ({DAN: "owner"}, {CAT: "owner"}, {BEN: "owner"}, {CAT: "none"}):
            with self.subTest(wanted=wanted):
                await self.refused(self.ben, wanted, "not-allowed")

    async def test_everybody_may_configure(self) -> None:
        await self.room()
        self.assertEqual("result", (await self.configure(self.cat, "<roomname>Den</roomname>"))["type"])


class RoomOfOldTimes(OptionTestCase):
    """A room from before `equal_occupants`, or from after it."""

    config = MucLightConfig(equal_occupants=True)

    async def test_its_owner_stays_what_he_is(self) -> None:
        await self.room()
        await self.db.execute("UPDATE muc_light_occupants SET affiliation = 1 WHERE username = 'ann'")
        self.rooms.rooms.forget_all()
        await self.told(self.ann, {DAN: "member"})
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})
        await self.told(self.ben, {BEN: "none"}, {ANN: "owner", BEN: "none"})


class Ownerless(OptionTestCase):
    config = MucLightConfig(all_can_invite=True)

    async def test_a_room_of_equals_gets_no_owner(self) -> None:
        """Also when such rooms are not made any more."""
        await self.room()
        await self.db.execute("UPDATE muc_light_occupants SET affiliation = 2")
        self.rooms.rooms.forget_all()
        await self.refused(self.ann, {DAN: "owner"}, "not-allowed")
        await self.told(self.ann, {DAN: "member"})
        await self.told(self.ben, {BEN: "none"})


class SeveralOwners(OptionTestCase):
    config = MucLightConfig(allow_multiple_owners=True)

    async def test_a_second_owner_does_not_replace_the_first(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "owner"})
        self.assertEqual({ANN: "owner", BEN: "owner", CAT: "member"}, await self.members())
        await self.told(self.ben, {CAT: "owner", DAN: "owner"})

    async def test_owners_may_change_each_other(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "owner", CAT: "owner"})
        await self.told(self.ben, {ANN: "member"})
        await self.refused(self.ann, {ANN: "owner"}, "not-allowed")
        await self.told(self.ben, {CAT: "none"})

    async def test_only_the_last_one_gets_a_successor(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "owner"})
        await self.told(self.ann, {ANN: "none"})
        await self.told(self.ben, {BEN: "none"}, {BEN: "none", CAT: "owner"})

    async def test_all_owners_step_down_at_once(self) -> None:
        """The first of those whom nobody spoke of is owner then; without one, the first of the old ones."""
        await self.room()
        await self.told(self.ann, {BEN: "owner"})
        await self.told(self.ann, {ANN: "member", BEN: "member"}, {ANN: "member", BEN: "member", CAT: "owner"})
        await self.told(self.cat, {ANN: "none"})
        await self.told(self.cat, {BEN: "owner"})
        await self.told(self.cat, {BEN: "member", CAT: "member"}, {CAT: "member"})

    async def test_a_room_can_begin_with_several(self) -> None:
        await self.made(
            {CAT: "owner", BEN: "owner", DAN: "member"}, {ANN: "owner", BEN: "owner", CAT: "owner", DAN: "member"}
        )


class OneOwner(OptionTestCase):
    async def test_a_room_can_begin_with_another_one(self) -> None:
        await self.made({CAT: "owner", BEN: "member"}, {ANN: "member", BEN: "member", CAT: "owner"})

    async def test_it_cannot_begin_with_several(self) -> None:
        await self.not_made({CAT: "owner", BEN: "owner"}, DEMOTE)

    async def test_several_of_old_times_stay_until_there_is_a_new_one(self) -> None:
        """A room from when `allow_multiple_owners` was on."""
        await self.room()
        await self.db.execute("UPDATE muc_light_occupants SET affiliation = 1 WHERE username IN ('ann', 'ben')")
        self.rooms.rooms.forget_all()
        await self.told(self.ann, {DAN: "member"})
        await self.refused(self.ann, {CAT: "owner"}, text=DEMOTE)
        await self.told(self.ann, {CAT: "none"})
        await self.told(self.ben, {ANN: "member"})
        await self.told(self.ben, {DAN: "owner"}, {BEN: "member", DAN: "owner"})


class MaxOccupants(OptionTestCase):
    config = MucLightConfig(max_occupants=3)

    async def test_a_room_begins_with_so_many_at_most(self) -> None:
        await self.not_made({BEN: "member", CAT: "member", DAN: "member"}, FULL)
        await self.made({BEN: "member", CAT: "member"}, {ANN: "owner", BEN: "member", CAT: "member"})

    async def test_nobody_is_added_to_a_full_room(self) -> None:
        await self.room()
        await self.refused(self.ann, {DAN: "member"}, text=FULL)
        await self.refused(self.ann, {DAN: "owner"}, text=FULL)
        await self.refused(self.ann, {DAN: "member", EVE: "member", CAT: "none"}, text=FULL)

    async def test_who_goes_makes_room_in_the_same_request(self) -> None:
        await self.room()
        await self.told(self.ann, {CAT: "none", DAN: "member"})
        await self.told(self.ann, {ANN: "none", EVE: "member"}, {ANN: "none", BEN: "owner", EVE: "member"})

    async def test_others_are_changed_in_a_full_room(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})
        await self.told(self.ann, {ANN: "none"})

    async def test_who_blocks_takes_no_place(self) -> None:
        await self.block(self.dan, ANN)
        await self.room(BEN)
        await self.told(self.ann, {CAT: "member", DAN: "member"}, {CAT: "member"})
        await self.nothing(self.ann, {DAN: "member"})

    async def test_who_blocks_takes_no_place_at_the_beginning(self) -> None:
        await self.block(self.dan, ANN)
        occupants = {BEN: "member", CAT: "member", DAN: "member"}
        await self.made(occupants, {ANN: "owner", BEN: "member", CAT: "member"})

    async def test_two_who_are_added_at_once(self) -> None:
        """For the second there is no place."""
        await self.room(BEN)
        await self.db.execute("UPDATE muc_light_occupants SET affiliation = 1")
        self.rooms.rooms.forget_all()
        for session, user in ((self.ann, CAT), (self.ben, DAN)):
            xml = f"<query xmlns='{NS_AFFILIATIONS}'>{users({user: 'member'})}</query>"
            session.sends(f"<iq type='set' id='h' to='{LOBBY}'>{xml}</iq>")
        await self.settle()
        self.assertEqual(3, len(await self.members()))
        heard = self.heard()
        answers = {user: next(s for s in heard[user] if s[1] == "iq") for user in (ANN, BEN)}
        full = {user: error(user, "bad-request", FULL, type_="modify") for user in (ANN, BEN)}
        self.assertIn(answers, ({ANN: result(ANN), BEN: full[BEN]}, {ANN: full[ANN], BEN: result(BEN)}))


class RoomOfOne(OptionTestCase):
    config = MucLightConfig(max_occupants=1)

    async def test_it_may_be_as_small_as_that(self) -> None:
        await self.made({}, {ANN: "owner"})
        await self.refused(self.ann, {DAN: "member"}, text=FULL)


class TooManyAlready(OptionTestCase):
    config = MucLightConfig(max_occupants=2)

    async def test_a_room_from_when_the_limit_was_higher(self) -> None:
        """Whoever is in it may leave and be changed, but nobody may come, not even for another."""
        await self.room(BEN)
        for name in ("cat", "dan"):
            await self.db.execute(
                "INSERT INTO muc_light_occupants SELECT id, 'example.org', %s, 2 FROM muc_light_rooms", (name,)
            )
        self.rooms.rooms.forget_all()
        await self.refused(self.ann, {EVE: "member", CAT: "none"}, text=FULL)
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})
        await self.told(self.cat, {CAT: "none"})
        await self.told(self.ben, {ANN: "none", DAN: "none", EVE: "member"})


class RoomsPerUser(OptionTestCase):
    config = MucLightConfig(rooms_per_user=1)

    async def test_at_a_creation(self) -> None:
        """A creator with too many rooms gets none, and who is in too many already is passed over."""
        self.assertEqual("result", (await self.create(self.ben, CAT, room=f"first@{SERVICE}"))["type"])
        await self.made({BEN: "member", DAN: "member"}, {ANN: "owner", DAN: "member"})
        reply = await self.create(self.ann, room=f"second@{SERVICE}")
        self.assertEqual(("modify", "bad-request", "rooms_per_user_reached"), refusal(reply))
        self.assertEqual({}, await self.members(f"second@{SERVICE}"))
        await self.affiliate(self.ann, (ANN, "none"))
        self.assertEqual("result", (await self.create(self.ann, room=f"second@{SERVICE}"))["type"])
