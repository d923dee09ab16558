"""Section 18: accounts and domains that are removed, what is told of it, and what is left of them."""

from typing import Any, ClassVar, cast

from twisted.internet import reactor

from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.store import DomainStore
from dynxmpp.module import JID, Module
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.mam.schema import ROOM
from dynxmpp.modules.muc_light import MucLight, removal, rooms
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_BLOCKING, NS_CREATE, NS_INFO
from tests.fixtures.dialogue import Host
from tests.muclight.affiliation_dialogues import users
from tests.muclight.support import ANN, ARCHIVE, BEN, CAT, DAN, DOMAIN, LOBBY, SERVICE, RoomTestCase, notice, refusal

ATTIC = f"attic@{SERVICE}"
CELLAR = f"cellar@{SERVICE}"
FAR = "far.example"
#: A room of another domain of the same host type, one of another host type, and one of a third without archives.
NEAR_HALL = "hall@muclight.other.example"
FAR_HALL = "hall@muclight.far.example"
BARE_HALL = "hall@muclight.bare.example"
YAN, ZOE = "yan@other.example", f"zoe@{FAR}"


class RemovalTestCase(RoomTestCase):
    migrations = (*DomainStore.migrations, *Mam.migrations, *MucLight.migrations)
    archive: ClassVar[MamConfig | None] = ARCHIVE

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.domain_store = DomainStore(self.db, clock=cast(Any, reactor))
        for domain in list(self.host.domains):
            await self.domain_store.insert(domain, self.host.type_of(domain).name)
        modules = [cast(Module, module) for host_type in self.host.host_types for module in host_type]
        self.remover = DomainRemover(
            self.domain_store,
            settings_database=self.db,
            places=[Place(self.db, stored) for module in modules for stored in module.stored],
            forgetful=modules,
        )

    async def remove_account(self, account: str) -> dict[str, list[Any]]:
        """What everybody gets because of it."""
        await self.settle()
        self.forget()
        await self.remover.remove_account(JID.parse(account))
        await self.settle()
        return self.heard()

    async def remove_domain(self, domain: str) -> dict[str, list[Any]]:
        await self.settle()
        self.forget()
        await self.domain_store.begin_delete(domain, self.host.type_of(domain).name)
        self.host.domains.delete(domain)
        await self.remover.remove_domain(domain)
        await self.settle()
        return self.heard()

    async def make(self, creator: str, *members: str, room: str = LOBBY) -> None:
        """A room with something in its archive."""
        session = next(s for s in self.host.sessions.of(creator))
        occupants = "".join(f"<user affiliation='member'>{member}</user>" for member in members)
        reply = await self.set(cast(Any, session), room, NS_CREATE, f"<occupants>{occupants}</occupants>")
        assert reply["type"] == "result", reply.toXml()
        session.sends(f"<message type='groupchat' id='m' to='{room}'><body>{room}</body></message>")  # type: ignore[attr-defined]
        await self.written()

    async def written(self) -> None:
        await self.settle()
        for host_type in self.host.host_types:
            archive = host_type.modules.get("mod_mam_meta")
            if archive is not None:
                await cast(Mam, archive).store.flush()
        self.forget()

    async def members(self, room: str = LOBBY) -> dict[str, str]:
        jid = JID.parse(room)
        stored = await self.rooms.rooms.store.load(jid.domain.removeprefix("muclight."), jid)
        return {} if stored is None else {jid.full: affiliation.text for jid, affiliation in stored.members.items()}

    async def version(self, room: str = LOBBY) -> str:
        service, name = JID.parse(room).domain, JID.parse(room).local
        sql = "SELECT version FROM muc_light_rooms WHERE service = %s AND name = %s"
        ((version,),) = await self.db.query(sql, (service, name))
        return str(version)

    async def archives(self) -> set[str]:
        """The rooms that have archives."""
        await self.written()
        return {name for (name,) in await self.db.query("SELECT name FROM mam_archive WHERE kind = %s", (ROOM,))}

    async def archived(self) -> set[str]:
        """The rooms that have messages with a text in their archives."""
        await self.written()
        rows = await self.db.query(
            "SELECT DISTINCT a.name FROM mam_archive AS a JOIN mam_message AS m ON m.archive = a.id"
        )
        return {name for (name,) in rows}

    async def naming(self, text: str) -> set[str]:
        """The tables of rooms and archives where something stands anywhere in a row."""
        await self.written()
        found = set()
        for table in ("muc_light_rooms", "muc_light_occupants", "muc_light_blocking", "mam_archive", "mam_message"):
            sql = f"SELECT count(*) FROM {table} AS row WHERE position(%s IN row::text) > 0"
            if (await self.db.query(sql, (text,)))[0][0]:
                found.add(table)
        return found


