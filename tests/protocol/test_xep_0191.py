"""XEP-0191 Blocking Command."""

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import quoteattr

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.core.interfaces import Blocklist
from dynxmpp.jid import JID
from dynxmpp.module import Direction, Filter, LookupCombiner, Module, Phase
from dynxmpp.modules.blocking import Blocking, BlockingConfig, forbids
from dynxmpp.wire.errors import Unavailable
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import TestSession
from tests.protocol.support import HOSTILE_LOCALPARTS, Contacts, StoredDialogues, condition

BLOCKLIST = "<iq type='get' id='blocklist1'><blocklist xmlns='urn:xmpp:blocking'/></iq>"


def items(*jids: str) -> str:
    return "".join(f"<item jid={quoteattr(jid)}/>" for jid in jids)


class Archive(Module):
    """Notes what would be archived for the recipient."""

    name = "mod_archive"

    def __init__(self, context: Any, config: Any) -> None:
        super().__init__(context, config)
        self.archived: list[str] = []

    def filters(self) -> Iterable[Filter]:
        for direction in (Direction.OUTGOING, Direction.INCOMING):
            yield Filter(direction, Phase.ARCHIVE, self.archive)

    def archive(self, stanza: Stanza, context: Any) -> Stanza:
        self.archived.append(stanza.attributes.get("id", ""))
        return stanza


class BlockingTestCase(StoredDialogues):
    modules = [Blocking, Contacts, Archive]
    domains = ("capulet.com", "montague.net")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.juliet = self.host.session("juliet@capulet.com/chamber")
        self.balcony = self.host.session("juliet@capulet.com/balcony")
        self.romeo = self.host.session("romeo@montague.net/orchard")
        await self.host.settle()

    async def change(self, command: str, *jids: str, by: TestSession | None = None) -> None:
        session = by or self.juliet
        xml = f"<iq type='set' id='c'><{command} xmlns='urn:xmpp:blocking'>{items(*jids)}</{command}></iq>"
        reply = await session.asks(xml)
        self.assertEqual(("result", []), (reply["type"], reply.children), reply.toXml())

    async def block(self, *jids: str, by: TestSession | None = None) -> None:
        await self.change("block", *jids, by=by)

    async def unblock(self, *jids: str, by: TestSession | None = None) -> None:
        await self.change("unblock", *jids, by=by)

    async def list_of(self, session: TestSession) -> list[str]:
        reply = await session.asks(BLOCKLIST)
        return [item["jid"] for item in reply.blocklist.elements()]


