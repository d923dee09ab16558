"""RFC 6121 2, Managing the Roster, with roster versioning (2.6, XEP-0237)."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.words.xish import domish

from dynxmpp.jid import JID
from dynxmpp.modules.roster import Roster, RosterConfig
from dynxmpp.protocol.subscription import State
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.dialogue import TestSession, canonical, parse
from tests.protocol.roster_dialogues import JULIET, ROMEO, RosterDialogues, item_of
from tests.protocol.support import condition

GET = "<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>"


def setting(item: str, id_: str = "set") -> str:
    return f"<iq type='set' id='{id_}'><query xmlns='jabber:iq:roster'>{item}</query></iq>"


class Answers(RosterDialogues):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.balcony = self.host.session(f"{JULIET}/balcony")
        self.chamber = self.host.session(f"{JULIET}/chamber")

    def same(self, expected: str, stanza: domish.Element) -> None:
        self.assertEqual(canonical(parse(expected).copy_tree()), canonical(stanza), stanza.toXml())

    async def interested(self) -> None:
        for session in (self.balcony, self.chamber):
            await session.asks(GET)
        await self.host.settle()


class RosterGet(Answers):
    async def test_an_empty_roster(self) -> None:
        self.same(
            f"<iq type='result' id='get' from='{JULIET}' to='{JULIET}/balcony'><query xmlns='jabber:iq:roster'/></iq>",
            await self.balcony.asks(GET),
        )

    async def test_items_with_all_that_they_have(self) -> None:
        await self.balcony.asks(setting("<item jid='romeo@example.net' name='Romeo'><group>Friends</group></item>"))
        await self.balcony.asks(setting("<item jid='mercutio@example.com'><group>A</group><group>B</group></item>"))
        await self.balcony.asks(setting("<item jid='benvolio.example'/>"))
        reply = await self.balcony.asks(GET)
        self.same(
            f"<iq type='result' id='get' from='{JULIET}' to='{JULIET}/balcony'><query xmlns='jabber:iq:roster'>"
            "<item jid='romeo@example.net' name='Romeo' subscription='none'><group>Friends</group></item>"
            "<item jid='mercutio@example.com' subscription='none'><group>A</group><group>B</group></item>"
            "<item jid='benvolio.example' subscription='none'/></query></iq>",
            reply,
        )

    async def test_it_survives_a_restart_and_markup_in_names(self) -> None:
        name = "<&>'\" %s \\ \u00e9\U0001f600"
        item = domish.Element(("jabber:iq:roster", "item"), attribs={"jid": "%s@example.net", "name": name})
        item.addElement("group", content=name)
        await self.balcony.asks(setting(item.toXml()))
        again = (await self.new_host()).session(f"{JULIET}/balcony")
        (found,) = (await again.asks(GET)).query.elements()
        self.assertEqual(("%s@example.net", name, name), (found["jid"], found["name"], str(found.group)))

    async def test_of_somebody_else(self) -> None:
        for request in (GET, setting("<item jid='a@b.example'/>"), setting("<item jid='a' subscription='remove'/>")):
            romeo = self.host.session(f"{ROMEO}/orchard")
            reply = await romeo.asks(request.replace("<iq ", f"<iq to='{JULIET}' "))
            self.assertEqual("forbidden", condition(reply))
        self.assertEqual({}, await self.items(self.balcony))

    async def test_those_who_ask_at_once_share_one_query(self) -> None:
        self.tap.hold()
        for session in (self.balcony, self.chamber):
            for number in range(5):
                session.sends(GET.replace("get'>", f"get{number}'>"))
        self.tap.let_go()
        await self.host.settle()
        self.assertEqual((5, 5), (len(self.balcony.received), len(self.chamber.received)))
        self.assertEqual(1, len(self.tap.statements))
        await self.balcony.asks(GET)
        self.assertEqual(1, len(self.tap.statements))

    async def test_a_failed_query_fails_all_who_wait_and_nobody_after(self) -> None:
        self.tap.hold()
        self.balcony.sends(GET)
        self.chamber.sends(GET)
        self.tap.away = "before"
        self.tap.let_go()
        for session in (self.balcony, self.chamber):
            self.assertEqual("resource-constraint", condition(await session.receives("iq")))
        self.tap.away = None
        self.assertEqual("result", (await self.balcony.asks(GET))["type"])


class RosterSet(Answers):
    async def test_a_change_is_pushed_to_interested_resources_only(self) -> None:
        await self.chamber.asks(GET)
        item = "<item jid='nurse@example.com' name='Nurse'><group>Servants</group></item>"
        self.same(
            f"<iq type='result' id='set' from='{JULIET}' to='{JULIET}/balcony'/>",
            await self.balcony.asks(setting(item)),
        )
        push = await self.chamber.receives("iq")
        id_ = push["id"]
        self.same(
            f"<iq type='set' id='{id_}' to='{JULIET}/chamber'><query xmlns='jabber:iq:roster'>"
            "<item jid='nurse@example.com' name='Nurse' subscription='none'><group>Servants</group></item>"
            "</query></iq>",
            push,
        )
        await self.host.silence(self.balcony, self.chamber)

    async def test_answers_to_pushes_are_taken_in_silence(self) -> None:
        await self.interested()
        await self.balcony.asks(setting("<item jid='nurse@example.com'/>"))
        for session in (self.balcony, self.chamber):
            push = await session.receives("iq")
            session.sends(f"<iq type='result' id='{push['id']}'/>")
            session.sends(
                f"<iq type='error' id='{push['id']}'><error type='cancel'>"
                "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            )
        await self.host.silence(self.balcony, self.chamber)

    async def test_an_update_replaces_name_and_groups_and_nothing_else(self) -> None:
        await self.store(JULIET, "romeo@example.net", State.BOTH)
        await self.balcony.asks(setting("<item jid='romeo@example.net' name='Romeo'><group>Lovers</group></item>"))
        await self.balcony.asks(
            setting("<item jid='Romeo@EXAMPLE.net' name='Him' subscription='none' ask='subscribe'/>")
        )
        (item,) = (await self.balcony.asks(GET)).query.elements()
        self.assertEqual({"jid": "romeo@example.net", "name": "Him", "subscription": "both"}, item.attributes)
        self.assertEqual([], list(item.elements()))

    async def test_removal(self) -> None:
        await self.interested()
        await self.balcony.asks(setting("<item jid='nurse@example.com'/>"))
        for session in (self.balcony, self.chamber):
            await session.receives("iq")
        reply = await self.balcony.asks(setting("<item jid='nurse@example.com' subscription='remove'/>"))
        self.assertEqual("result", reply["type"])
        for session in (self.balcony, self.chamber):
            self.assertEqual(("nurse@example.com", "remove", None), item_of(await session.receives("iq")))
        self.assertEqual({}, await self.items(self.balcony))
        reply = await self.balcony.asks(setting("<item jid='nurse@example.com' subscription='remove'/>"))
        self.assertEqual("item-not-found", condition(reply))

    async def test_what_is_refused(self) -> None:
        long = "x" * 1024
        many = "".join(f"<group>{number}</group>" for number in range(101))
        for item, expected in [
            ("", "bad-request"),
            ("<item jid='a@b.example'/><item jid='c@d.example'/>", "bad-request"),
            ("<item/>", "bad-request"),
            ("<other jid='a@b.example'/>", "bad-request"),
            ("<item xmlns='urn:x' jid='a@b.example'/>", "bad-request"),
            ("<item jid=''/>", "jid-malformed"),
            ("<item jid='a@b@c'/>", "jid-malformed"),
            ("<item jid='a@b.example/c'/>", "bad-request"),
            (f"<item jid='{JULIET}'/>", "not-allowed"),
            (f"<item jid='a@b.example' name='{long}'/>", "not-acceptable"),
            ("<item jid='a@b.example'><group/></item>", "not-acceptable"),
            (f"<item jid='a@b.example'><group>{long}</group></item>", "not-acceptable"),
            ("<item jid='a@b.example'><group>A</group><group>A</group></item>", "bad-request"),
            (f"<item jid='a@b.example'>{many}</item>", "not-acceptable"),
            ("<item jid='a@b.example' subscription='remove'/>", "item-not-found"),
        ]:
            self.assertEqual(expected, condition(await self.balcony.asks(setting(item))), item[:80])
        self.assertEqual(0, self.tap.writes())

    async def test_as_long_as_allowed(self) -> None:
        name = "x" * 1023
        item = f"<item jid='a@b.example' name='{name}'><group>{name}</group></item>"
        self.assertEqual("result", (await self.balcony.asks(setting(item)))["type"])


class FullRoster(Answers):
    config = RosterConfig(max_items=2)

    async def test_there_is_room_for_so_many_and_for_changes_of_those(self) -> None:
        for contact in "ab":
            await self.balcony.asks(setting(f"<item jid='{contact}@example.com'/>"))
        reply = await self.balcony.asks(setting("<item jid='c@example.com'/>"))
        self.assertEqual(("policy-violation", "modify"), (condition(reply), reply.error["type"]))
        self.assertEqual("result", (await self.balcony.asks(setting("<item jid='a@example.com' name='A'/>")))["type"])
        await self.balcony.asks(setting("<item jid='a@example.com' subscription='remove'/>"))
        self.assertEqual("result", (await self.balcony.asks(setting("<item jid='c@example.com'/>")))["type"])

    async def test_a_subscription_needs_room_too(self) -> None:
        for contact in "ab":
            await self.balcony.asks(setting(f"<item jid='{contact}@example.com'/>"))
        self.balcony.sends(f"<presence type='subscribe' id='x' to='{ROMEO}'/>")
        self.assertEqual("policy-violation", condition(await self.balcony.receives("presence")))
        self.assertIsNone(await self.stored(ROMEO, JULIET))


class Versioning(Answers):
    config = RosterConfig(versioning=True)

    async def get(self, session: TestSession, ver: str) -> domish.Element:
        return await session.asks(f"<iq type='get' id='v'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>")

    async def add(self, *contacts: str) -> None:
        for contact in contacts:
            await self.balcony.asks(setting(f"<item jid='{contact}@example.com'/>"))

    async def version(self) -> str:
        return str((await self.get(self.balcony, "")).query["ver"])

    def test_it_is_announced(self) -> None:
        self.assertEqual((b"<ver xmlns='urn:xmpp:features:rosterver'/>",), self.roster_module().stream_features)

    async def test_a_client_that_knows_all_gets_an_empty_result(self) -> None:
        await self.add("a", "b")
        version = await self.version()
        reply = await self.get(self.chamber, version)
        self.assertEqual(("result", []), (reply["type"], reply.children))
        self.host.clock.advance(1)
        await self.host.silence(self.chamber)

    async def test_an_empty_roster_has_a_version_too(self) -> None:
        version = await self.version()
        self.assertEqual([], (await self.get(self.chamber, version)).children)

    async def test_a_client_that_knows_some_gets_the_rest_as_pushes_after_the_result(self) -> None:
        await self.add("a", "b", "c", "d", "e")
        version = int(await self.version())
        await self.add("b", "a")
        reply = await self.get(self.chamber, str(version))
        self.assertEqual([], reply.children)
        self.host.clock.advance(0)
        pushes = [await self.chamber.receives("iq") for _ in "ba"]
        self.assertEqual(["b@example.com", "a@example.com"], [item_of(push)[0] for push in pushes])
        versions = [int(push.query["ver"]) for push in pushes]
        self.assertEqual(await self.version(), str(versions[-1]))
        self.assertTrue(version < versions[0] < versions[1])

    async def test_what_is_pushed_meanwhile_is_not_pushed_again(self) -> None:
        await self.add("a", "b", "c", "d", "e")
        version = await self.version()
        await self.add("a", "b")
        await self.get(self.chamber, version)
        await self.add("b")
        await self.balcony.asks(setting("<item jid='a@example.com' subscription='remove'/>"))
        self.host.clock.advance(0)
        pushes = [item_of(push)[:2] for push in self.chamber.received]
        self.assertEqual([("b@example.com", "none"), ("a@example.com", "remove")], pushes)

    async def test_after_a_removal_the_whole_roster_is_sent(self) -> None:
        await self.add("a", "b", "c", "d", "e")
        version = await self.version()
        await self.balcony.asks(setting("<item jid='a@example.com' subscription='remove'/>"))
        reply = await self.get(self.chamber, version)
        self.assertEqual(4, len(list(reply.query.elements())))

    async def test_when_most_has_changed_the_whole_roster_is_sent(self) -> None:
        await self.add("a", "b")
        version = await self.version()
        await self.add("a", "b")
        self.assertEqual(2, len(list((await self.get(self.chamber, version)).query.elements())))

    async def test_versions_that_never_were(self) -> None:
        await self.add("a")
        current = int(await self.version())
        for version in ("", "0", "1", "x", "-1", str(current + 1), "9" * 30, "\u0663", f" {current}"):
            self.assertIsNotNone((await self.get(self.chamber, version)).query, version)

    async def test_a_version_of_an_account_that_was_made_anew(self) -> None:
        await self.add("a", "b", "c")
        version = await self.version()
        for stored in Roster.stored:
            await self.db.execute(f"DELETE FROM {stored.table} WHERE {stored.domain} = 'capulet.example'")
        await self.roster_module("capulet.example").remove_account(JID.parse(JULIET))
        self.assertEqual([], list((await self.get(self.chamber, version)).query.elements()))
        romeo = self.host.session(f"{ROMEO}/orchard")
        romeo.sends(f"<presence type='subscribe' to='{JULIET}'/>")  # makes a version, and shows nothing
        await self.host.settle()
        self.assertEqual([], list((await self.get(self.chamber, version)).query.elements()))
        await self.add("d")
        self.assertEqual(1, len(list((await self.get(self.chamber, version)).query.elements())))

    async def test_a_client_that_does_not_ask_for_it(self) -> None:
        self.assertIsNotNone((await self.balcony.asks(GET)).query["ver"])


class WithoutVersioning(Answers):
    async def test_there_is_no_sign_of_it(self) -> None:
        self.assertEqual((), self.roster_module().stream_features)
        await self.interested()
        await self.balcony.asks(setting("<item jid='a@example.com'/>"))
        self.assertFalse((await self.chamber.receives("iq")).query.hasAttribute("ver"))
        reply = await self.balcony.asks("<iq type='get' id='v'><query xmlns='jabber:iq:roster' ver='0'/></iq>")
        self.assertEqual(1, len(list(reply.query.elements())))
        self.assertFalse(reply.query.hasAttribute("ver"))


class AtOnce(Answers):
    config = RosterConfig(versioning=True)

    async def set_at_once(self, items: list[tuple[TestSession, str]]) -> None:
        """Sends all sets, and returns when all are answered."""
        for number, (session, item) in enumerate(items):
            session.sends(setting(item, f"n{number}"))
        await self.host.settle()
        for session in (self.balcony, self.chamber):
            results = [stanza for stanza in session.received if not stanza["id"].startswith("push")]
            self.assertEqual({"result"}, {result["type"] for result in results})
            for result in results:
                session.received.remove(result)

    def pushes(self, session: TestSession) -> list[tuple[Any, ...]]:
        found = []
        for push in session.received:
            (item,) = push.query.elements()
            found.append((item["jid"], item.getAttribute("name"), item["subscription"], int(push.query["ver"])))
        return found

    async def test_two_resources_change_the_same_item(self) -> None:
        await self.interested()
        await self.set_at_once(
            [
                (self.balcony, "<item jid='romeo@example.net' name='Romeo'/>"),
                (self.chamber, "<item jid='romeo@example.net' name='Montague'/>"),
            ]
        )
        self.assertEqual(self.pushes(self.balcony), self.pushes(self.chamber))
        names = [push[1] for push in self.pushes(self.balcony)]
        self.assertEqual(["Romeo", "Montague"], names)
        self.assertEqual([("Montague",)], await self.db.query("SELECT name FROM rosters"))

    async def test_fifty_changes(self) -> None:
        await self.interested()
        sessions = (self.balcony, self.chamber)
        await self.set_at_once(
            [(sessions[n % 2], f"<item jid='c{n % 7}@example.com' name='n{n}'/>") for n in range(50)]
        )
        pushes = self.pushes(self.balcony)
        self.assertEqual(pushes, self.pushes(self.chamber))
        versions = [push[3] for push in pushes]
        self.assertEqual(50, len(set(versions)))
        self.assertEqual(sorted(versions), versions)
        last = {jid: name for jid, name, _, _ in pushes}
        self.assertEqual(last, dict(await self.db.query("SELECT contact, name FROM rosters")))
        stored = await self.db.query("SELECT max(version) FROM rosters")
        self.assertEqual([(versions[-1],)], stored)

    async def test_another_server_has_changed_the_roster(self) -> None:
        await self.interested()
        await self.balcony.asks(setting("<item jid='a@example.com'/>"))
        elsewhere = (await self.new_host()).session(f"{JULIET}/garden")
        await elsewhere.asks(setting("<item jid='b@example.com'/>"))
        await elsewhere.asks(setting("<item jid='a@example.com' subscription='remove'/>"))
        await self.balcony.asks(setting("<item jid='c@example.com'/>"))
        self.assertEqual({"b@example.com", "c@example.com"}, set(await self.items(self.balcony)))
        reply = await elsewhere.asks(setting("<item jid='a@example.com' subscription='remove'/>"))
        self.assertEqual("item-not-found", condition(reply))


class DatabaseAway(Answers):
    async def test_nothing_is_half_done(self) -> None:
        await self.interested()
        await self.balcony.asks(setting("<item jid='a@example.com'/>"))
        for session in (self.balcony, self.chamber):
            await session.receives("iq")
        for away, item in [
            ("before", "<item jid='b@example.com'/>"),
            ("before", "<item jid='a@example.com' name='A'/>"),
            ("before", "<item jid='a@example.com' subscription='remove'/>"),
        ]:
            self.tap.away = away
            reply = await self.balcony.asks(setting(item))
            self.assertEqual(("resource-constraint", "wait"), (condition(reply), reply.error["type"]))
            self.tap.away = None
            await self.host.silence(self.balcony, self.chamber)
            self.assertEqual({"a@example.com": ("none", None)}, await self.items(self.balcony))

    async def test_a_commit_that_nobody_heard_of_is_seen_by_the_next_who_looks(self) -> None:
        await self.interested()
        self.tap.away = "after"
        self.assertEqual(
            "resource-constraint", condition(await self.balcony.asks(setting("<item jid='b@example.com'/>")))
        )
        self.tap.away = None
        self.assertEqual({"b@example.com": ("none", None)}, await self.items(self.balcony))
        self.assertEqual("result", (await self.balcony.asks(setting("<item jid='c@example.com'/>")))["type"])

    async def test_a_pool_without_connections(self) -> None:
        await self.db.stop()
        for request in (GET, setting("<item jid='b@example.com'/>")):
            reply = await self.balcony.asks(request)
            self.assertEqual(("resource-constraint", "wait"), (condition(reply), reply.error["type"]))


class Removal(Answers):
    async def test_a_domain_goes_with_what_is_declared(self) -> None:
        await self.balcony.asks(setting("<item jid='a@example.com'/>"))
        romeo = self.host.session(f"{ROMEO}/orchard")
        await romeo.asks(setting("<item jid='a@example.com'/>"))
        tables = await self.db.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        self.assertEqual({s.table for s in Roster.stored}, {name for (name,) in tables} - {"schema_migrations"})
        for stored in Roster.stored:
            await self.db.execute(f"DELETE FROM {stored.table} WHERE {stored.domain} = 'capulet.example'")
        await self.roster_module("capulet.example").remove_domain("capulet.example")
        self.assertEqual({}, await self.items(self.balcony))
        self.assertEqual(["a@example.com"], list(await self.items(romeo)))


class Memory(Answers):
    config = RosterConfig(cache_size=2)

    def cached(self, account: str) -> bool:
        return self.roster_module("capulet.example").subscription(JID.parse(account), JID.parse("a@b")) is not None

    async def test_rosters_of_accounts_online_stay_and_others_are_bounded(self) -> None:
        module = self.roster_module("capulet.example")
        await module.load(JID.parse(JULIET))
        others = [f"other{number}@capulet.example" for number in range(4)]
        for other in others:
            await module.load(JID.parse(other))
        self.assertEqual([False, False, True, True], [self.cached(other) for other in others])
        self.assertTrue(self.cached(JULIET))
        self.balcony.leaves()
        self.assertTrue(self.cached(JULIET))
        self.chamber.leaves()
        for other in others[:2]:
            await module.load(JID.parse(other))
        self.assertFalse(self.cached(JULIET))

    async def test_a_session_that_comes_pins_what_is_cached(self) -> None:
        module = self.roster_module("capulet.example")
        await module.load(JID.parse("nurse@capulet.example"))
        self.host.session("nurse@capulet.example/kitchen")
        for number in range(4):
            await module.load(JID.parse(f"other{number}@capulet.example"))
        self.assertTrue(self.cached("nurse@capulet.example"))

    async def test_what_was_dropped_while_it_was_read_is_not_kept(self) -> None:
        module = self.roster_module("capulet.example")
        self.tap.hold()
        loading = Deferred.fromCoroutine(module.load(JID.parse(JULIET)))
        await module.remove_account(JID.parse(JULIET))
        self.tap.let_go()
        await gatherResults([loading])
        self.assertFalse(self.cached(JULIET))

    async def test_a_book_that_cannot_be_read(self) -> None:
        self.tap.away = "before"
        with self.assertRaises(Unavailable):
            await self.roster_module("capulet.example").load(JID.parse(JULIET))


class ManyInLine(Answers):
    async def test_those_who_are_refused_without_a_query_do_not_pile_up(self) -> None:
        senders = [self.host.session(f"{JULIET}/r{number}") for number in range(400)]
        self.balcony.sends(setting("<item jid='a@example.com'/>"))
        self.tap.hold()
        for number in range(2):
            for sender in senders:
                sender.sends(setting("<item jid='b@example.com' subscription='remove'/>", f"n{number}"))
        self.tap.let_go()
        await self.host.settle()
        for sender in senders:
            self.assertEqual({"item-not-found"}, {condition(reply) for reply in sender.received})
            self.assertEqual(2, len(sender.received))

    async def test_who_stops_waiting_leaves_the_line(self) -> None:
        rosters = self.roster_module("capulet.example")._rosters
        account = JID.parse(JULIET)
        order: list[str] = []
        gate: Deferred[None] = Deferred()

        async def wait(roster: object) -> None:
            await gate
            order.append("first")

        async def note(roster: object) -> None:
            order.append("third")

        first = Deferred.fromCoroutine(rosters.change(account, wait))
        second = Deferred.fromCoroutine(rosters.change(account, note))
        third = Deferred.fromCoroutine(rosters.change(account, note))
        second.cancel()
        await self.assertFailure(second, CancelledError)
        gate.callback(None)
        await gatherResults([first, third])
        self.assertEqual(["first", "third"], order)
        self.assertEqual(0, len(rosters._turns))

    async def test_nobody_gets_ahead_of_the_line(self) -> None:
        rosters = self.roster_module("capulet.example")._rosters
        account = JID.parse(JULIET)
        await rosters.load(account)
        order: list[str] = []
        gate: Deferred[None] = Deferred()

        async def change(name: str, again: str = "") -> None:
            async def note(roster: object) -> None:
                if name == "first":
                    await gate
                order.append(name)

            await rosters.change(account, note)
            if again:
                await change(again)

        changes = [change("first"), change("second", "fourth"), change("third")]
        done = gatherResults([Deferred.fromCoroutine(one) for one in changes])
        gate.callback(None)
        await done
        self.assertEqual(["first", "second", "third", "fourth"], order)