def left(room: str, to: str, changes: dict[str, str], versions: tuple[str, str] | None, id_: str) -> Any:
    """What somebody is told of who has left."""
    x = "" if versions is None else f"<prev-version>{versions[0]}</prev-version><version>{versions[1]}</version>"
    return notice(to, f"<x xmlns='{NS_AFFILIATIONS}'>{x}{users(changes)}</x>", id_=id_, room=room)


class Accounts(RemovalTestCase):
    archive = None

    async def test_it_leaves_all_its_rooms(self) -> None:
        """The others are told as if it had done so itself, all under one id."""
        await self.make(ANN, BEN, CAT)
        await self.make(BEN, ANN, DAN, room=ATTIC)
        await self.make(ANN, room=CELLAR)
        await self.make(BEN, CAT, room=NEAR_HALL)
        before = {room: await self.version(room) for room in (LOBBY, ATTIC, NEAR_HALL)}
        heard = await self.remove_account(ANN)
        self.assertEqual({BEN: "owner", CAT: "member"}, await self.members())
        self.assertEqual({BEN: "owner", DAN: "member"}, await self.members(ATTIC))
        self.assertEqual([(LOBBY.split("@")[0],), ("attic",), ("hall",)], await self.names())
        lobby, attic = [(before[room], await self.version(room)) for room in (LOBBY, ATTIC)]
        self.assertEqual(before[NEAR_HALL], await self.version(NEAR_HALL))
        (id_,) = {value for stanzas in heard.values() for s in stanzas for key, value in s[2] if key == "id"}
        self.assertTrue(id_)
        changes = {ANN: "none", BEN: "owner"}
        expected = {
            ANN: [left(room, ANN, {ANN: "none"}, None, id_) for room in (LOBBY, ATTIC, CELLAR)],
            BEN: [left(LOBBY, BEN, changes, lobby, id_), left(ATTIC, BEN, {ANN: "none"}, attic, id_)],
            CAT: [left(LOBBY, CAT, changes, lobby, id_)],
            DAN: [left(ATTIC, DAN, {ANN: "none"}, attic, id_)],
        }
        self.assertEqual(expected, heard)

    async def names(self) -> list[Any]:
        return await self.db.query("SELECT name FROM muc_light_rooms ORDER BY id")

    async def test_each_account_has_an_id_of_its_own(self) -> None:
        await self.make(ANN, BEN, CAT)
        ids = []
        for account in (ANN, BEN):
            heard = await self.remove_account(account)
            ids.append(dict(heard[CAT][0][2])["id"])
        self.assertEqual(2, len(set(ids)))

    async def test_without_rooms_nothing_happens(self) -> None:
        await self.make(BEN, CAT)
        version = await self.version()
        self.assertEqual({}, await self.remove_account(ANN))
        self.assertEqual(version, await self.version())

    async def test_again(self) -> None:
        await self.make(ANN, BEN)
        await self.remove_account(ANN)
        version = await self.version()
        self.assertEqual({}, await self.remove_account(ANN))
        self.assertEqual(version, await self.version())

    async def test_its_blocking_list_goes_and_others_stay(self) -> None:
        for session, entry in ((self.ann, BEN), (self.ben, ANN)):
            items = f"<user action='deny'>{entry}</user><room action='deny'>{LOBBY}</room>"
            self.assertEqual("result", (await self.set(session, SERVICE, NS_BLOCKING, items))["type"])
        await self.remove_account(ANN)
        rows = await self.db.query("SELECT username, kind, who FROM muc_light_blocking ORDER BY kind")
        self.assertEqual([("ben", 1, LOBBY), ("ben", 2, ANN)], rows)

    async def test_a_new_account_of_that_name_is_in_no_room(self) -> None:
        await self.make(BEN, ANN)
        await self.remove_account(ANN)
        self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.ann, LOBBY, NS_INFO)))
        self.ben.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.settle()
        self.assertEqual({BEN}, set(self.heard()))

    async def test_accounts_of_other_domains_leave_too(self) -> None:
        self.online(f"{YAN}/p")
        await self.make(ANN, YAN)
        heard = await self.remove_account(YAN)
        self.assertEqual({ANN, YAN}, set(heard))
        self.assertEqual({ANN: "owner"}, await self.members())


