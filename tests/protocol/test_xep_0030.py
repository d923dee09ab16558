"""XEP-0030 Service Discovery, XEP-0157 Contact Addresses, and that all modules announce what they answer."""

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.core.interfaces import AccountNodes
from dynxmpp.core.iq_registry import Target
from dynxmpp.jid import JID
from dynxmpp.module import IQ, Module, ModuleContext, iq_get
from dynxmpp.modules.blocking import Blocking
from dynxmpp.modules.caps import Caps
from dynxmpp.modules.disco import Disco, DiscoConfig, ServerInfo
from dynxmpp.modules.entity_time import EntityTime
from dynxmpp.modules.last_activity import LastActivity
from dynxmpp.modules.ping import Ping
from dynxmpp.modules.private import Private
from dynxmpp.modules.register import Register
from dynxmpp.modules.vcard import VCard
from dynxmpp.modules.version import Version
from dynxmpp.protocol.disco_info import NS_DISCO_INFO, NS_DISCO_ITEMS, DiscoInfo, Identity, InfoForm
from tests.fixtures.dialogue import Host
from tests.protocol.support import HOSTILE, Contacts, Dialogues, condition

INFO = f"<query xmlns='{NS_DISCO_INFO}'/>"
ITEMS = f"<query xmlns='{NS_DISCO_ITEMS}'/>"


class Rooms(Module):
    """A service under a subdomain, which answers for itself."""

    name = "mod_rooms"
    subdomain = "rooms.@HOST@"

    @iq_get(NS_DISCO_INFO, "query", at=Target.SERVICE)
    def on_info(self, iq: IQ) -> domish.Element:
        return DiscoInfo((Identity("conference", "text"),), (NS_DISCO_INFO,)).to_element()


class Fixed(Module):
    """A service of a name of its own."""

    name = "mod_fixed"
    subdomain = "directory.example"


class Nodes(Module):
    """Accounts with a node that one friend may see."""

    name = "mod_nodes"
    identities = (Identity("pubsub", "pep"),)

    def __init__(self, context: ModuleContext, config: Any) -> None:
        super().__init__(context, config)
        self.host_type.provide(AccountNodes, self)

    async def nodes(self, account: JID, asker: JID) -> Sequence[str]:
        return ["urn:tune"] if await self.node_info(account, "urn:tune", asker) else []

    async def node_info(self, account: JID, node: str, asker: JID) -> DiscoInfo | None:
        if node != "urn:tune" or asker.bare not in ("friend@montague.example", account.bare):
            return None
        return DiscoInfo((Identity("pubsub", "leaf"),), ("http://jabber.org/protocol/pubsub",))


class DiscoTestCase(Dialogues):
    modules = [Disco, Contacts, Ping, EntityTime, Version]

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.juliet = self.host.session("juliet@capulet.example/balcony")
        self.juliet.available = True

    async def items(self, request: str) -> list[tuple[str, str | None]]:
        reply = await self.romeo.asks(request)
        self.assertEqual("result", reply["type"], reply.toXml())
        return [(item["jid"], item.getAttribute("node")) for item in reply.query.elements()]