class Requests(BlockingTestCase):
    async def test_an_empty_list(self) -> None:
        await self.check(
            self.juliet,
            BLOCKLIST,
            """
            <iq type='result' id='blocklist1' from='juliet@capulet.com' to='juliet@capulet.com/chamber'>
              <blocklist xmlns='urn:xmpp:blocking'/>
            </iq>
            """,
        )

    async def test_block_and_list(self) -> None:
        await self.check(
            self.juliet,
            f"<iq type='set' id='block1'><block xmlns='urn:xmpp:blocking'>{items('romeo@montague.net')}</block></iq>",
            "<iq type='result' id='block1' from='juliet@capulet.com' to='juliet@capulet.com/chamber'/>",
        )
        await self.block("iago@shakespeare.lit", "romeo@montague.net")
        await self.check(
            self.juliet,
            BLOCKLIST,
            f"""
            <iq type='result' id='blocklist1' from='juliet@capulet.com' to='juliet@capulet.com/chamber'>
              <blocklist xmlns='urn:xmpp:blocking'>{items("iago@shakespeare.lit", "romeo@montague.net")}</blocklist>
            </iq>
            """,
        )

    async def test_unblock_one_many_all(self) -> None:
        await self.block("a@x.example", "b@x.example", "c@x.example", "d@x.example", "x.example")
        await self.unblock("a@x.example")
        self.assertEqual(["b@x.example", "c@x.example", "d@x.example", "x.example"], await self.list_of(self.juliet))
        await self.unblock("b@x.example", "x.example", "never@x.example")
        self.assertEqual(["c@x.example", "d@x.example"], await self.list_of(self.juliet))
        await self.unblock()
        self.assertEqual([], await self.list_of(self.juliet))

    async def test_addresses_are_prepared(self) -> None:
        await self.block("Romeo@MONTAGUE.net/Orchard", "romeo@montague.NET/Orchard")
        self.assertEqual(["romeo@montague.net/Orchard"], await self.list_of(self.juliet))
        await self.unblock("ROMEO@montague.net/Orchard")
        self.assertEqual([], await self.list_of(self.juliet))

    async def test_pushes_go_to_resources_that_have_asked_for_the_list(self) -> None:
        await self.list_of(self.balcony)
        for command, jids in [
            ("block", ["romeo@montague.net", "tybalt@capulet.com"]),
            ("unblock", ["romeo@montague.net"]),
            ("unblock", []),
        ]:
            await self.change(command, *jids)
            push = await self.balcony.receives("iq")
            self.assertEqual(("set", "juliet@capulet.com/balcony"), (push["type"], push["to"]))
            payload = next(push.elements())
            self.assertEqual((command, "urn:xmpp:blocking"), (payload.name, payload.uri))
            self.assertEqual(jids, [item["jid"] for item in payload.elements()])
            self.balcony.sends(f"<iq type='result' id='{push['id']}'/>")
        await self.host.silence(self.juliet, self.balcony, self.romeo)

    async def test_who_blocks_is_pushed_to_as_well(self) -> None:
        await self.list_of(self.juliet)
        ids = set()
        for jid in ("a@x.example", "b@x.example"):
            await self.block(jid)
            ids.add((await self.juliet.receives("iq"))["id"])
        self.assertEqual(2, len(ids))


class BadInput(BlockingTestCase):
    modules = [(Blocking, BlockingConfig(max_items=3)), Contacts, Archive]

    async def test_malformed_requests(self) -> None:
        for inner, expected in [
            ("<block xmlns='urn:xmpp:blocking'/>", "bad-request"),
            ("<block xmlns='urn:xmpp:blocking'><other/></block>", "bad-request"),
            ("<block xmlns='urn:xmpp:blocking'><item/></block>", "bad-request"),
            ("<block xmlns='urn:xmpp:blocking'><item xmlns='other' jid='a@b'/></block>", "bad-request"),
            ("<unblock xmlns='urn:xmpp:blocking'><other/></unblock>", "bad-request"),
            ("<unblock xmlns='urn:xmpp:blocking'><item/></unblock>", "bad-request"),
            (f"<block xmlns='urn:xmpp:blocking'>{items('a@b', '')}</block>", "jid-malformed"),
            (f"<block xmlns='urn:xmpp:blocking'>{items('@b')}</block>", "jid-malformed"),
            (f"<unblock xmlns='urn:xmpp:blocking'>{items('a@b/')}</unblock>", "jid-malformed"),
            ("<blocklist xmlns='urn:xmpp:blocking'/>", "service-unavailable"),
        ]:
            self.assertEqual(expected, await self.refusal(self.juliet, f"<iq type='set' id='1'>{inner}</iq>"), inner)
        self.assertEqual([], await self.list_of(self.juliet))

    async def test_somebody_elses_list(self) -> None:
        await self.block("romeo@montague.net")
        for session in (self.host.session("tybalt@capulet.com/x"), self.host.session("juliet@montague.net/chamber")):
            for type_, inner in [
                ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
                ("set", f"<block xmlns='urn:xmpp:blocking'>{items('a@b')}</block>"),
                ("set", "<unblock xmlns='urn:xmpp:blocking'/>"),
            ]:
                xml = f"<iq type='{type_}' id='1' to='juliet@capulet.com'>{inner}</iq>"
                self.assertEqual("forbidden", await self.refusal(session, xml))
        self.assertEqual(["romeo@montague.net"], await self.list_of(self.juliet))

    async def test_too_many(self) -> None:
        await self.block("a@x.example", "b@x.example")
        xml = (
            f"<iq type='set' id='1'><block xmlns='urn:xmpp:blocking'>{items('c@x.example', 'd@x.example')}</block></iq>"
        )
        self.assertEqual("policy-violation", await self.refusal(self.juliet, xml))
        self.assertEqual(["a@x.example", "b@x.example"], await self.list_of(self.juliet))
        await self.block("a@x.example", "c@x.example")

    async def test_sql_in_items(self) -> None:
        for jid in (
            "x.example/'; DROP TABLE blocklist; --",
            'x.example/","b',
            "x.example/{a,b}",
            "x.example/NULL",
            "x.example/\\",
            "x.example/%s",
            *(f"{name}@x.example" for name in HOSTILE_LOCALPARTS),
        ):
            await self.block(jid)
            self.assertEqual([jid], await self.list_of(self.juliet))
            await self.unblock(jid)
            self.assertEqual([], await self.list_of(self.juliet))

    async def test_sql_in_owners(self) -> None:
        for name in HOSTILE_LOCALPARTS:
            await self.block(f"{name}@x.example", by=self.host.session(f"{name}@capulet.com/x"))
        for name in HOSTILE_LOCALPARTS:
            found = await self.list_of(self.host.session(f"{name}@capulet.com/x"))
            self.assertEqual([f"{name}@x.example"], found)