class WithoutPromotion(RemovalTestCase):
    config = MucLightConfig(promote_on_last_owner_leave=False)

    async def test_the_room_gets_a_new_owner_all_the_same(self) -> None:
        await self.make(ANN, BEN, CAT)
        await self.remove_account(ANN)
        self.assertEqual({BEN: "owner", CAT: "member"}, await self.members())


class Equals(RemovalTestCase):
    config = MucLightConfig(equal_occupants=True)

    async def test_the_room_gets_no_owner(self) -> None:
        await self.make(ANN, BEN, CAT)
        await self.remove_account(ANN)
        self.assertEqual({BEN: "member", CAT: "member"}, await self.members())


class ArchivesOfRooms(RemovalTestCase):
    async def test_what_it_has_said_stays(self) -> None:
        """And that it has left is archived."""
        await self.make(ANN, BEN)
        await self.remove_account(ANN)
        await self.written()
        rows = await self.db.query("SELECT count(*) FROM mam_message")
        self.assertEqual([(3,)], rows)
        self.assertIn("mam_message", await self.naming(ANN))

    async def test_a_room_that_is_empty_goes_with_its_archive(self) -> None:
        await self.make(ANN, BEN)
        await self.make(ANN, room=CELLAR)
        self.assertEqual({LOBBY, CELLAR}, await self.archived())
        await self.remove_account(ANN)
        self.assertEqual({LOBBY}, await self.archived())
        self.assertEqual({LOBBY}, await self.archives())
        self.assertEqual(set(), await self.naming("cellar"))


class HostTypesTestCase(RemovalTestCase):
    """Three host types. One of them has no archives: it comes first, and must not decide for the others."""

    archive = None
    domains: ClassVar[tuple[str, ...]] = ("bare.example",)

    def add_host_types(self, host: Host) -> None:
        host.add_host_type("archived", [(Mam, ARCHIVE), MucLight], (DOMAIN, "other.example"))
        modules = [(Mam, ARCHIVE), (MucLight, MucLightConfig(promote_on_last_owner_leave=False))]
        host.add_host_type("far", modules, (FAR,))

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        # Few are looked up at a time, so that it takes several times.
        self.patch(removal, "MANY", 2)
        self.patch(rooms, "MANY", 2)
        self.yan, self.zoe = self.online(f"{YAN}/p"), self.online(f"{ZOE}/p")
        self.online("abe@bare.example/p")

    async def lives(self) -> None:
        """Rooms everywhere, with people from everywhere."""
        await self.make(ANN, YAN, ZOE)
        await self.make(ANN, room=CELLAR)
        for owner, room in ((YAN, NEAR_HALL), (ZOE, FAR_HALL), ("abe@bare.example", BARE_HALL)):
            await self.make(ANN, owner, BEN, room=room)
        for service in ("muclight.far.example", "muclight.other.example"):
            await self.make(ANN, BEN, room=f"annex@{service}")
            await self.make(ANN, room=f"cell@{service}")
        for session, who in ((self.ann, ZOE), (self.zoe, ANN), (self.yan, ANN)):
            items = f"<user action='deny'>{who}</user>"
            self.assertEqual("result", (await self.set(session, SERVICE, NS_BLOCKING, items))["type"])
        await self.written()