class Domain(DiscoTestCase):
    async def test_info(self) -> None:
        await self.check(
            self.romeo,
            f"<iq type='get' to='capulet.example' id='info1'>{INFO}</iq>",
            f"""
            <iq type='result' from='capulet.example' to='romeo@montague.example/orchard' id='info1'>
              <query xmlns='{NS_DISCO_INFO}'>
                <identity category='server' type='im' name='dynxmpp'/>
                <feature var='{NS_DISCO_INFO}'/>
                <feature var='{NS_DISCO_ITEMS}'/>
                <feature var='jabber:iq:version'/>
                <feature var='urn:xmpp:ping'/>
                <feature var='urn:xmpp:time'/>
              </query>
            </iq>
            """,
        )

    async def test_no_services_are_an_empty_list(self) -> None:
        await self.check(
            self.romeo,
            f"<iq type='get' to='capulet.example' id='items1'>{ITEMS}</iq>",
            f"""
            <iq type='result' from='capulet.example' to='romeo@montague.example/orchard' id='items1'>
              <query xmlns='{NS_DISCO_ITEMS}'/>
            </iq>
            """,
        )

    async def test_unknown_nodes(self) -> None:
        for node in ("x", "urn:x-dynxmpp:server#", "http://jabber.org/protocol/commands", "%s", "a;--"):
            for namespace in (NS_DISCO_INFO, NS_DISCO_ITEMS):
                request = f"<query xmlns='{namespace}' node='{node}'/>"
                xml = f"<iq type='get' to='capulet.example' id='1'>{request}</iq>"
                self.assertEqual("item-not-found", await self.refusal(self.romeo, xml))

    async def test_an_empty_node_is_none(self) -> None:
        xml = f"<iq type='get' to='capulet.example' id='1'><query xmlns='{NS_DISCO_INFO}' node=''/></iq>"
        reply = await self.romeo.asks(xml)
        self.assertEqual("result", reply["type"])
        self.assertFalse(reply.query.hasAttribute("node"))

    async def test_nothing_can_be_set(self) -> None:
        for to in ("capulet.example", "romeo@montague.example"):
            for payload in (INFO, ITEMS):
                xml = f"<iq type='set' to='{to}' id='1'>{payload}</iq>"
                self.assertEqual("service-unavailable", await self.refusal(self.romeo, xml))


class Services(DiscoTestCase):
    modules = [
        (Disco, DiscoConfig(extra_domains=("news.@HOST@", "gateway.example"))),
        Rooms,
        Fixed,
    ]

    async def test_names_are_those_of_the_domain_that_was_asked(self) -> None:
        for domain in ("capulet.example", "montague.example"):
            self.assertEqual(
                ["directory.example", "gateway.example", f"news.{domain}", f"rooms.{domain}"],
                [jid for jid, _ in await self.items(f"<iq type='get' to='{domain}' id='1'>{ITEMS}</iq>")],
            )

    async def test_a_service_is_there_that_was_listed(self) -> None:
        reply = await self.romeo.asks(f"<iq type='get' to='rooms.capulet.example' id='1'>{INFO}</iq>")
        self.assertEqual("conference", reply.query.identity["category"])

    async def test_a_domain_of_the_same_name_is_not_listed_as_a_service(self) -> None:
        self.host.domains.insert("rooms.capulet.example", "basic")
        found = await self.items(f"<iq type='get' to='capulet.example' id='1'>{ITEMS}</iq>")
        self.assertNotIn("rooms.capulet.example", [jid for jid, _ in found])

    async def test_a_fixed_name_that_another_host_type_has_is_not_listed(self) -> None:
        self.host.add_host_type("other", [Disco, Fixed], ["verona.example"])
        found = await self.items(f"<iq type='get' to='verona.example' id='1'>{ITEMS}</iq>")
        self.assertEqual([], found)


