"""Section 5: what options, access rules and blocking lists make of the wish for a room."""

from typing import Any, ClassVar

from dynxmpp.config.acl import Access, AccessClause, AclPattern
from dynxmpp.module import Transaction
from dynxmpp.modules.mam.config import MamConfig, PmArchive
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_BLOCKING, NS_CONFIGURATION, NS_CREATE, NS_DESTROY
from tests.fixtures.dialogue import TestSession, canonical
from tests.muclight.creations import CreationTestCase, fields, users
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, DAN, LOBBY, SERVICE, error, refusal, seen


class Blockers(CreationTestCase):
    """Who does not want to be added is not, and nobody is told."""

    async def block(self, session: TestSession, kind: str, address: str, action: str = "deny") -> None:
        reply = await self.set(session, SERVICE, NS_BLOCKING, f"<{kind} action='{action}'>{address}</{kind}>")
        self.assertEqual("result", reply["type"])

    async def test_who_blocks_the_creator(self) -> None:
        await self.block(self.ben, "user", ANN)
        await self.made(users(ben="member", cat="member"), ann="owner", cat="member")

    async def test_who_blocks_the_room(self) -> None:
        await self.block(self.ben, "room", LOBBY)
        await self.made(users(ben="member", cat="member"), ann="owner", cat="member")

    async def test_who_blocks_others(self) -> None:
        await self.block(self.ben, "user", CAT)
        await self.block(self.ben, "room", f"other@{SERVICE}")
        await self.block(self.ben, "user", ANN)
        await self.block(self.ben, "user", ANN, "allow")
        await self.made(users(ben="member", cat="member"), ann="owner", ben="member", cat="member")

    async def test_who_was_to_be_owner(self) -> None:
        """The creator stays owner."""
        await self.block(self.ben, "user", ANN)
        await self.made(users(ben="owner", cat="member"), ann="owner", cat="member")

    async def test_when_all_do(self) -> None:
        for session in (self.ben, self.cat):
            await self.block(session, "user", ANN)
        await self.made(users(ben="member", cat="member"), ann="owner")

    async def test_the_creator_may_block_whom_he_likes(self) -> None:
        await self.block(self.ann, "user", BEN)
        await self.block(self.ann, "room", LOBBY)
        await self.made(users(ben="member"), ann="owner", ben="member")


