"""Sections 9 and 10: who is added, removed, made owner; who is told what of it; what is refused."""

from typing import Any

from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS
from tests.muclight.affiliation_dialogues import AffiliationTestCase, users
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, notice, result

EVE = "eve@example.org"
NOWHERE = f"nowhere@{SERVICE}"

MEANINGLESS = "Meaningless change"
TWICE = "Cannot change affiliation for the same user twice in the same request"


class Notices(AffiliationTestCase):
    async def test_one_becomes_owner_and_another_goes(self) -> None:
        """The example of section 9, word by word."""
        await self.room()
        old = await self.version()
        heard = await self.hear(self.ann, NS_AFFILIATIONS, users({BEN: "owner", CAT: "none"}), id_="a1")
        self.assertEqual({ANN: "member", BEN: "owner"}, await self.members())
        x = (
            f"<x xmlns='urn:xmpp:muclight:0#affiliations'><prev-version>{old}</prev-version>"
            f"<version>{await self.version()}</version><user affiliation='member'>ann@example.org</user>"
            "<user affiliation='owner'>ben@example.org</user><user affiliation='none'>cat@example.org</user></x>"
        )
        gone = "<x xmlns='urn:xmpp:muclight:0#affiliations'><user affiliation='none'>cat@example.org</user></x>"
        expected = {
            ANN: [notice(ANN, x, id_="a1"), result(ANN, id_="a1")],
            BEN: [notice(BEN, x, id_="a1")],
            CAT: [notice(CAT, gone, id_="a1")],
        }
        self.assertEqual(expected, heard)

    async def test_stayers_newcomers_and_who_is_out(self) -> None:
        await self.room()
        await self.told(self.ann, {CAT: "none", DAN: "member"})

    async def test_changes_are_told_in_the_order_of_addresses(self) -> None:
        await self.room(BEN)
        wanted = {DAN: "member", CAT: "member", BEN: "none", EVE: "member"}
        await self.told(self.ann, wanted, {BEN: "none", CAT: "member", DAN: "member", EVE: "member"})

    async def test_members_of_other_domains_and_such_as_do_not_exist(self) -> None:
        stranger = self.online("zoe@other.example/p")
        await self.room()
        await self.told(self.ann, {"nobody@far.example": "member", "zoe@other.example": "member"})
        await self.told(stranger, {"zoe@other.example": "none"})

    async def test_all_sessions_of_who_is_out_are_told(self) -> None:
        await self.room()
        self.online(f"{CAT}/other")
        heard = await self.hear(self.ann, NS_AFFILIATIONS, users({CAT: "none"}))
        gone = notice(CAT, f"<x xmlns='{NS_AFFILIATIONS}'>{users({CAT: 'none'})}</x>")
        self.assertEqual([gone], heard[CAT])
        self.assertEqual([gone], heard[f"{CAT}/other"])

    async def test_full_addresses_mean_accounts(self) -> None:
        await self.room(BEN)
        await self.told(self.ann, {f"{CAT}/p": "member", "DAN@Example.ORG": "member"}, {CAT: "member", DAN: "member"})

    async def test_several_requests_at_once(self) -> None:
        """Whoever asked, each member can follow the versions from one to the next; all see the same."""
        await self.room()
        first = await self.version()
        for session, wanted in (
            (self.ann, {DAN: "member"}),
            (self.cat, {CAT: "none"}),
            (self.ann, {EVE: "member"}),
        ):
            xml = f"<query xmlns='{NS_AFFILIATIONS}'>{users(wanted)}</query>"
            session.sends(f"<iq type='set' id='h' to='{LOBBY}'>{xml}</iq>")
        await self.settle()
        self.assertEqual({ANN: "owner", BEN: "member", DAN: "member", EVE: "member"}, await self.members())
        versions = [first]
        for message in self.ben.received:
            previous, version = (str(child) for child in list(message.x.elements())[:2])
            self.assertEqual(versions[-1], previous)
            versions.append(version)
        self.assertEqual(4, len(versions))
        self.assertEqual(await self.version(), versions[-1])


