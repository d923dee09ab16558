"""Archiving preferences (XEP-0441): whose messages come into an archive, and how clients say so."""

import dataclasses
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.words.xish import domish

from dynxmpp.config.acl import Access, AccessClause
from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.core.iq_registry import IQ
from dynxmpp.core.routing_context import RoutingContext
from dynxmpp.jid import JID
from dynxmpp.module import CommitTicket, StanzaError
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from dynxmpp.modules.mam.preferences import MAX_ADDRESSES, MAX_AGE_S, Preferences, read_prefs
from dynxmpp.modules.mam.schema import ACCOUNT, ROOM
from tests.fixtures.dialogue import TestSession, canonical, parse
from tests.mam.support import ArchiveTestCase
from tests.protocol.support import HOSTILE_LOCALPARTS, Contacts, condition

NS = "urn:xmpp:mam:2"
ALICE, BOB, KATE = "romeo@montague.example", "juliet@capulet.example", "kate@capulet.example"


def prefs(default: str, always: tuple[str, ...] = (), never: tuple[str, ...] = (), namespace: str = NS) -> str:
    lists = {"always": always, "never": never}
    inner = "".join(f"<{name}>{''.join(f'<jid>{jid}</jid>' for jid in jids)}</{name}>" for name, jids in lists.items())
    return f"<prefs xmlns='{namespace}' default='{default}'>{inner}</prefs>"


def get(namespace: str = NS, to: str | None = None) -> str:
    address = "" if to is None else f" to='{to}'"
    return f"<iq type='get' id='get1'{address}><prefs xmlns='{namespace}'/></iq>"


def set_(payload: str, to: str | None = None) -> str:
    address = "" if to is None else f" to='{to}'"
    return f"<iq type='set' id='set1'{address}>{payload}</iq>"


def text_of(reply: domish.Element) -> str:
    return str(reply.error.text)


class PreferencesTestCase(ArchiveTestCase):
    config = MamConfig(pm=PmArchive(user_prefs_store="rdbms"))
    modules = (Contacts,)

    async def setUp(self) -> None:
        await super().setUp()
        self.alice, self.bob = self.romeo, self.juliet
        self.kate = self.host.session(f"{KATE}/study")
        self.contacts: Any = self.host.host_types[0].modules[Contacts.name]
        self.contacts.subscriptions[ALICE, BOB] = "both"

    async def sets(self, payload: str, session: TestSession | None = None) -> domish.Element:
        reply = await (session or self.alice).asks(set_(payload))
        self.assertEqual("result", reply["type"], reply.toXml())
        return reply

    def same(self, expected: str, reply: domish.Element) -> None:
        self.assertEqual("result", reply["type"], reply.toXml())
        (payload,) = reply.elements()
        expected_payload = parse(f"<iq>{expected}</iq>").copy_tree().firstChildElement()
        self.assertEqual(canonical(expected_payload), canonical(payload), reply.toXml())

    async def new_bodies(self, owner: str = ALICE) -> list[str]:
        """What came into an archive since the last call."""
        rows = await self.archived(owner)
        bodies = [str(parse(row.stanza).body) for row in rows]
        await self.db.execute("DELETE FROM mam_message")
        return bodies

    def sends(self, sender: TestSession, recipient: str, body: str) -> None:
        sender.sends(f"<message type='chat' to='{recipient}'><body>{body}</body></message>")