class WithoutBlocking(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(blocking=False)

    async def test_old_lists_say_nothing(self) -> None:
        insert = "INSERT INTO muc_light_blocking (server, username, kind, who) VALUES (%s, %s, 2, %s)"
        await self.db.execute(insert, ("example.org", "ben", ANN))
        await self.made(users(ben="member"), ann="owner", ben="member")


class FewOccupants(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(max_occupants=3)

    async def test_the_creator_is_one(self) -> None:
        await self.refused(users(ben="member", cat="member", dan="member"), "max_occupants_reached")
        await self.made(users(ben="member", cat="member"), ann="owner", ben="member", cat="member")

    async def test_who_is_left_out_does_not_count(self) -> None:
        await self.set(self.dan, SERVICE, NS_BLOCKING, f"<user action='deny'>{ANN}</user>")
        content = users(ben="member", cat="member", dan="member")
        await self.made(content, ann="owner", ben="member", cat="member")


class Alone(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(max_occupants=1)

    async def test_rooms_for_one(self) -> None:
        await self.refused(users(ben="member"), "max_occupants_reached")
        await self.made("", ann="owner")


class FewRooms(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(rooms_per_user=2)

    async def test_a_creator_who_is_in_enough_rooms(self) -> None:
        await self.room(room=f"one@{SERVICE}")
        await self.room(room=f"two@{SERVICE}")
        await self.refused("", "rooms_per_user_reached")
        self.assertEqual({}, await self.members())
        await self.affiliate(self.ann, (ANN, "none"), room=f"one@{SERVICE}")
        self.forget()
        await self.made("", ann="owner")

    async def test_being_a_member_counts(self) -> None:
        await self.room(room=f"one@{SERVICE}")
        await self.room(room=f"two@{SERVICE}")
        heard = await self.makes("", who=self.ben)
        self.assertEqual({BEN: [error(BEN, "bad-request", "rooms_per_user_reached", type_="modify")]}, heard)
        self.assertEqual("result", (await self.create(self.dan))["type"])

    async def test_occupants_who_are_in_enough_rooms_are_left_out(self) -> None:
        for number in (1, 2):
            self.assertEqual("result", (await self.create(self.ben, room=f"room{number}@{SERVICE}"))["type"])
        self.forget()
        await self.made(users(ben="owner", cat="member"), ann="owner", cat="member")

    async def test_rooms_of_all_services_count(self) -> None:
        await self.room(room=f"one@{SERVICE}")
        await self.room(room="one@muclight.other.example")
        await self.refused("", "rooms_per_user_reached")

    async def test_many_rooms_at_once(self) -> None:
        """The limit holds for requests that are dealt with at the same time."""
        names = [f"room{number}@{SERVICE}" for number in range(6)]
        for name in names:
            self.ann.sends(f"<iq type='set' id='{name}' to='{name}'><query xmlns='{NS_CREATE}'/></iq>")
        await self.settle()
        types = [element["type"] for element in self.ann.received if element.name == "iq"]
        self.assertEqual(["error"] * 4 + ["result"] * 2, sorted(types))
        rows = await self.db.query("SELECT count(*) FROM muc_light_occupants WHERE username = 'ann'")
        self.assertEqual(2, rows[0][0])


class EqualOccupants(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(equal_occupants=True)

    async def test_nobody_is_owner(self) -> None:
        await self.refused(users(ben="owner"), "Ownerless room")
        await self.made(users(ben="member", cat="member"), ann="member", ben="member", cat="member")

    async def test_alone(self) -> None:
        await self.made("", ann="member")


class ManyOwners(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(allow_multiple_owners=True)

    async def test_the_creator_is_one_of_them(self) -> None:
        content = users(ben="owner", cat="owner", dan="member")
        await self.made(content, ann="owner", ben="owner", cat="owner", dan="member")


class Schema(CreationTestCase):
    config: ClassVar[MucLightConfig] = MucLightConfig(
        config_schema=(
            RoomField(field="roomname", string_value="Room"),
            RoomField(field="seats", integer_value=4),
            RoomField(field="price", float_value=0.5),
            RoomField(field="open", boolean_value=True, internal_key="is_open"),
        )
    )

    async def test_defaults(self) -> None:
        await self.made("", ann="owner")
        expected = [("roomname", "Room"), ("seats", "4"), ("price", "0.5"), ("open", "true")]
        self.assertEqual(expected, await self.config_of())

    async def test_values(self) -> None:
        given = "<open>false</open><seats>-7</seats><roomname>A &amp; B</roomname><seats>8</seats><price>2e1</price>"
        await self.made(fields(given), ann="owner")
        expected = [("roomname", "A & B"), ("seats", "8"), ("price", "20.0"), ("open", "false")]
        self.assertEqual(expected, await self.config_of())

    async def test_values_of_other_types(self) -> None:
        for content, text in (
            ("<seats>many</seats>", "seats:type_error"),
            ("<seats/>", "seats:type_error"),
            ("<price>cheap</price>", "price:type_error"),
            ("<open>yes</open>", "open:type_error"),
            ("<is_open>true</is_open>", "is_open:not_found"),
            ("<subject>s</subject>", "subject:not_found"),
        ):
            await self.refused(fields(content), text)


class Rule(CreationTestCase):
    """The access rule muc_create."""

    def rule(self, *clauses: tuple[str, str]) -> None:
        access = Access(
            {"guests": (AclPattern(user_glob="a*"),)},
            {"muc_create": tuple(AccessClause(acl=acl, value=value) for acl, value in clauses)},
        )
        self.host.host_types[0].config = type("Config", (), {"access": access})()

    async def test_who_may_not(self) -> None:
        self.rule(("guests", "deny"), ("all", "allow"))
        for content in (users(ben="member"), "", "<nonsense/>"):
            await self.refused(content, None, condition="not-allowed", type_="cancel")
        heard = await self.makes("", to=SERVICE)
        self.assertEqual({ANN: [error(ANN, "not-allowed", sender=SERVICE)]}, heard)
        self.assertEqual("result", (await self.create(self.ben, ANN))["type"])
        self.assertEqual({ANN: "member", BEN: "owner"}, await self.members())

    async def test_the_domain_of_a_rule_is_that_of_the_service(self) -> None:
        access = Access(
            {"own": (AclPattern(),)},  # match = "current_domain"
            {"muc_create": (AccessClause(acl="own", value="allow"), AccessClause(acl="all", value="deny"))},
        )
        self.host.host_types[0].config = type("Config", (), {"access": access})()
        stranger = self.online("eve@other.example/p")
        self.assertEqual("not-allowed", refusal(await self.create(stranger))[1])
        self.assertEqual("result", (await self.create(self.ann))["type"])

    async def test_a_rule_that_says_nothing_of_somebody(self) -> None:
        self.rule(("guests", "allow"))
        self.assertEqual("not-allowed", refusal(await self.create(self.ben))[1])
        self.assertEqual("result", (await self.create(self.ann))["type"])


class Archived(CreationTestCase):
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def test_notices_are_as_without_an_archive(self) -> None:
        """What the archive keeps tells of all members; what each is told has no id in it."""
        await self.made(users(ben="member", cat="member"), ann="owner", ben="member", cat="member")
        await self.set(self.cat, LOBBY, "urn:xmpp:mam:2")
        (kept,) = [element for element in self.cat.received if element.name == "message"]
        entries = "".join(f"<user affiliation='{a}'>{jid}</user>" for jid, a in (await self.members()).items())
        notice_of_all = f"<x xmlns='{NS_AFFILIATIONS}'>{entries}</x><body/>"
        message = next(kept.result.forwarded.elements("jabber:client", "message"))
        self.assertEqual(seen(f"<message>{notice_of_all}</message>")[3], canonical(message)[3])


class ColdArchives(CreationTestCase):
    """Members' archives keep notices, and are not in memory: the result comes after the notice all the same."""

    archive: ClassVar[MamConfig | None] = MamConfig(pm=PmArchive(archive_groupchats=True))

    async def test_the_result_comes_last(self) -> None:
        for number in (1, 2):
            room = f"room{number}@{SERVICE}"
            heard = await self.makes(users(ben="member"), to=room)
            self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard[ANN]])
            self.assertEqual(["message"], [stanza[1] for stanza in heard[BEN]])

    async def test_of_changes_too(self) -> None:
        await self.room(BEN, CAT, DAN)
        entry = "<user affiliation='%s'>%s</user>"
        for namespace, content in (
            (NS_CONFIGURATION, "<subject>s</subject>"),
            (NS_AFFILIATIONS, entry % ("none", BEN)),
            (NS_AFFILIATIONS, entry % ("member", BEN) + entry % ("none", ANN)),
        ):
            self.forget_archives()
            heard = await self.hear(self.ann, namespace, content)
            self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard[ANN]], content)
        self.forget_archives()
        heard = await self.hear(self.ben, NS_AFFILIATIONS, entry % ("none", BEN))
        self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard[BEN]])
        self.forget_archives()
        heard = await self.hear(self.cat, NS_DESTROY)
        self.assertEqual(["message", "iq"], [stanza[1] for stanza in heard[CAT]])

    async def test_of_a_destruction_that_is_over_sooner(self) -> None:
        await self.room(BEN)
        self.forget_archives()

        async def meanwhile(transaction: Transaction) -> None:
            await transaction.execute("LOCK TABLE mam_archive")
            self.ann.sends(f"<iq type='set' id='h' to='{LOBBY}'><query xmlns='{NS_DESTROY}'/></iq>")
            while await transaction.query("SELECT FROM muc_light_rooms"):
                pass

        await self.db.transaction(meanwhile)
        await self.settle()
        self.assertEqual(["message", "iq"], [element.name for element in self.ann.received])

    def forget_archives(self) -> None:
        mam: Any = self.host.host_types[0].modules["mod_mam_meta"]
        mam.owners.forget_domain("example.org")