class Permissions(AffiliationTestCase):
    async def test_members_may_only_leave(self) -> None:
        await self.room()
        for wanted in (
            {DAN: "member"},
            {DAN: "owner"},
            {CAT: "none"},
            {ANN: "none"},
            {ANN: "member"},
            {BEN: "owner"},
            {CAT: "owner"},
            {BEN: "none", CAT: "none"},
            {BEN: "none", DAN: "member"},
            {BEN: "none", ANN: "member"},
        ):
            with self.subTest(wanted=wanted):
                await self.refused(self.ben, wanted, "not-allowed")
        await self.told(self.ben, {BEN: "none"})

    async def test_what_is_not_allowed_is_said_before_what_is_meaningless(self) -> None:
        await self.room()
        await self.refused(self.ben, {CAT: "member"}, "not-allowed")

    async def test_owners_may_change_everybody(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "none", CAT: "none", DAN: "member"})

    async def test_outsiders_learn_nothing(self) -> None:
        await self.room()
        for wanted in (users({DAN: "member"}), users({DAN: "none"}), users({ANN: "none"}), "<colour/>", ""):
            await self.refused(self.dan, wanted, "item-not-found")
            await self.refused(self.dan, wanted, "item-not-found", room=NOWHERE)

    async def test_who_was_removed_is_an_outsider(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "none"})
        await self.refused(self.ben, {BEN: "member"}, "item-not-found")
        await self.refused(self.ben, {BEN: "none"}, "item-not-found")

    async def test_the_old_owner_is_a_member_like_others(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})
        await self.refused(self.ann, {CAT: "none"}, "not-allowed")
        await self.told(self.ben, {ANN: "none"})


class AllCanInvite(AffiliationTestCase):
    config = MucLightConfig(all_can_invite=True)

    async def test_members_may_add_members(self) -> None:
        await self.room()
        await self.told(self.ben, {DAN: "member", EVE: "member"})
        await self.told(self.dan, {"finn@example.org": "member"})

    async def test_members_may_add_and_leave_at_once(self) -> None:
        await self.room()
        await self.told(self.ben, {BEN: "none", DAN: "member"})

    async def test_nothing_else(self) -> None:
        await self.room()
        for wanted in ({DAN: "owner"}, {ANN: "member"}, {CAT: "none"}, {DAN: "member", CAT: "none"}, {BEN: "owner"}):
            with self.subTest(wanted=wanted):
                await self.refused(self.ben, wanted, "not-allowed")
        await self.refused(self.ben, {CAT: "member"}, text=MEANINGLESS)

    async def test_who_blocks_the_member_is_not_added(self) -> None:
        """Not only owners can be blocked, and it is the requester who counts."""
        await self.block(self.dan, BEN)
        await self.room()
        await self.nothing(self.ben, {DAN: "member"})
        await self.told(self.cat, {DAN: "member"})


class AllCanInviteByField(AffiliationTestCase):
    config = MucLightConfig(
        config_schema=(
            RoomField(field="roomname", string_value="Untitled"),
            RoomField(field="open", boolean_value=False, internal_key="all_can_invite"),
        )
    )

    async def test_the_room_says_it(self) -> None:
        await self.room()
        await self.refused(self.ben, {DAN: "member"}, "not-allowed")
        await self.configure(self.ann, "<open>true</open>")
        await self.told(self.ben, {DAN: "member"})
        await self.refused(self.ben, {CAT: "none"}, "not-allowed")
        await self.configure(self.ann, "<open>false</open>")
        await self.refused(self.ben, {EVE: "member"}, "not-allowed")


class Refusals(AffiliationTestCase):
    async def test_what_is_malformed(self) -> None:
        await self.room()
        affiliation = "The affiliation must be owner, member or none"
        for content, text in (
            ("", "An empty request"),
            (users({"": "member"}), "Not an address"),
            (f"<user>{DAN}</user>", affiliation),
            (f"<user affiliation=''>{DAN}</user>", affiliation),
            (f"<user affiliation='admin'>{DAN}</user>", affiliation),
            (f"<user affiliation='Member'>{DAN}</user>", affiliation),
            ("<user affiliation='member'>@example.org</user>", "Not an address"),
            ("<user affiliation='member'>a b@example.org</user>", "Not an address"),
            ("<user affiliation='member'>example.org</user>", "Not the address of an account or a room"),
            (f"<user affiliation='member'><jid>{DAN}</jid></user>", "Elements inside of user"),
            (f"<item affiliation='member'>{DAN}</item>", "Unexpected element item"),
            (f"{users({DAN: 'member'})}<version>1</version>", "Unexpected element version"),
            (users({DAN: "member"}) * 2, TWICE),
            (users({DAN: "member", f"{DAN}/p": "owner"}), TWICE),
            (users({DAN: "member", "DAN@example.org": "none"}), TWICE),
            ("".join(users({f"u{number}@example.org": "member"}) for number in range(1001)), "More than 1000 entries"),
        ):
            with self.subTest(content=content[:100]):
                await self.refused(self.ann, content, text=text)

    async def test_a_thousand_are_added_at_once(self) -> None:
        await self.room()
        reply = await self.affiliate(self.ann, *((f"u{number}@example.org", "member") for number in range(1000)))
        self.assertEqual("result", reply["type"])
        self.assertEqual(1003, len(await self.members()))

    async def test_what_has_no_effect_is_meaningless(self) -> None:
        """Also together with what has one."""
        await self.room()
        for wanted in (
            {BEN: "member"},
            {ANN: "owner"},
            {DAN: "none"},
            {DAN: "member", CAT: "member"},
            {BEN: "none", EVE: "none"},
        ):
            with self.subTest(wanted=wanted):
                await self.refused(self.ann, wanted, text=MEANINGLESS)

    async def test_who_blocks_can_be_meaningless_too(self) -> None:
        await self.block(self.dan, ANN)
        await self.room()
        await self.refused(self.ann, {DAN: "member", CAT: "member"}, text=MEANINGLESS)

    async def test_there_is_one_owner_at_most(self) -> None:
        await self.room()
        for wanted in (
            {BEN: "owner", CAT: "owner"},
            {BEN: "owner", DAN: "owner"},
            {ANN: "none", BEN: "owner", CAT: "owner"},
            {ANN: "member", BEN: "owner", CAT: "owner"},
        ):
            with self.subTest(wanted=wanted):
                await self.refused(self.ann, wanted, text="Failed to demote old owner")