class Decisions(PreferencesTestCase):
    async def check(
        self,
        default: str,
        expected: tuple[int, int, int, int],
        always: tuple[str, ...] = (),
        never: tuple[str, ...] = (),
    ) -> None:
        """`expected`: which of Bob > Alice, Alice > Bob, Kate > Alice, Alice > Kate are in Alice's archive."""
        await self.sets(prefs(default, always, never))
        self.sends(self.bob, ALICE, "B>A")
        self.sends(self.alice, BOB, "A>B")
        self.sends(self.kate, ALICE, "K>A")
        self.sends(self.alice, KATE, "A>K")
        names = ("B>A", "A>B", "K>A", "A>K")
        wanted = [name for name, kept in zip(names, expected, strict=True) if kept]
        self.assertEqual(sorted(wanted), sorted(await self.new_bodies()), (default, always, never))

    async def test_the_truth_table(self) -> None:
        for default, always, never, expected in (
            ("roster", (), (), (1, 1, 0, 0)),
            ("roster", (KATE,), (), (1, 1, 1, 1)),
            ("roster", (), (BOB,), (0, 0, 0, 0)),
            ("never", (), (), (0, 0, 0, 0)),
            ("never", (BOB,), (), (1, 1, 0, 0)),
            ("always", (), (), (1, 1, 1, 1)),
            ("always", (), (KATE,), (1, 1, 0, 0)),
        ):
            await self.check(default, expected, always, never)  # type: ignore[arg-type]

    async def test_only_ones_own_archive_is_concerned(self) -> None:
        await self.sets(prefs("never"))
        self.sends(self.alice, BOB, "A>B")
        self.assertEqual(["A>B"], await self.new_bodies(BOB))

    async def test_all_messages_arrive_whatever_is_archived(self) -> None:
        await self.sets(prefs("never"))
        self.sends(self.bob, f"{ALICE}/orchard", "hi")
        received = await self.alice.receives("message")
        self.assertEqual("hi", str(received.body))
        self.assertEqual(["body"], [child.name for child in received.elements()])

    async def test_which_subscriptions_count(self) -> None:
        for subscription, kept in (("none", []), ("to", []), ("from", ["x"]), ("both", ["x"])):
            self.contacts.subscriptions[ALICE, BOB] = subscription
            await self.sets(prefs("roster"))
            self.sends(self.bob, ALICE, "x")
            self.assertEqual(kept, await self.new_bodies(), subscription)

    async def test_a_full_address_goes_before_the_bare_one(self) -> None:
        await self.check("always", (1, 0, 1, 1), always=(f"{BOB}/balcony",), never=(BOB,))
        await self.check("never", (0, 1, 0, 0), always=(BOB,), never=(f"{BOB}/balcony",))

    async def test_never_wins_over_always(self) -> None:
        await self.check("always", (0, 0, 1, 1), always=(BOB, KATE), never=(BOB,))

    async def test_each_set_replaces_all(self) -> None:
        await self.sets(prefs("never", (BOB,), (KATE,)))
        await self.check("always", (1, 1, 1, 1))

    async def test_without_preferences_all_is_archived(self) -> None:
        self.sends(self.kate, ALICE, "K>A")
        self.assertEqual(["K>A"], await self.new_bodies())

    async def test_a_removed_account_leaves_none(self) -> None:
        await self.sets(prefs("never"))
        await self.mam.remove_account(JID.parse(ALICE))
        self.assertEqual(0, await self.count("mam_preference"))
        self.sends(self.bob, ALICE, "x")
        self.assertEqual(["x"], await self.new_bodies())

    async def test_decided_at_once_when_all_is_in_memory(self) -> None:
        alice, bob = JID.parse(ALICE), JID.parse(BOB)
        first = self.mam.preferences.wants(alice, bob)
        assert not isinstance(first, bool)
        self.assertTrue(await first)
        self.assertIs(True, self.mam.preferences.wants(alice, bob))
        await self.sets(prefs("never"))
        self.assertIs(False, self.mam.preferences.wants(alice, bob))
        await self.sets(prefs("roster"))
        cold = self.mam.preferences.wants(alice, bob)
        assert not isinstance(cold, bool)
        self.assertTrue(await cold)
        self.assertIs(True, self.mam.preferences.wants(alice, bob))


class Without(ArchiveTestCase):
    config = MamConfig(pm=PmArchive(user_prefs_store="rdbms"))

    async def test_nobody_is_in_a_roster_that_is_not_kept(self) -> None:
        await self.romeo.asks(set_(prefs("roster", (KATE,))))
        self.romeo.sends(f"<message to='{BOB}'><body>x</body></message>")
        self.romeo.sends(f"<message to='{KATE}'><body>y</body></message>")
        self.assertEqual([KATE], [row.remote for row in await self.archived(ALICE)])