class Account(DiscoTestCase):
    REQUEST = f"<iq type='get' to='juliet@capulet.example' id='info2'>{INFO}</iq>"

    async def test_info_for_who_gets_the_presence(self) -> None:
        for subscription in ("from", "both"):
            self.subscribe("juliet@capulet.example", "romeo@montague.example", subscription)
            await self.check(
                self.romeo,
                self.REQUEST,
                f"""
                <iq type='result' from='juliet@capulet.example' to='romeo@montague.example/orchard' id='info2'>
                  <query xmlns='{NS_DISCO_INFO}'>
                    <identity category='account' type='registered'/>
                    <feature var='{NS_DISCO_INFO}'/>
                    <feature var='{NS_DISCO_ITEMS}'/>
                    <feature var='urn:xmpp:ping'/>
                    <feature var='urn:xmpp:time'/>
                  </query>
                </iq>
                """,
            )

    async def test_others_learn_as_much_as_of_an_account_that_is_not_there(self) -> None:
        for subscription in ("none", "to"):
            self.subscribe("juliet@capulet.example", "romeo@montague.example", subscription)
            self.subscribe("romeo@montague.example", "juliet@capulet.example", "both")
            for payload in (INFO, ITEMS, INFO.replace("/>", " node='x'/>"), ITEMS.replace("/>", " node='x'/>")):
                answers = []
                for name in ("juliet", "nobody"):
                    reply = await self.romeo.asks(f"<iq type='get' to='{name}@capulet.example' id='1'>{payload}</iq>")
                    self.assertEqual("service-unavailable", condition(reply))
                    answers.append(reply.toXml().replace(f"{name}@", ""))
                self.assertEqual(answers[0], answers[1])

    async def test_the_owner_needs_no_subscription(self) -> None:
        for to in ("", "to='juliet@capulet.example'"):
            reply = await self.juliet.asks(f"<iq type='get' {to} id='1'>{INFO}</iq>")
            self.assertEqual(
                ("account", "registered"), (reply.query.identity["category"], reply.query.identity["type"])
            )

    async def test_available_resources(self) -> None:
        self.subscribe("juliet@capulet.example", "romeo@montague.example")
        self.host.session("juliet@capulet.example/chamber").available = True
        self.host.session("juliet@capulet.example/hidden")
        found = await self.items(f"<iq type='get' to='juliet@capulet.example' id='1'>{ITEMS}</iq>")
        self.assertEqual([("juliet@capulet.example/balcony", None), ("juliet@capulet.example/chamber", None)], found)

    async def test_unknown_nodes(self) -> None:
        for namespace in (NS_DISCO_INFO, NS_DISCO_ITEMS):
            for node in ("x", *(value.replace("'", "&apos;").replace('"', "&quot;") for value in HOSTILE)):
                xml = f"<iq type='get' id='1'><query xmlns='{namespace}' node='{node}'/></iq>"
                self.assertEqual("item-not-found", await self.refusal(self.juliet, xml), node)


class WithoutRoster(DiscoTestCase):
    modules = [Disco]

    async def test_only_the_owner_gets_an_answer(self) -> None:
        xml = f"<iq type='get' to='juliet@capulet.example' id='1'>{INFO}</iq>"
        self.assertEqual("service-unavailable", await self.refusal(self.romeo, xml))
        self.assertEqual("result", (await self.juliet.asks(xml))["type"])


class AccountsWithNodes(DiscoTestCase):
    modules = [Disco, Contacts, Nodes]

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.friend = self.host.session("friend@montague.example/x")

    async def test_the_account_is_what_its_nodes_make_it(self) -> None:
        reply = await self.juliet.asks(f"<iq type='get' id='1'>{INFO}</iq>")
        identities = [(e["category"], e["type"]) for e in reply.query.elements() if e.name == "identity"]
        self.assertEqual([("account", "registered"), ("pubsub", "pep")], identities)

    async def test_nodes_are_for_those_who_may_see_them(self) -> None:
        node = "<query xmlns='{}' node='urn:tune'/>"
        for namespace in (NS_DISCO_INFO, NS_DISCO_ITEMS):
            xml = f"<iq type='get' to='juliet@capulet.example' id='1'>{node.format(namespace)}</iq>"
            for session in (self.juliet, self.friend):
                reply = await session.asks(xml)
                self.assertEqual(("result", "urn:tune"), (reply["type"], reply.query["node"]))
            self.assertEqual("service-unavailable", await self.refusal(self.romeo, xml))

    async def test_items_without_resources_for_who_may_see_nodes_only(self) -> None:
        xml = f"<iq type='get' to='juliet@capulet.example' id='1'>{ITEMS}</iq>"
        items = [(i["jid"], i.getAttribute("node")) for i in (await self.friend.asks(xml)).query.elements()]
        self.assertEqual([("juliet@capulet.example", "urn:tune")], items)
        items = [(i["jid"], i.getAttribute("node")) for i in (await self.juliet.asks(xml)).query.elements()]
        self.assertEqual([("juliet@capulet.example/balcony", None), ("juliet@capulet.example", "urn:tune")], items)
        self.assertEqual("service-unavailable", await self.refusal(self.romeo, xml))