class HostTypes(HostTypesTestCase):
    async def test_an_account_leaves_rooms_of_all_host_types(self) -> None:
        await self.lives()
        heard = await self.remove_account(ANN)
        self.assertEqual({YAN: "owner", ZOE: "member"}, await self.members())
        self.assertEqual({BEN: "owner", YAN: "member"}, await self.members(NEAR_HALL))
        self.assertEqual({BEN: "owner", ZOE: "member"}, await self.members(FAR_HALL))
        self.assertEqual({"abe@bare.example": "owner", BEN: "member"}, await self.members(BARE_HALL))
        self.assertEqual([(0,)], await self.db.query("SELECT count(*) FROM muc_light_rooms WHERE name LIKE 'cel%'"))
        self.assertEqual(set(), {name for name in await self.archives() if name.startswith("cel")})
        self.assertEqual({ANN, BEN, YAN, ZOE, "abe@bare.example"}, set(heard))
        self.assertEqual(9, len(heard[ANN]), "each room once")

    async def test_of_a_domain_nothing_is_left(self) -> None:
        await self.lives()
        before = await self.version(FAR_HALL), await self.version(f"annex@{FAR_HALL.partition('@')[2]}")
        heard = await self.remove_domain(DOMAIN)
        self.assertEqual({}, heard, "nobody is told")
        rows = await self.db.query("SELECT count(*) FROM muc_light_rooms WHERE server = %s", (DOMAIN,))
        self.assertEqual([(0,)], rows)
        rows = await self.db.query("SELECT count(*) FROM muc_light_occupants WHERE server = %s", (DOMAIN,))
        self.assertEqual([(0,)], rows)
        self.assertEqual({YAN: "owner"}, await self.members(NEAR_HALL))
        self.assertEqual({ZOE: "owner"}, await self.members(FAR_HALL))
        self.assertEqual({"abe@bare.example": "owner"}, await self.members(BARE_HALL))
        rows = await self.db.query("SELECT service FROM muc_light_rooms WHERE name IN ('annex', 'cell', 'lobby')")
        self.assertEqual([], rows)
        self.assertEqual({NEAR_HALL, FAR_HALL}, await self.archives())
        self.assertNotEqual(before[0], await self.version(FAR_HALL))
        rows = await self.db.query("SELECT server, username, who FROM muc_light_blocking ORDER BY username")
        self.assertEqual([("other.example", "yan", ANN), (FAR, "zoe", ANN)], rows)

    async def test_who_stays_sees_what_is(self) -> None:
        """What is in memory is as new as the tables."""
        await self.lives()
        for session, room in ((self.yan, NEAR_HALL), (self.zoe, FAR_HALL)):
            await self.get(session, room, NS_INFO)
        await self.remove_domain(DOMAIN)
        for session, room in ((self.yan, NEAR_HALL), (self.zoe, FAR_HALL)):
            info = (await self.get(session, room, NS_INFO)).query
            self.assertEqual(await self.version(room), str(info.version))
            self.assertEqual([session.jid.bare], [str(user) for user in info.occupants.elements()])
            session.sends(f"<message type='groupchat' id='m' to='{room}'><body>hi</body></message>")
            await self.settle()
            self.assertEqual({session.jid.bare}, set(self.heard()))

    async def test_rooms_elsewhere_without_its_accounts_are_as_they_were(self) -> None:
        await self.make(ZOE, YAN, room=FAR_HALL)
        version = await self.version(FAR_HALL)
        await self.remove_domain(DOMAIN)
        self.assertEqual(version, await self.version(FAR_HALL))
        self.assertEqual({YAN: "member", ZOE: "owner"}, await self.members(FAR_HALL))

    async def test_rooms_of_a_domain_go_with_members_from_elsewhere(self) -> None:
        await self.make(ZOE, YAN, ANN)
        await self.make(ZOE, YAN, room=ATTIC)
        self.assertEqual({}, await self.remove_domain(DOMAIN))
        self.assertEqual(set(), await self.naming(SERVICE))
        self.assertEqual([], await self.db.query("SELECT * FROM muc_light_occupants"))
        for room in (LOBBY, ATTIC):
            self.assertEqual("error", (await self.get(self.zoe, room, NS_INFO))["type"])

    async def test_what_a_crash_has_left_goes_too(self) -> None:
        await self.make(ANN, room=CELLAR)
        await self.db.execute("DELETE FROM muc_light_occupants")
        await self.db.execute("UPDATE muc_light_rooms SET version = ''")
        await self.remove_domain(DOMAIN)
        self.assertEqual(set(), await self.naming("cellar"))

    async def test_a_domain_made_anew_has_none_of_it(self) -> None:
        await self.lives()
        await self.remove_domain(DOMAIN)
        await self.domain_store.insert(DOMAIN, "archived")
        self.host.domains.insert(DOMAIN, "archived")
        self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.yan, LOBBY, NS_INFO)))
        await self.make(ANN, BEN)
        self.assertEqual({ANN: "owner", BEN: "member"}, await self.members())
        reply = await self.set(self.ann, LOBBY, "urn:xmpp:mam:2")
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual(2, len(self.ann.received), "the creation and a message")
        reply = await self.get(self.ann, SERVICE, NS_BLOCKING)
        self.assertEqual([], list(reply.query.elements()))
        for room in (NEAR_HALL, FAR_HALL, BARE_HALL):
            self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.ann, room, NS_INFO)))