class Requests(PreferencesTestCase):
    async def test_before_the_first_set(self) -> None:
        for namespace in (NS, "urn:xmpp:mam:1"):
            self.same(prefs("always", namespace=namespace), await self.alice.asks(get(namespace)))
        self.assertEqual(0, await self.count("mam_archive"))

    async def test_what_was_set_is_answered_and_read_again(self) -> None:
        wanted = prefs("roster", (BOB, f"{KATE}/study"), (KATE, "capulet.example"))
        stored = prefs("roster", (BOB, f"{KATE}/study"), ("capulet.example", KATE))
        self.same(stored, await self.sets(wanted))
        self.same(stored, await self.alice.asks(get()))
        self.same(stored, await self.alice.asks(get(to=ALICE)))
        self.same(stored.replace(NS, "urn:xmpp:mam:1"), await self.alice.asks(get("urn:xmpp:mam:1")))
        # So does a node that has nothing in memory.
        other = await self.start_host()
        elsewhere = other.session(f"{ALICE}/elsewhere")
        self.same(stored, await elsewhere.asks(get()))

    async def test_both_lists_are_always_there(self) -> None:
        reply = await self.sets(f"<prefs xmlns='{NS}' default='never'/>")
        self.same(prefs("never"), reply)

    async def test_addresses_are_prepared_and_stored_once(self) -> None:
        reply = await self.sets(
            f"<prefs xmlns='{NS}' default='never'>\n  <always>\n <jid> ROMEO@Montague.LIT </jid>\n"
            "<jid>romeo@montague.lit</jid> <jid>b@montague.lit</jid></always>"
            "<never>\t<jid>B@montague.lit</jid><jid>b@montague.lit</jid></never>\n</prefs>"
        )
        self.same(prefs("never", ("romeo@montague.lit",), ("b@montague.lit",)), reply)
        self.assertEqual(3, await self.count("mam_preference"))

    async def test_what_is_no_address_is_passed_over(self) -> None:
        wanted = prefs("never", ("@", "", "a@b@", BOB, "x" * 5000), ("/",))
        self.same(prefs("never", (BOB,)), await self.sets(wanted))

    async def test_what_is_not_understood_is_passed_over(self) -> None:
        reply = await self.sets(
            f"<prefs xmlns='{NS}' default='never'>text<sometimes><jid>{BOB}</jid></sometimes>"
            f"<always xmlns='urn:other'><jid>{BOB}</jid></always>"
            f"<always><jid xmlns='urn:other'>{BOB}</jid></always></prefs>"
        )
        self.same(prefs("never"), reply)

    async def test_any_address_survives(self) -> None:
        always = tuple(f"{local.replace('&', '')}@b.example" for local in HOSTILE_LOCALPARTS)
        await self.sets(prefs("never", always))
        self.mam.preferences._known.clear()
        reply = await self.alice.asks(get())
        self.same(prefs("never", tuple(sorted(always))), reply)

    async def test_a_default_that_there_is_not(self) -> None:
        await self.sets(prefs("never"))
        for payload in (prefs("sometimes"), prefs(""), f"<prefs xmlns='{NS}'/>", prefs("ALWAYS")):
            reply = await self.alice.asks(set_(payload))
            self.assertEqual("internal-server-error", condition(reply))
            self.assertEqual("wait", reply.error["type"])
        self.same(prefs("never"), await self.alice.asks(get()))

    async def test_lists_are_bounded(self) -> None:
        many = tuple(f"u{number:05}@b.example" for number in range(MAX_ADDRESSES))
        self.same(prefs("never", many), await self.sets(prefs("never", many)))
        reply = await self.alice.asks(set_(prefs("always", many, ("one@more.example",))))
        self.assertEqual("not-acceptable", condition(reply))
        self.assertEqual("modify", reply.error["type"])
        self.same(prefs("never", many), await self.alice.asks(get()))

    async def test_as_many_addresses_as_a_stanza_has_room_for(self) -> None:
        many = tuple(f"u{number}@b.example" for number in range(9000))
        reply = await self.alice.asks(set_(prefs("never", many)))
        self.assertEqual("not-acceptable", condition(reply))
        self.assertEqual(0, await self.count("mam_preference"))
        # The same one over and over, and what is no address, take no room.
        self.same(prefs("never", (BOB,)), await self.sets(prefs("never", (BOB,) * 5000)))
        self.same(prefs("always"), await self.sets(prefs("always", (), ("@",) * 5000)))

    def test_ten_thousand_addresses(self) -> None:
        element = domish.Element((NS, "prefs"), attribs={"default": "always"})
        always = element.addElement("always")
        for number in range(10_000):
            always.addElement("jid", content=f"u{number}@b.example")
        with self.assertRaises(StanzaError) as caught:
            read_prefs(element)
        self.assertEqual("not-acceptable", caught.exception.condition)

    async def test_strangers(self) -> None:
        for request in (get(to=ALICE), set_(prefs("never"), to=ALICE)):
            reply = await self.bob.asks(request)
            self.assertEqual("not-allowed", condition(reply))
            self.assertEqual("The action is not allowed.", text_of(reply))
        self.assertEqual(0, await self.count("mam_preference"))

    async def test_access_rules(self) -> None:
        host_type = self.host.host_types[0]

        def rule(name: str, value: str) -> None:
            config: Any = type("Config", (), {})()
            config.access = Access({}, {name: (AccessClause(acl="all", value=value),)})
            config.shapers = {}
            host_type.config = config

        rule("mam_get_prefs", "allow")
        self.assertEqual("result", (await self.bob.asks(get(to=ALICE)))["type"])
        self.assertEqual("not-allowed", condition(await self.bob.asks(set_(prefs("never"), to=ALICE))))
        rule("mam_set_prefs", "deny")
        self.assertEqual("not-allowed", condition(await self.alice.asks(set_(prefs("never")))))
        self.assertEqual("result", (await self.alice.asks(get()))["type"])

    async def test_two_sets_at_a_time_do_not_mix(self) -> None:
        first, second = prefs("never", (BOB,)), prefs("roster", (KATE,), (BOB,))
        other = self.host.session(f"{ALICE}/garden")
        for _ in range(5):
            answers = [Deferred.fromCoroutine(s.asks(set_(p))) for s, p in ((self.alice, first), (other, second))]
            for answer, payload in zip(answers, (first, second), strict=True):
                self.same(payload, await answer)
            self.mam.preferences._known.clear()
            reply = await self.alice.asks(get())
            (found,) = reply.elements()
            both = [canonical(parse(f"<iq>{p}</iq>").copy_tree().firstChildElement()) for p in (first, second)]
            self.assertIn(canonical(found), both)

    async def test_an_archive_that_another_node_has_removed(self) -> None:
        await self.sets(prefs("never"))
        other = await self.start_host()
        await other.host_types[0].modules["mod_mam_meta"].remove_account(JID.parse(ALICE))  # type: ignore[attr-defined]
        self.assertEqual("resource-constraint", condition(await self.alice.asks(set_(prefs("roster")))))
        self.same(prefs("roster"), await self.sets(prefs("roster")))
        self.assertEqual(1, await self.count("mam_preference"))