class Dropped(AffiliationTestCase):
    """Who does not want to be added, by whom or where, is not."""

    async def test_when_nobody_is_left_nothing_happens(self) -> None:
        await self.block(self.dan, ANN)
        await self.room()
        await self.nothing(self.ann, {DAN: "member"})
        await self.nothing(self.ann, {DAN: "owner"})

    async def test_the_others_are_added(self) -> None:
        await self.block(self.dan, ANN)
        await self.room(BEN)
        await self.told(self.ann, {CAT: "member", DAN: "member"}, {CAT: "member"})

    async def test_a_blocked_room(self) -> None:
        other = f"other@{SERVICE}"
        await self.block(self.dan, rooms=(LOBBY,))
        await self.room()
        await self.room(room=other)
        await self.nothing(self.ann, {DAN: "member"})
        self.assertEqual("result", (await self.affiliate(self.ann, (DAN, "member"), room=other))["type"])
        self.assertEqual("member", (await self.members(other))[DAN])

    async def test_a_new_owner_who_does_not_come_is_none(self) -> None:
        await self.block(self.dan, ANN)
        await self.room()
        await self.told(self.ann, {ANN: "none", DAN: "owner"}, {ANN: "none", BEN: "owner"})

    async def test_of_two_new_owners_the_one_who_comes_is_it(self) -> None:
        await self.block(self.dan, ANN)
        await self.room()
        await self.told(self.ann, {BEN: "owner", DAN: "owner"}, {ANN: "member", BEN: "owner"})

    async def test_members_are_changed_whatever_they_block(self) -> None:
        await self.room()
        await self.block(self.ben, ANN, rooms=(LOBBY,))
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})
        await self.told(self.ben, {ANN: "none"})
        await self.told(self.ben, {BEN: "none"}, {BEN: "none", CAT: "owner"})


class RoomsPerUser(AffiliationTestCase):
    config = MucLightConfig(rooms_per_user=2)

    async def test_who_is_in_too_many_rooms_is_not_added(self) -> None:
        await self.room(CAT)
        for number in (1, 2):
            reply = await self.create(self.ben, room=f"r{number}@{SERVICE}")
            self.assertEqual("result", reply["type"])
        await self.nothing(self.ann, {BEN: "member"})
        await self.told(self.ann, {BEN: "member", DAN: "member"}, {DAN: "member"})
        await self.affiliate(self.ben, (BEN, "none"), room=f"r1@{SERVICE}")
        await self.told(self.ann, {BEN: "member"})

    async def test_it_is_not_about_who_adds(self) -> None:
        await self.room(CAT)
        await self.create(self.ann, room=f"r1@{SERVICE}")
        await self.told(self.ann, {DAN: "member"})

    async def test_changes_of_members_are_no_additions(self) -> None:
        await self.room()
        await self.create(self.ben, room=f"r1@{SERVICE}")
        await self.told(self.ann, {BEN: "owner"}, {ANN: "member", BEN: "owner"})


