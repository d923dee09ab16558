"""Section 11: lists of those by whom, and of rooms to which, somebody does not want to be added."""

from typing import Any

from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_BLOCKING
from tests.fixtures.dialogue import canonical
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, RoomTestCase, error, result, seen

OTHER_SERVICE = "muclight.other.example"
OTHER = f"other@{SERVICE}"


def user(address: str, action: str = "deny") -> str:
    return f"<user action='{action}'>{address}</user>"


def room(address: str, action: str = "deny") -> str:
    return f"<room action='{action}'>{address}</room>"


class BlockingTestCase(RoomTestCase):
    async def changes(self, session: Any, items: str, to: str = SERVICE) -> None:
        """A request is granted, and nobody else hears of it."""
        heard = await self.hear(session, NS_BLOCKING, items, to=to)
        self.assertEqual({session.jid.bare: [result(session.jid.bare, sender=to)]}, heard)

    async def refused(self, items: str, condition: str, text: str | None, to: str = SERVICE) -> None:
        heard = await self.hear(self.dan, NS_BLOCKING, items, to=to)
        type_ = "modify" if condition == "bad-request" else "cancel"
        self.assertEqual({DAN: [error(DAN, condition, text, type_=type_, sender=to)]}, heard)

    async def has(self, session: Any, items: str, to: str = SERVICE) -> None:
        """The list of a user is this one, in this order."""
        reply = await self.get(session, to, NS_BLOCKING)
        query = f"<query xmlns='{NS_BLOCKING}'>{items}</query>"
        expected = seen(f"<iq type='result' id='g' from='{to}' to='{session.jid.full}'>{query}</iq>")
        self.assertEqual(expected, canonical(reply))


class Lists(BlockingTestCase):
    async def test_a_list_begins_empty(self) -> None:
        await self.has(self.dan, "")

    async def test_users_and_rooms(self) -> None:
        """Rooms come first, each kind in the order of addresses."""
        await self.changes(self.dan, user(BEN) + room(LOBBY) + user(ANN) + room(f"attic@{SERVICE}"))
        await self.has(self.dan, room(f"attic@{SERVICE}") + room(LOBBY) + user(ANN) + user(BEN))

    async def test_denied_twice_is_denied_once(self) -> None:
        await self.changes(self.dan, user(ANN))
        await self.changes(self.dan, user(ANN) + user(ANN) + user(f"{ANN}/p") + user("ANN@example.org"))
        await self.has(self.dan, user(ANN))

    async def test_allowed_is_off_the_list(self) -> None:
        await self.changes(self.dan, user(ANN) + user(BEN) + room(LOBBY))
        await self.changes(self.dan, user(ANN, "allow") + room(LOBBY, "allow"))
        await self.has(self.dan, user(BEN))

    async def test_what_is_not_there_can_be_allowed(self) -> None:
        await self.changes(self.dan, user(ANN, "allow") + room(LOBBY, "allow"))
        await self.has(self.dan, "")

    async def test_of_one_address_the_last_word_counts(self) -> None:
        await self.changes(self.dan, user(ANN) + user(ANN, "allow") + user(BEN, "allow") + user(BEN))
        await self.has(self.dan, user(BEN))

    async def test_a_room_is_no_user(self) -> None:
        await self.changes(self.dan, user(ANN) + room(ANN))
        await self.changes(self.dan, user(ANN, "allow"))
        await self.has(self.dan, room(ANN))

    async def test_everybody_has_a_list_of_his_own(self) -> None:
        await self.changes(self.dan, user(ANN))
        await self.has(self.cat, "")
        await self.changes(self.cat, user(BEN))
        await self.has(self.dan, user(ANN))

    async def test_it_is_the_same_at_all_services(self) -> None:
        await self.changes(self.dan, user(ANN), to=OTHER_SERVICE)
        await self.has(self.dan, user(ANN))
        await self.changes(self.dan, user(ANN, "allow") + user(BEN))
        await self.has(self.dan, user(BEN), to=OTHER_SERVICE)

    async def test_it_is_the_same_for_all_sessions(self) -> None:
        await self.changes(self.dan, user(ANN))
        await self.has(self.online(f"{DAN}/other"), user(ANN))

    async def test_addresses_need_not_exist(self) -> None:
        await self.changes(self.dan, user("nobody@far.example") + room("x@rooms.far.example"))
        await self.has(self.dan, room("x@rooms.far.example") + user("nobody@far.example"))

    async def test_awkward_addresses(self) -> None:
        await self.changes(self.dan, user("o\\27neil@example.org") + room(f"BÜRO@{SERVICE}"))
        await self.has(self.dan, room(f"büro@{SERVICE}") + user("o\\27neil@example.org"))


class Refusals(BlockingTestCase):
    async def test_what_is_malformed_is_refused_as_a_whole(self) -> None:
        action = "The action must be deny or allow"
        no_account = "Not the address of an account or a room"
        for items, text in (
            ("", "An empty request"),
            (f"<user>{ANN}</user>", action),
            (user(ANN, "block"), action),
            (user(ANN, ""), action),
            (user(ANN, "Deny"), action),
            (user(""), "Not an address"),
            (user("@example.org"), "Not an address"),
            (user("ann@"), "Not an address"),
            (user("example.org"), no_account),
            (room(SERVICE), no_account),
            (f"<item action='deny'>{ANN}</item>", "Unexpected element item"),
            (f"<user action='deny'><jid>{ANN}</jid></user>", "Elements inside of user"),
            ("".join(user(f"u{number}@example.org") for number in range(1001)), "More than 1000 entries"),
        ):
            with self.subTest(items=items[:100]):
                await self.refused(items, "bad-request", text)
                if items:
                    await self.refused(user(BEN) + items, "bad-request", text)
        await self.has(self.dan, "")

    async def test_rooms_are_not_asked(self) -> None:
        """The list is the service's business."""
        await self.room()
        for session, to in ((self.ann, LOBBY), (self.dan, LOBBY), (self.dan, f"nowhere@{SERVICE}")):
            for reply in (
                await self.set(session, to, NS_BLOCKING, user(BEN)),
                await self.get(session, to, NS_BLOCKING),
            ):
                self.assertEqual("error", reply["type"], reply.toXml())
        await self.has(self.ann, "")