class Memory(PreferencesTestCase):
    def preferences(self, clock: Clock, **options: Any) -> Preferences:
        """A second node's."""
        context = dataclasses.replace(self.mam.context, clock=clock)
        return Preferences(context, self.mam.owners, ACCOUNT, enabled=True, **options)

    async def wants(self, preferences: Preferences) -> tuple[bool, bool]:
        """The decision about messages with Bob, and whether it was there at once."""
        answer = preferences.wants(JID.parse(ALICE), JID.parse(BOB))
        return (answer, True) if isinstance(answer, bool) else (await answer, False)

    async def test_what_was_set_elsewhere_is_noticed_in_time(self) -> None:
        clock = Clock()
        preferences = self.preferences(clock, lifetime_s=8 * 3600.0)
        self.assertEqual((True, False), await self.wants(preferences))
        await self.sets(prefs("never"))
        clock.advance(MAX_AGE_S - 1)
        self.assertEqual((True, True), await self.wants(preferences))
        clock.advance(1)
        self.assertEqual((False, False), await self.wants(preferences))
        self.assertEqual((False, True), await self.wants(preferences))

    async def test_sooner_when_the_configuration_says_so(self) -> None:
        clock = Clock()
        preferences = self.preferences(clock, lifetime_s=10.0)
        self.assertEqual((True, False), await self.wants(preferences))
        clock.advance(10)
        self.assertEqual((True, False), await self.wants(preferences))

    async def test_memory_is_bounded(self) -> None:
        preferences = self.preferences(Clock(), max_cached=1)
        self.assertEqual((True, False), await self.wants(preferences))
        other = preferences.wants(JID.parse(BOB), JID.parse(ALICE))
        assert not isinstance(other, bool)
        await other
        self.assertEqual((True, False), await self.wants(preferences))