class Inbound(BlockingTestCase):
    """Section 3.3: what a blocked contact sends."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.juliet.available = True
        await self.block("romeo@montague.net")

    async def test_messages_and_requests_are_refused_as_if_she_were_not_there(self) -> None:
        for to in ("juliet@capulet.com", "juliet@capulet.com/chamber", "juliet@capulet.com/gone"):
            for xml in (
                f"<message id='1' to='{to}'><body>hi</body></message>",
                f"<message id='1' type='headline' to='{to}'><body>hi</body></message>",
                f"<iq type='get' id='1' to='{to}'><query xmlns='jabber:iq:version'/></iq>",
                f"<iq type='set' id='1' to='{to}'><query xmlns='jabber:iq:version'/></iq>",
            ):
                self.romeo.sends(xml)
                reply = await self.romeo.receives()
                self.assertEqual(("service-unavailable", to), (condition(reply), reply["from"]))
                self.assertEqual([], [e for e in reply.error.elements() if e.name not in ("service-unavailable",)])
        await self.host.silence(self.juliet, self.balcony)

    async def test_presence_and_answers_end_in_silence(self) -> None:
        for to in ("juliet@capulet.com", "juliet@capulet.com/chamber"):
            for type_ in ("", "type='unavailable'", "type='subscribe'", "type='probe'", "type='unsubscribed'"):
                self.romeo.sends(f"<presence {type_} to='{to}'/>")
            self.romeo.sends(f"<iq type='result' id='1' to='{to}'/>")
            error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
            self.romeo.sends(f"<iq type='error' id='1' to='{to}'>{error}</iq>")
            self.romeo.sends(f"<message type='error' id='1' to='{to}'>{error}</message>")
        await self.host.silence(self.romeo, self.juliet, self.balcony)

    async def test_a_message_that_is_blocked_is_not_archived_for_her(self) -> None:
        self.romeo.sends("<message id='m' to='juliet@capulet.com'><body>hi</body></message>")
        self.assertEqual("service-unavailable", condition(await self.romeo.receives()))
        self.assertEqual(["m"], self.module("mod_archive").archived)  # once: his own outgoing message

    async def test_others_pass(self) -> None:
        for jid in ("benvolio@montague.net/x", "romeo@capulet.com/orchard"):
            self.host.session(jid).sends("<message id='1' to='juliet@capulet.com/chamber'/>")
            self.assertEqual(jid, (await self.juliet.receives("message"))["from"])

    async def test_after_unblocking_everything_passes(self) -> None:
        await self.unblock("romeo@montague.net")
        self.romeo.sends("<message id='1' to='juliet@capulet.com/chamber'/>")
        self.romeo.sends("<presence to='juliet@capulet.com/chamber'/>")
        self.assertEqual(["message", "presence"], [(await self.juliet.receives()).name for _ in range(2)])


class Outbound(BlockingTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.block("romeo@montague.net")

    async def test_example_9(self) -> None:
        self.juliet.sends("<message to='romeo@montague.net' id='1'><body>Can you hear me now?</body></message>")
        reply = await self.juliet.receives("message")
        self.assertEqual(("error", "romeo@montague.net", "cancel"), (reply["type"], reply["from"], reply.error["type"]))
        self.assertEqual(
            [("not-acceptable", "urn:ietf:params:xml:ns:xmpp-stanzas"), ("blocked", "urn:xmpp:blocking:errors")],
            [(e.name, e.uri) for e in reply.error.elements()],
        )
        await self.host.silence(self.romeo)
        self.assertEqual([], self.module("mod_archive").archived)

    async def test_all_kinds(self) -> None:
        for to in ("romeo@montague.net", "romeo@montague.net/orchard"):
            for xml in (
                f"<presence to='{to}'/>",
                f"<presence type='subscribe' to='{to}'/>",
                f"<iq type='get' id='1' to='{to}'><query xmlns='jabber:iq:version'/></iq>",
            ):
                self.juliet.sends(xml)
                self.assertEqual("not-acceptable", condition(await self.juliet.receives()))
            self.juliet.sends(f"<iq type='result' id='1' to='{to}'/>")
        await self.host.silence(self.romeo, self.juliet)

    async def test_every_resource_of_hers_is_bound_by_it(self) -> None:
        self.balcony.sends("<message to='romeo@montague.net' id='1'/>")
        self.assertEqual("not-acceptable", condition(await self.balcony.receives()))

    async def test_others_are_reached(self) -> None:
        benvolio = self.host.session("benvolio@montague.net/x")
        self.juliet.sends("<message to='benvolio@montague.net/x' id='1'/>")
        await benvolio.receives("message")


class Matching(BlockingTestCase):
    """Section 5."""

    async def blocked(self, *jids: str) -> list[str]:
        """Which of three senders a list stops."""
        await self.unblock()
        await self.block(*jids)
        stopped = []
        for session in self.senders:
            session.sends("<message id='1' to='juliet@capulet.com/chamber'/>")
            await self.host.settle()
            if session.received:
                self.assertEqual("service-unavailable", condition(session.received.popleft()))
                stopped.append(session.jid.full)
            else:
                self.assertEqual(session.jid.full, (await self.juliet.receives())["from"])
        return stopped

    async def test_what_an_item_stops(self) -> None:
        others = [self.host.session(jid) for jid in ("romeo@montague.net/town", "benvolio@montague.net/orchard")]
        self.senders = [self.romeo, *others]
        orchard, town, other = (
            "romeo@montague.net/orchard",
            "romeo@montague.net/town",
            "benvolio@montague.net/orchard",
        )
        for item, stopped in [
            ("romeo@montague.net/orchard", [orchard]),
            ("romeo@montague.net", [orchard, town]),
            ("montague.net/orchard", [orchard, other]),
            ("montague.net", [orchard, town, other]),
            ("net", []),
            ("sub.montague.net", []),
            ("romeo@capulet.com", []),
        ]:
            self.assertEqual(stopped, await self.blocked(item), item)

    async def test_oneself_and_ones_server_are_never_blocked(self) -> None:
        await self.block("capulet.com", "juliet@capulet.com", "juliet@capulet.com/balcony")
        self.juliet.sends("<message id='1' to='juliet@capulet.com/balcony'/>")
        await self.balcony.receives("message")
        self.assertEqual(3, len(await self.list_of(self.balcony)))
        xml = "<iq type='get' id='1' to='capulet.com'><query xmlns='urn:unknown'/></iq>"
        self.assertEqual("service-unavailable", await self.refusal(self.juliet, xml))
        server = JID.parse("capulet.com")
        message = Stanza("message", {"from": "capulet.com", "to": self.juliet.jid.full})
        self.host.router.route(message, server, self.juliet.jid)
        await self.juliet.receives("message")

    async def test_neighbours_in_the_own_domain_are_blocked_with_it(self) -> None:
        await self.block("capulet.com")
        tybalt = self.host.session("tybalt@capulet.com/x")
        self.assertEqual("service-unavailable", await self._sent(tybalt, "juliet@capulet.com/chamber"))
        self.assertEqual("not-acceptable", await self._sent(self.juliet, "tybalt@capulet.com/x"))

    async def _sent(self, session: TestSession, to: str) -> str:
        session.sends(f"<message id='1' to='{to}'/>")
        return condition(await session.receives())

    async def test_lists_of_namesakes_are_apart(self) -> None:
        namesake = self.host.session("juliet@montague.net/x")
        await self.block("romeo@montague.net")
        self.assertEqual([], await self.list_of(namesake))
        self.romeo.sends("<message id='1' to='juliet@montague.net/x'/>")
        await namesake.receives("message")


class Properties(TestCase):
    parts = st.sampled_from(["a", "b"])

    @given(
        st.tuples(parts | st.none(), parts, parts | st.none()), st.tuples(parts | st.none(), parts, parts | st.none())
    )
    def test_an_item_fits_when_each_part_it_has_is_the_same(self, item: Any, contact: Any) -> None:
        account = JID.of("me", "elsewhere")
        expected = all(part is None or part == other for part, other in zip(item, contact, strict=True))
        self.assertEqual(expected, forbids(frozenset({JID(*item).full}), account, JID(*contact)))


class Presence(BlockingTestCase):
    """What contacts see of blocking and unblocking."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        for session in (self.juliet, self.balcony):
            session.available = True
            session.presence = Stanza(
                "presence", {"from": session.jid.full}, b"<show>dnd</show>", ("jabber:client show",)
            )
        self.romeo.available = True

    async def test_a_contact_sees_her_go_and_come_back(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "from")
        await self.block("romeo@montague.net")
        gone = [await self.romeo.receives("presence") for _ in range(2)]
        self.assertEqual({"unavailable"}, {p["type"] for p in gone})
        await self.unblock("romeo@montague.net")
        back = [await self.romeo.receives("presence") for _ in range(2)]
        self.assertEqual(["dnd", "dnd"], [str(p.show) for p in back])
        for presences in (gone, back):
            self.assertEqual(
                {"juliet@capulet.com/chamber", "juliet@capulet.com/balcony"}, {p["from"] for p in presences}
            )
            self.assertEqual({"romeo@montague.net"}, {p["to"] for p in presences})
        await self.host.silence(self.romeo)

    async def test_who_does_not_get_her_presence_sees_nothing(self) -> None:
        for subscription in ("none", "to"):
            self.subscribe("juliet@capulet.com", "romeo@montague.net", subscription)
            self.subscribe("romeo@montague.net", "juliet@capulet.com", "both")
            await self.block("romeo@montague.net", "benvolio@montague.net")
            await self.unblock()
        await self.host.silence(self.romeo)

    async def test_only_what_changes_is_seen(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "both")
        await self.unblock("romeo@montague.net")
        await self.block("romeo@montague.net/orchard")
        self.assertEqual(2, len(self.romeo.received))
        self.romeo.received.clear()
        await self.block("romeo@montague.net/orchard")
        await self.host.silence(self.romeo)

    async def test_who_is_still_blocked_otherwise_does_not_see_her_come_back(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "both")
        await self.block("romeo@montague.net", "montague.net")
        self.romeo.received.clear()
        await self.unblock("romeo@montague.net")
        await self.host.silence(self.romeo)

    async def test_a_domain_is_all_its_contacts(self) -> None:
        benvolio, tybalt = self.host.session("benvolio@montague.net/x"), self.host.session("tybalt@capulet.com/x")
        for contact in ("romeo@montague.net", "benvolio@montague.net", "tybalt@capulet.com"):
            self.subscribe("juliet@capulet.com", contact, "from")
        benvolio.available = tybalt.available = True
        await self.block("montague.net", "romeo@montague.net")
        self.assertEqual([2, 2], [len(s.received) for s in (self.romeo, benvolio)])
        await self.host.silence(tybalt)

    async def test_a_resource_alone(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "from")
        town = self.host.session("romeo@montague.net/town")
        town.available = True
        for item in ("romeo@montague.net/town", "montague.net/town"):
            await self.block(item)
            self.assertEqual({item.rpartition("/")[2]}, {JID.parse(p["to"]).resource for p in town.received})
            town.received.clear()
            await self.unblock()
            self.assertEqual(2, len(town.received))
            town.received.clear()
        await self.host.silence(self.romeo)

    async def test_resources_that_are_not_available_show_nothing(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "both")
        self.balcony.available = False
        await self.block("romeo@montague.net")
        self.assertEqual(["juliet@capulet.com/chamber"], [p["from"] for p in self.romeo.received])