class Effect(BlockingTestCase):
    async def add(self, address: str = DAN, to: str = LOBBY, by: Any = None) -> bool:
        """Is somebody in a room after the attempt to add him?"""
        reply = await self.affiliate(by or self.ann, (address, "member"), room=to)
        self.assertEqual("result", reply["type"], reply.toXml())
        return address in await self.members(to)

    async def test_who_is_denied_cannot_add(self) -> None:
        await self.changes(self.dan, user(ANN))
        await self.room()
        self.assertFalse(await self.add())
        await self.changes(self.dan, user(ANN, "allow"))
        self.assertTrue(await self.add())

    async def test_others_can(self) -> None:
        await self.changes(self.dan, user(BEN) + user(CAT) + room(OTHER))
        await self.room()
        self.assertTrue(await self.add())

    async def test_nobody_can_add_to_a_denied_room(self) -> None:
        await self.changes(self.dan, room(LOBBY))
        await self.room()
        await self.room(room=OTHER)
        self.assertFalse(await self.add())
        self.assertTrue(await self.add(to=OTHER))

    async def test_a_room_denied_as_a_user_and_a_user_as_a_room_are_nothing(self) -> None:
        await self.changes(self.dan, user(LOBBY) + room(ANN))
        await self.room()
        self.assertTrue(await self.add())

    async def test_no_element_blocks_the_other_way_round(self) -> None:
        """Whom ann denies she can add."""
        await self.changes(self.ann, user(DAN) + room(LOBBY))
        await self.room()
        self.assertTrue(await self.add())

    async def test_a_creator_adds_too(self) -> None:
        await self.changes(self.dan, user(ANN))
        await self.changes(self.cat, room(LOBBY))
        await self.room(BEN, CAT, DAN)
        self.assertEqual({ANN: "owner", BEN: "member"}, await self.members())
        await self.room(BEN, CAT, DAN, room=OTHER)
        self.assertEqual({ANN: "owner", BEN: "member", CAT: "member"}, await self.members(OTHER))

    async def test_the_creator_is_there_even_if_he_denies_the_room(self) -> None:
        await self.changes(self.ann, room(LOBBY) + user(ANN))
        await self.room(BEN)
        self.assertEqual({ANN: "owner", BEN: "member"}, await self.members())

    async def test_who_is_dropped_at_a_creation_is_not_told(self) -> None:
        await self.changes(self.dan, user(ANN))
        reply = await self.create(self.ann, BEN, DAN)
        self.assertEqual("result", reply["type"])
        await self.settle()
        heard = self.heard()
        self.assertEqual({ANN, BEN}, set(heard))

    async def test_the_list_of_one_service_counts_at_others(self) -> None:
        await self.changes(self.dan, user(ANN), to=OTHER_SERVICE)
        await self.room()
        self.assertFalse(await self.add())

    async def test_users_of_other_domains_have_lists(self) -> None:
        zoe = self.online("zoe@other.example/p")
        await self.changes(zoe, user(ANN))
        await self.room()
        self.assertFalse(await self.add("zoe@other.example"))

    async def test_who_is_in_a_room_stays_and_hears_all(self) -> None:
        await self.room()
        await self.changes(self.ben, user(ANN) + room(LOBBY))
        self.assertIn(BEN, await self.members())
        self.ann.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        self.assertEqual("hi", str((await self.ben.receives("message")).body))
        self.ben.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>ho</body></message>")
        self.assertEqual("hi", str((await self.ann.receives("message")).body))
        self.assertEqual("ho", str((await self.ann.receives("message")).body))

    async def test_who_has_left_is_not_added_again(self) -> None:
        await self.room()
        await self.changes(self.ben, user(ANN))
        await self.affiliate(self.ben, (BEN, "none"))
        self.assertFalse(await self.add(BEN))


class SwitchedOff(BlockingTestCase):
    config = MucLightConfig(blocking=False)

    async def test_both_requests_are_refused(self) -> None:
        await self.refused(user(ANN), "bad-request", None)
        await self.refused("", "bad-request", None)
        heard = await self.get(self.dan, SERVICE, NS_BLOCKING, id_="h")
        self.assertEqual(error(DAN, "bad-request", type_="modify", sender=SERVICE), canonical(heard))

    async def test_lists_have_no_effect(self) -> None:
        """One from before it was switched off."""
        await self.db.execute(
            "INSERT INTO muc_light_blocking (server, username, kind, who) VALUES (%s, %s, 2, %s)",
            ("example.org", "dan", ANN),
        )
        await self.room(BEN, DAN)
        self.assertIn(DAN, await self.members())
        await self.affiliate(self.ann, (DAN, "none"))
        await self.affiliate(self.ann, (DAN, "member"))
        self.assertIn(DAN, await self.members())