class NoStore(ArchiveTestCase):
    async def test_nothing_can_be_set(self) -> None:
        for namespace in (NS, "urn:xmpp:mam:1"):
            reply = await self.romeo.asks(set_(prefs("never", namespace=namespace)))
            self.assertEqual("feature-not-implemented", condition(reply))
            self.assertEqual("cancel", reply.error["type"])
            answer = await self.romeo.asks(get(namespace))
            self.assertEqual("result", answer["type"])
            self.assertEqual("always", answer.firstChildElement()["default"])
        self.romeo.sends(f"<message to='{BOB}'><body>x</body></message>")
        self.assertEqual(1, len(await self.archived(ALICE)))


class Rooms(ArchiveTestCase):
    config = MamConfig(muc=MucArchive(host="rooms.@HOST@", user_prefs_store="rdbms"))

    async def setUp(self) -> None:
        await super().setUp()
        self.room = JID.parse("coven@rooms.montague.example")
        self.host.domains.register_subdomain("basic", self.host.host_types[0], "rooms.@HOST@")
        self.rooms = self.host.host_types[0].require(RoomArchive)
        await self.rooms.load(self.room, "montague.example")

    async def asks(self, payload: str, *, is_owner: bool, type_: str = "set") -> Any:
        stanza = parse(f"<iq type='{type_}' id='1' from='{ALICE}/orchard'>{payload}</iq>")
        iq = IQ(stanza, RoutingContext(JID.parse(f"{ALICE}/orchard"), self.room))
        return await self.rooms.answer(self.room, "montague.example", iq, is_owner=is_owner)

    async def say(self, sender: str) -> bool:
        """A message of an occupant; whether it was archived."""
        ticket = CommitTicket()
        stanza = parse(f"<message type='groupchat' from='{self.room.bare}/{sender}'><body>x</body></message>")
        self.rooms.store(self.room, JID.parse(f"{sender}/r"), stanza, ticket)
        await self.settle()
        return bool(await self.db.execute("DELETE FROM mam_message"))

    async def test_the_owner_sets_and_all_may_get(self) -> None:
        wanted = prefs("never", (f"{self.room.bare}/{BOB}",))
        answer = await self.asks(wanted, is_owner=True)
        expected = canonical(parse(f"<iq>{wanted}</iq>").copy_tree().firstChildElement())
        self.assertEqual(expected, canonical(answer))
        self.assertEqual(expected, canonical(await self.asks(f"<prefs xmlns='{NS}'/>", is_owner=False, type_="get")))
        ((kind,),) = await self.db.query("SELECT kind FROM mam_archive")
        self.assertEqual(ROOM, kind)

    async def test_nobody_else_sets(self) -> None:
        with self.assertRaises(StanzaError) as caught:
            await self.asks(prefs("never"), is_owner=False)
        self.assertEqual("not-allowed", caught.exception.condition)
        self.assertEqual("The action is not allowed. Not a room owner.", caught.exception.text)
        self.assertTrue(await self.say(BOB))

    async def test_what_is_archived(self) -> None:
        occupant = f"{self.room.bare}/{BOB}"
        for payload, of_bob, of_kate in (
            (prefs("always"), True, True),
            (prefs("roster"), True, True),
            (prefs("never"), False, False),
            (prefs("never", (occupant,)), True, False),
            (prefs("roster", (), (occupant,)), False, True),
            (prefs("always", (occupant,), (self.room.bare,)), True, False),
        ):
            await self.asks(payload, is_owner=True)
            self.assertEqual((of_bob, of_kate), (await self.say(BOB), await self.say(KATE)), payload)