class Memory(BlockingTestCase):
    modules = [(Blocking, BlockingConfig(cache_size=2)), Contacts, Archive]

    def watch_queries(self) -> list[str]:
        """Whose lists are read from now on."""
        asked: list[str] = []
        module = self.module("mod_blocking")
        query = module.database.query

        class Watched:
            def __getattr__(self, name: str) -> Any:
                return getattr(outer.db, name)

            async def query(self, sql: str, params: Any = ()) -> Any:
                domains, names = ([item.strip('"') for item in array.strip("{}").split(",")] for array in params)
                asked.extend(f"{name}@{domain}" for name, domain in zip(names, domains, strict=True))
                return await query(sql, params)

        outer = self
        module._rows._database = Watched()
        return asked

    async def message(self, to: str) -> None:
        self.romeo.sends(f"<message id='1' to='{to}'/>")
        self.assertEqual("service-unavailable", condition(await self.romeo.receives()))

    async def test_accounts_with_sessions_cost_no_query(self) -> None:
        asked = self.watch_queries()
        for _ in range(3):
            self.romeo.sends("<message id='1' to='juliet@capulet.com/chamber'/>")
            await self.juliet.receives("message")
        self.assertEqual([], asked)

    async def test_of_others_the_least_recently_used_is_read_again(self) -> None:
        asked = self.watch_queries()
        for name in ("a", "b", "a", "c", "a", "b"):
            await self.message(f"{name}@capulet.com")
        self.assertEqual(["a@capulet.com", "b@capulet.com", "c@capulet.com", "b@capulet.com"], asked)

    async def test_many_who_wait_for_one_list_are_answered_by_one_query(self) -> None:
        asked = self.watch_queries()
        senders = [self.host.session(f"romeo@montague.net/{n}") for n in range(5)]
        for sender in senders:
            sender.sends("<message id='1' to='cold@capulet.com'/>")
        for sender in senders:
            await sender.receives("message")
        self.assertEqual(["cold@capulet.com"], asked)

    async def test_a_session_is_held_to_the_list_from_its_first_stanza(self) -> None:
        await self.block("romeo@montague.net")
        for session in (self.juliet, self.balcony):
            session.leaves()
        self.module("mod_blocking")._forget("juliet@capulet.com")
        fresh = self.host.session("juliet@capulet.com/fresh")
        fresh.sends("<message id='1' to='romeo@montague.net/orchard'/>")
        self.assertEqual("not-acceptable", condition(await fresh.receives()))
        await self.host.silence(self.romeo)

    async def test_lists_outlive_sessions_and_memory(self) -> None:
        await self.block("romeo@montague.net")
        for session in (self.juliet, self.balcony):
            session.leaves()
        for forgotten in (False, True):
            if forgotten:
                self.module("mod_blocking")._forget("juliet@capulet.com")
            self.assertEqual("service-unavailable", condition(await self._answer("juliet@capulet.com")))

    async def _answer(self, to: str) -> Any:
        self.romeo.sends(f"<iq type='get' id='1' to='{to}'><blocklist xmlns='urn:xmpp:blocking'/></iq>")
        return await self.romeo.receives()

    async def test_a_list_that_changes_while_it_is_read_is_read_again(self) -> None:
        module = self.module("mod_blocking")
        module._forget("juliet@capulet.com")
        held: Deferred[None] = Deferred()
        query, db = module.database.query, module.database

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(db, name)

            async def query(self, sql: str, params: Any = ()) -> Any:
                rows = await query(sql, params)
                await held
                return rows

        rows, module._rows = module._rows, LookupCombiner(Slow(), module._rows._sql)  # type: ignore[arg-type]
        old = Deferred.fromCoroutine(module.load(self.juliet.jid.to_bare()))
        await db.query("SELECT 1")
        module._rows = rows
        await self.block("romeo@montague.net")
        held.callback(None)
        await old
        self.assertTrue(module.blocks(self.juliet.jid, self.romeo.jid))

    async def test_without_the_list_nothing_passes(self) -> None:
        class Away:
            async def query(self, sql: str, params: Any = ()) -> Any:
                raise Unavailable("away")

            def call_soon(self, function: Any) -> None:
                function()

        self.module("mod_blocking")._rows._database = Away()
        cold = self.host.session("cold@capulet.com/x")
        await self.host.slow_lane.when_idle()
        await self.assertFailure(self.host.background.pop(), Unavailable)
        self.romeo.sends("<message id='1' to='cold@capulet.com/x'/>")
        self.assertEqual("resource-constraint", condition(await self.romeo.receives()))
        cold.sends("<message id='1' to='romeo@montague.net/orchard'/>")
        self.assertEqual("resource-constraint", condition(await cold.receives()))
        await self.host.silence(cold, self.romeo)