class DisabledDomains(HostTypesTestCase):
    """Rooms that are not served are left as well: they will be served again."""

    async def disable(self, domain: str) -> None:
        await self.settle()
        self.host.domains.delete(domain)
        for host_type in self.host.host_types:
            for module in host_type:
                cast(Module, module).forget_domain(domain)

    def enable(self, domain: str, host_type: str) -> None:
        self.host.domains.insert(domain, host_type)

    async def test_an_account_leaves(self) -> None:
        """Services that are not served tell nobody, and archive nothing."""
        await self.lives()
        archives = await self.archives()
        await self.disable(FAR)
        heard = await self.remove_account(ANN)
        services = {dict(s[2])["from"].partition("@")[2] for stanzas in heard.values() for s in stanzas}
        self.assertEqual({SERVICE, "muclight.other.example", "muclight.bare.example"}, services)
        self.assertEqual({BEN: "owner", ZOE: "member"}, await self.members(FAR_HALL))
        self.assertLess(await self.archives(), archives)
        self.enable(FAR, "far")
        info = (await self.get(self.zoe, FAR_HALL, NS_INFO)).query
        self.assertEqual([BEN, ZOE], [str(user) for user in info.occupants.elements()])

    async def test_a_domain_leaves(self) -> None:
        await self.lives()
        await self.disable(FAR)
        self.assertEqual({}, await self.remove_domain(DOMAIN))
        self.assertEqual({ZOE: "owner"}, await self.members(FAR_HALL))
        rows = await self.db.query("SELECT count(*) FROM muc_light_occupants WHERE server = %s", (DOMAIN,))
        self.assertEqual([(0,)], rows)
        self.enable(FAR, "far")
        info = (await self.get(self.zoe, FAR_HALL, NS_INFO)).query
        self.assertEqual(await self.version(FAR_HALL), str(info.version))

    async def test_an_empty_room_goes_with_its_archive_when_it_is_served_again(self) -> None:
        """Nobody knows before who has the archive."""
        cell = "cell@muclight.far.example"
        for remove in (self.remove_account, self.remove_domain):
            await self.make(ANN, room=cell)
            await self.disable(FAR)
            await remove(ANN if remove == self.remove_account else DOMAIN)
            self.assertEqual({}, await self.members(cell))
            self.enable(FAR, "far")
            self.assertEqual(("cancel", "item-not-found", None), refusal(await self.get(self.zoe, cell, NS_INFO)))
            await self.make(ZOE, room=cell)
            reply = await self.set(self.zoe, cell, "urn:xmpp:mam:2")
            self.assertEqual("result", reply["type"], reply.toXml())
            self.assertEqual(2, len(self.zoe.received), "the creation and a message")
            await self.affiliate(self.zoe, (ZOE, "none"), room=cell)

    async def test_it_goes_by_itself_too(self) -> None:
        """From time to time all host types look for what is left of rooms; none takes those of others."""
        cells = [f"cell{number}@muclight.far.example" for number in range(3)]
        for cell in cells:
            await self.make(ANN, room=cell)
        await self.disable(FAR)
        await self.remove_account(ANN)
        await self.sweep()
        self.assertEqual(set(cells), await self.archives())
        kept = await self.db.query("SELECT config FROM muc_light_rooms WHERE name LIKE 'cell%'")
        self.assertEqual([({},)] * 3, kept, "the name alone is kept")
        self.enable(FAR, "far")
        bare, archived, far = self.host.host_types
        await self.sweep(bare, archived)
        self.assertEqual(set(cells), await self.archives())
        await self.sweep(far)
        self.assertEqual(set(), await self.naming("cell"))

    async def sweep(self, *host_types: Any) -> None:
        for host_type in host_types or self.host.host_types:
            await cast(MucLight, host_type.modules["mod_muc_light"]).rooms.finish_removals()

    async def test_the_domain_of_an_empty_room_goes(self) -> None:
        cell = "cell@muclight.far.example"
        await self.make(ANN, room=cell)
        await self.disable(FAR)
        await self.remove_account(ANN)
        self.enable(FAR, "far")
        await self.remove_domain(FAR)
        self.assertEqual(set(), await self.naming("cell"))