class ContactAddresses(DiscoTestCase):
    """XEP-0157, example 2."""

    modules = [
        (
            Disco,
            DiscoConfig(
                server_info=(
                    ServerInfo(name="abuse-addresses", urls=("mailto:abuse@shakespeare.lit",)),
                    ServerInfo(name="abuse-addresses", urls=("xmpp:abuse@shakespeare.lit",), modules=("mod_disco",)),
                    ServerInfo(name="sales-addresses", urls=("xmpp:bard@shakespeare.lit",), modules=("mod_muc_light",)),
                    ServerInfo(name="status-addresses", urls=("https://status.shakespeare.lit?a=1&b=2",)),
                )
            ),
        )
    ]

    async def test_info(self) -> None:
        await self.check(
            self.romeo,
            f"<iq type='get' to='montague.example' id='disco1'>{INFO}</iq>",
            f"""
            <iq type='result' from='montague.example' to='romeo@montague.example/orchard' id='disco1'>
              <query xmlns='{NS_DISCO_INFO}'>
                <identity category='server' type='im' name='dynxmpp'/>
                <feature var='{NS_DISCO_INFO}'/>
                <feature var='{NS_DISCO_ITEMS}'/>
                <x xmlns='jabber:x:data' type='result'>
                  <field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>
                  <field var='abuse-addresses'>
                    <value>mailto:abuse@shakespeare.lit</value>
                    <value>xmpp:abuse@shakespeare.lit</value>
                  </field>
                  <field var='status-addresses'><value>https://status.shakespeare.lit?a=1&amp;b=2</value></field>
                </x>
              </query>
            </iq>
            """,
        )

    async def test_not_for_accounts(self) -> None:
        reply = await self.romeo.asks(f"<iq type='get' id='1'>{INFO}</iq>")
        self.assertNotIn("x", [child.name for child in reply.query.elements()])


#: Features that say something else than "an IQ with this payload is answered", and what they say.
NO_PAYLOAD = {"http://jabber.org/protocol/caps": "the features of a stream have the server's capabilities"}


class Announcements(TestCase):
    """What is announced is answered, and what is answered is announced, module by module."""

    def test_all_modules(self) -> None:
        for module in (
            Disco,
            Caps,
            Ping,
            Version,
            EntityTime,
            Private,
            VCard,
            Blocking,
            LastActivity,
            Register,
        ):
            built = Host([module]).host_types[0].modules[module.name]
            routes = [route for route, _ in built.iq_routes()]
            answered = {route.payload.rpartition(" ")[0] for route in routes}
            announced = {*built.features, *built.account_features}
            self.assertEqual(announced - set(NO_PAYLOAD), answered, module.name)
            for route in routes:
                namespace = route.payload.rpartition(" ")[0]
                if Target.DOMAIN in route.at:
                    self.assertIn(namespace, built.features, module.name)
                self.assertIn(namespace, announced, module.name)
            self.assertTrue(announced, module.name)
            self.assertIsNotNone(module.xep, module.name)


class Elements(TestCase):
    def test_languages_and_forms_in_xml(self) -> None:
        info = DiscoInfo(
            (Identity("client", "pc", "el", "Ψ 0.11"),),
            ("a&b",),
            (InfoForm("urn:x", (("none", ()), ("os", ("<Mac>",)))),),
        )
        self.assertEqual(
            f"<query xmlns='{NS_DISCO_INFO}' node='n'>"
            "<identity category='client' type='pc' name='Ψ 0.11' xml:lang='el'/><feature var='a&amp;b'/>"
            "<x xmlns='jabber:x:data' type='result'>"
            "<field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>"
            "<field var='none'/><field var='os'><value>&lt;Mac&gt;</value></field></x></query>",
            info.to_element("n").toXml(),
        )