class ForOthers(BlockingTestCase):
    """Blocklist, which the presence module asks."""

    async def test_blocks(self) -> None:
        book = self.host.host_types[0].require(Blocklist)
        account = JID.parse("cold@capulet.com")
        self.assertIsNone(book.blocks(account, self.romeo.jid))
        await book.load(account)
        self.assertIs(False, book.blocks(account, self.romeo.jid))
        await self.block("romeo@montague.net")
        self.assertIs(True, book.blocks(self.juliet.jid, self.romeo.jid))
        self.assertIs(False, book.blocks(self.juliet.jid, JID.parse("capulet.com")))


class Removal(BlockingTestCase):
    async def test_of_a_domain(self) -> None:
        await self.block("romeo@montague.net")
        await self.block("juliet@capulet.com", by=self.romeo)
        await self.check_removal(Blocking, "capulet.com", "montague.net")
        self.assertEqual([], await self.list_of(self.juliet))
        self.assertEqual(["juliet@capulet.com"], await self.list_of(self.romeo))

    async def test_of_an_account_in_memory(self) -> None:
        await self.block("romeo@montague.net")
        await self.db.execute("DELETE FROM blocklist WHERE username = %s", ("juliet",))
        self.assertEqual(["romeo@montague.net"], await self.list_of(self.juliet))
        await self.module("mod_blocking").remove_account(self.juliet.jid.to_bare())
        self.assertEqual([], await self.list_of(self.juliet))