class Ownership(AffiliationTestCase):
    """Section 10. The room has ann for its owner, ben and cat for members."""

    async def test_a_member_becomes_owner(self) -> None:
        await self.room()
        await self.told(self.ann, {CAT: "owner"}, {ANN: "member", CAT: "owner"})
        self.assertEqual({ANN: "member", BEN: "member", CAT: "owner"}, await self.members())

    async def test_only_a_new_owner_stays(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "none", ANN: "none", CAT: "owner"}, {ANN: "none", BEN: "none", CAT: "owner"})
        self.assertEqual({CAT: "owner"}, await self.members())

    async def test_who_was_not_spoken_of_becomes_owner(self) -> None:
        await self.room()
        await self.told(self.ann, {BEN: "none", ANN: "member"}, {ANN: "member", BEN: "none", CAT: "owner"})

    async def test_the_owner_leaves(self) -> None:
        await self.room()
        await self.told(self.ann, {ANN: "none"}, {ANN: "none", BEN: "owner"})

    async def test_who_comes_becomes_owner_when_nobody_else_is_there(self) -> None:
        await self.room()
        wanted = {ANN: "member", BEN: "none", CAT: "none", EVE: "member", DAN: "member"}
        effect = {ANN: "member", BEN: "none", CAT: "none", DAN: "owner", EVE: "member"}
        await self.told(self.ann, wanted, effect)

    async def test_a_demotion_that_cannot_be_is_dropped(self) -> None:
        await self.room()
        await self.told(self.ann, {ANN: "member", BEN: "none", CAT: "none"}, {BEN: "none", CAT: "none"})
        self.assertEqual({ANN: "owner"}, await self.members())
        # Nothing else has been asked for, and so nobody is told of a change that is none.
        await self.nothing(self.ann, {ANN: "member"})

    async def test_a_newcomer_becomes_owner(self) -> None:
        await self.room()
        await self.told(self.ann, {DAN: "owner"}, {ANN: "member", DAN: "owner"})

    async def test_one_by_one_until_the_room_is_empty(self) -> None:
        await self.room()
        await self.told(self.ben, {BEN: "none"})
        await self.told(self.ann, {ANN: "none"}, {ANN: "none", CAT: "owner"})
        await self.leaves_alone(self.cat)

    async def test_the_owner_last(self) -> None:
        await self.room()
        await self.told(self.cat, {CAT: "none"})
        await self.told(self.ben, {BEN: "none"})
        await self.leaves_alone(self.ann)

    async def test_all_at_once(self) -> None:
        await self.room()
        heard = await self.hear(self.ann, NS_AFFILIATIONS, users({ANN: "none", BEN: "none", CAT: "none"}))
        expected = {
            user: [notice(user, f"<x xmlns='{NS_AFFILIATIONS}'>{users({user: 'none'})}</x>")]
            for user in (ANN, BEN, CAT)
        }
        expected[ANN].append(result(ANN))
        self.assertEqual(expected, heard)
        await self.nothing_left()

    async def leaves_alone(self, session: Any) -> None:
        """The last one leaves: no notices of a destruction, and nothing is left of the room."""
        user = session.jid.bare
        heard = await self.hear(session, NS_AFFILIATIONS, users({user: "none"}))
        gone = notice(user, f"<x xmlns='{NS_AFFILIATIONS}'>{users({user: 'none'})}</x>")
        self.assertEqual({user: [gone, result(user)]}, heard)
        await self.nothing_left()

    async def nothing_left(self) -> None:
        for table in ("rooms", "occupants"):
            self.assertEqual([(0,)], await self.db.query(f"SELECT count(*) FROM muc_light_{table}"))
        for session in (self.ann, self.ben, self.cat):
            session.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
            message = await session.receives("message")
            self.assertEqual(("error", LOBBY), (message["type"], message["from"]))
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        self.assertEqual("result", (await self.create(self.dan))["type"], "the name is free")


class WithoutPromotion(AffiliationTestCase):
    config = MucLightConfig(promote_on_last_owner_leave=False)

    async def test_the_last_owner_stays_until_there_is_another_one(self) -> None:
        await self.room()
        text = "Cannot remove the last owner"
        for wanted in (
            {ANN: "member", BEN: "none"},
            {ANN: "none"},
            {ANN: "member"},
            {ANN: "none", DAN: "member"},
            {ANN: "member", BEN: "none", CAT: "none"},
        ):
            with self.subTest(wanted=wanted):
                await self.refused(self.ann, wanted, text=text)
        await self.told(self.ann, {ANN: "none", CAT: "owner"})

    async def test_the_last_of_all_may_leave(self) -> None:
        await self.room(BEN)
        await self.told(self.ben, {BEN: "none"})
        reply = await self.affiliate(self.ann, (ANN, "none"))
        self.assertEqual("result", reply["type"])
        self.assertEqual([], await self.db.query("SELECT name FROM muc_light_rooms"))
