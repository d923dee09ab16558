"""Wokkel handlers as they meet the router: keys instead of XPath, the slow path, answers now and later."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import TestCase
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.xmlstream import toResponse
from twisted.words.xish import domish, xpath
from wokkel.subprotocols import IQHandlerMixin, XMPPHandler

from dynxmpp.core.virtual_stream import VirtualStream, iq_keys
from dynxmpp.module import Module, Target, WokkelModule, iq_get, qualified
from tests.fixtures.dialogue import Host

NS = "urn:test"
GET = f"/iq[@type='get']/query[@xmlns='{NS}']"
SET = f"/iq[@type='set']/query[@xmlns='{NS}']"
QUERY = qualified(NS, "query")


def element(xml_type: str = "get", name: str = "query") -> domish.Element:
    iq = domish.Element((None, "iq"))
    iq["type"] = xml_type
    iq.addElement((NS, name))
    return iq


class IQKeys(TestCase):
    def test_the_usual_form(self) -> None:
        self.assertEqual([("get", QUERY)], iq_keys(GET))
        self.assertEqual([("set", QUERY)], iq_keys(SET))

    def test_either_quote(self) -> None:
        self.assertEqual([("get", QUERY)], iq_keys(GET.replace("'", '"')))

    def test_alternatives(self) -> None:
        for path in (f"{GET}|{SET}", f"{GET} | {SET}"):
            self.assertEqual([("get", QUERY), ("set", QUERY)], iq_keys(path))

    def test_names_and_namespaces_as_they_come(self) -> None:
        path = "/iq[@type='get']/v-card.x_1[@xmlns='http://example.org/a#b?c=d']"
        self.assertEqual([("get", qualified("http://example.org/a#b?c=d", "v-card.x_1"))], iq_keys(path))

    def test_paths_that_wokkels_own_handlers_use(self) -> None:
        from wokkel import disco, generic, ping

        for path, uri, name in [
            (disco.DISCO_INFO, "http://jabber.org/protocol/disco#info", "query"),
            (disco.DISCO_ITEMS, "http://jabber.org/protocol/disco#items", "query"),
            (generic.VERSION, "jabber:iq:version", "query"),
            (ping.PING_REQUEST, "urn:xmpp:ping", "ping"),
        ]:
            self.assertEqual([("get", qualified(uri, name))], iq_keys(path), path)

    def test_other_forms_stay_xpath(self) -> None:
        for path in [
            "/message",
            "/presence[@type='subscribe']",
            "/iq",
            "/iq[@type='get']",
            f"/iq/query[@xmlns='{NS}']",
            f"/iq[@type='result']/query[@xmlns='{NS}']",
            f"/iq[@type='get' or @type='set']/query[@xmlns='{NS}']",
            f"/iq[@type='get']/*[@xmlns='{NS}']",
            "/iq[@type='get']/query",
            f"{GET}/item",
            f"{GET}[@node='x']",
            f"{GET}|/message",
            f" {GET}",
            "//event/stream/authd",
            "",
        ]:
            self.assertIsNone(iq_keys(path), path)


class Observers(TestCase):
    def setUp(self) -> None:
        self.sent: list[domish.Element] = []
        self.stream = VirtualStream(self.sent.append)
        self.seen: list[domish.Element] = []

    def test_the_usual_form_is_no_general_observer(self) -> None:
        for path in (GET, xpath.internQuery(SET)):
            self.stream.addObserver(path, self.seen.append)
        self.assertEqual({("get", QUERY), ("set", QUERY)}, set(self.stream.iq_observers))
        self.assertFalse(self.stream.has_general_observers)
        self.stream.take(element())
        self.assertEqual([], self.seen)

    def test_another_form_is(self) -> None:
        self.stream.addObserver("/iq[@type='get']", self.seen.append)
        self.assertTrue(self.stream.has_general_observers)
        iq = element()
        self.assertFalse(self.stream.take(iq))
        self.assertFalse(self.stream.take(element("set")))
        self.assertEqual([iq], self.seen)

    def test_an_observer_with_arguments_keeps_them(self) -> None:
        seen: list[tuple[Any, ...]] = []
        self.stream.addObserver(GET, lambda *args: seen.append(args), 0, "extra")
        self.assertEqual({}, self.stream.iq_observers)
        iq = element()
        self.stream.take(iq)
        self.assertEqual([("extra", iq)], seen)

    def test_named_events_put_nothing_on_the_slow_path(self) -> None:
        self.stream.addObserver("//event/test", self.seen.append)
        self.assertFalse(self.stream.has_general_observers)
        what = element()
        self.stream.dispatch(what, "//event/test")
        self.assertEqual([what], self.seen)

    def test_a_onetime_observer_sees_one(self) -> None:
        self.stream.addOnetimeObserver(GET, self.seen.append)
        self.assertTrue(self.stream.has_general_observers)
        for _ in "12":
            self.stream.take(element())
        self.assertEqual(1, len(self.seen))

    def test_priorities(self) -> None:
        order: list[str] = []
        self.stream.addObserver("/iq", lambda iq: order.append("low"), -1)
        self.stream.addObserver("/iq", lambda iq: order.append("high"), 1)
        self.stream.take(element())
        self.assertEqual(["high", "low"], order)

    def test_removed_observers_see_nothing(self) -> None:
        for path in (GET, "/iq", f"{GET}|{SET}"):
            self.stream.addObserver(path, self.seen.append)
            self.stream.removeObserver(path, self.seen.append)
            self.assertEqual({}, self.stream.iq_observers, path)
            self.stream.take(element())
        self.assertEqual([], self.seen)

    def test_removing_one_leaves_that_of_another(self) -> None:
        def mine(iq: domish.Element) -> None: ...
        def other(iq: domish.Element) -> None: ...

        self.stream.addObserver(GET, mine)
        self.stream.removeObserver(GET, other)
        self.assertEqual({("get", QUERY): mine}, self.stream.iq_observers)

    def test_handled_is_what_an_observer_says_and_not_a_child_of_that_name(self) -> None:
        self.stream.addObserver("/iq", self.seen.append)
        self.assertFalse(self.stream.take(element(name="handled")))

        def handle(iq: Any) -> None:
            iq.handled = True

        self.stream.addObserver("/iq", handle)
        self.assertTrue(self.stream.take(element()))

    def test_only_elements_can_be_sent(self) -> None:
        for text in ("<iq/>", b"<iq/>", " "):
            self.assertRaises(TypeError, self.stream.send, text)
        iq = element()
        self.stream.send(iq)
        self.assertEqual([iq], self.sent)


class Answering(XMPPHandler, IQHandlerMixin):
    """The way most handlers of wokkel are written."""

    iqHandlers = {GET: "on_get", SET: "on_set"}

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[domish.Element]] = []

    def connectionInitialized(self) -> None:
        for path in self.iqHandlers:
            self.xmlstream.addObserver(path, self.handleRequest)

    def on_get(self, iq: domish.Element) -> Any:
        what = str(iq.query)
        if what == "later":
            self.waiting.append(Deferred())
            return self.waiting[-1]
        if what == "no":
            raise StanzaError("forbidden")
        if what == "bug":
            raise ZeroDivisionError
        if what == "unknown":
            raise NotImplementedError
        answer = domish.Element((NS, "query"))
        answer["to"] = iq["to"]
        answer["from"] = iq["from"]
        return answer

    def on_set(self, iq: domish.Element) -> None:
        return None


class General(XMPPHandler):
    """Looks at everything, and changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def connectionInitialized(self) -> None:
        for path in ("/message", "/presence", "/iq"):
            self.xmlstream.addObserver(path, self.look)

    def look(self, stanza: Any) -> None:
        self.seen.append(stanza.toXml())
        if stanza.getAttribute("id") == "bug":
            raise ZeroDivisionError
        if stanza.getAttribute("id") == "mine":
            stanza.handled = True
            reply = toResponse(stanza, stanza.getAttribute("type"))
            reply.addElement((None, "body"), content="hello")
            self.send(reply)
        stanza["id"] = "changed"
        stanza["from"] = "nobody@nowhere.example"
        stanza.children.clear()
        stanza.addElement((None, "evil"))


class Own(Module):
    """A module that answers what a general handler would see as well."""

    name = "mod_own"

    @iq_get("urn:own", "query", at=Target.DOMAIN)
    def answer(self, iq: Any) -> None:
        return None


class HandlersOnARouter(TestCase):
    async def start(self, *handlers: type[XMPPHandler], modules: tuple[type[Module], ...] = ()) -> list[Any]:
        wrapped = [WokkelModule.wrap(f"mod_{cls.__name__.lower()}", cls) for cls in handlers]
        self.host = await Host([*wrapped, *modules]).start()
        self.romeo = self.host.session("romeo@montague.example/orchard")
        self.juliet = self.host.session("juliet@capulet.example/balcony")
        found: dict[str, Any] = dict(self.host.host_types[0].modules)
        return [found[cls.name].handler for cls in wrapped]

    def query(self, what: str = "", id_: str = "1", type_: str = "get") -> str:
        return f"<iq type='{type_}' id='{id_}' to='capulet.example'><query xmlns='{NS}'>{what}</query></iq>"

    def condition(self, stanza: domish.Element) -> str:
        self.assertEqual("error", stanza["type"], stanza.toXml())
        return str(next(child.name for child in stanza.error.elements()))

    async def test_a_request_is_answered_from_the_domain_to_the_sender(self) -> None:
        await self.start(Answering)
        reply = await self.romeo.asks(self.query())
        self.assertEqual(
            ("result", "capulet.example", "romeo@montague.example/orchard"), (reply["type"], reply["from"], reply["to"])
        )
        self.assertEqual(
            ("capulet.example", "romeo@montague.example/orchard"), (reply.query["to"], reply.query["from"])
        )

    async def test_an_empty_result(self) -> None:
        await self.start(Answering)
        reply = await self.romeo.asks(self.query(type_="set"))
        self.assertEqual(("result", []), (reply["type"], list(reply.elements())))

    async def test_an_answer_that_comes_later(self) -> None:
        [handler] = await self.start(Answering)
        self.romeo.sends(self.query("later", "slow"))
        self.romeo.sends(self.query("", "quick"))
        self.assertEqual("quick", (await self.romeo.receives("iq"))["id"])
        handler.waiting.pop().callback(domish.Element((NS, "late")))
        reply = await self.romeo.receives("iq")
        self.assertEqual(("slow", "result", "late"), (reply["id"], reply["type"], reply.firstChildElement().name))
        await self.host.silence(self.romeo)

    async def test_an_error_that_comes_later(self) -> None:
        [handler] = await self.start(Answering)
        self.romeo.sends(self.query("later"))
        handler.waiting.pop().errback(StanzaError("gone"))
        self.assertEqual("gone", self.condition(await self.romeo.receives("iq")))

    async def test_what_a_handler_raises(self) -> None:
        await self.start(Answering)
        for what, expected in [("no", "forbidden"), ("unknown", "feature-not-implemented")]:
            self.assertEqual(expected, self.condition(await self.romeo.asks(self.query(what))))

    async def test_a_bug_harms_no_other_stanza(self) -> None:
        await self.start(Answering)
        self.assertEqual("internal-server-error", self.condition(await self.romeo.asks(self.query("bug"))))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual("result", (await self.romeo.asks(self.query()))["type"])

    async def test_a_handler_of_a_host_type_answers_on_its_domains_only(self) -> None:
        await self.start(Answering)
        self.host.add_host_type("other", [], ["other.example"])
        xml = self.query().replace("capulet.example", "other.example")
        self.assertEqual("service-unavailable", self.condition(await self.romeo.asks(xml)))

    async def test_a_handler_whose_observers_are_gone(self) -> None:
        [handler] = await self.start(Answering)
        for path in handler.iqHandlers:
            handler.xmlstream.removeObserver(path, handler.handleRequest)
        self.assertEqual("service-unavailable", self.condition(await self.romeo.asks(self.query())))

    async def test_an_account_and_a_resource_are_not_the_handlers_business(self) -> None:
        _, general = await self.start(Answering, General)
        for to in ("juliet@capulet.example", "juliet@capulet.example/gone"):
            xml = self.query().replace("capulet.example", to)
            self.assertEqual("service-unavailable", self.condition(await self.romeo.asks(xml)), to)
        self.romeo.sends("<message to='juliet@capulet.example/balcony'/>")
        await self.juliet.receives("message")
        self.assertEqual([], general.seen)

    async def test_general_observers_see_what_nothing_else_takes(self) -> None:
        _, general = await self.start(Answering, General, modules=(Own,))
        await self.romeo.asks(self.query())
        await self.romeo.asks("<iq type='get' id='2' to='capulet.example'><query xmlns='urn:own'/></iq>")
        self.assertEqual([], general.seen)
        reply = await self.romeo.asks("<iq type='get' id='3' to='capulet.example'><query xmlns='urn:x'/></iq>")
        self.assertEqual("service-unavailable", self.condition(reply))
        self.assertEqual(1, len(general.seen))
        self.assertIn("urn:x", general.seen[0])

    async def test_messages_and_presence_to_the_domain(self) -> None:
        [general] = await self.start(General)
        self.romeo.sends("<message id='mine' type='chat' to='capulet.example'><body>hi</body></message>")
        reply = await self.romeo.receives("message")
        self.assertEqual(("capulet.example", "hello"), (reply["from"], str(reply.body)))
        self.romeo.sends("<presence to='capulet.example'/>")
        await self.host.silence(self.romeo)
        self.assertEqual(2, len(general.seen))

    async def test_a_handler_that_changes_its_tree_harms_nobody(self) -> None:
        """What it did not handle goes back as it was sent, to who sent it."""
        await self.start(General)
        self.romeo.sends("<message id='m' to='capulet.example'><body>hi</body></message>")
        error = await self.romeo.receives("message")
        self.assertEqual("service-unavailable", self.condition(error))
        self.assertEqual(("m", ["body", "error"]), (error["id"], [child.name for child in error.elements()]))
        self.assertEqual("hi", str(error.body))

    async def test_a_general_handler_with_a_bug(self) -> None:
        await self.start(General)
        reply = await self.romeo.asks("<iq type='get' id='bug' to='capulet.example'><query xmlns='urn:x'/></iq>")
        self.assertEqual("service-unavailable", self.condition(reply))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_a_child_called_handled_hides_nothing(self) -> None:
        await self.start(General)
        self.romeo.sends("<message to='capulet.example'><handled xmlns='urn:x'/></message>")
        self.assertEqual("service-unavailable", self.condition(await self.romeo.receives("message")))

    async def test_what_a_handler_sends_without_addresses_is_logged_and_dropped(self) -> None:
        [handler] = await self.start(Answering)
        with capturedLogs() as events:
            for addresses in ({}, {"from": "capulet.example"}, {"from": "capulet.example", "to": "a@b@c"}):
                message = domish.Element((None, "message"), attribs=addresses)
                handler.send(message)
        names = [event["log_format"] for event in events if event["log_level"] is LogLevel.error]
        self.assertEqual(["handler_sent_unaddressed_stanza"] * 3, names)
        await self.host.silence(self.romeo, self.juliet)

    async def test_what_a_handler_sends_of_its_own_accord_arrives(self) -> None:
        [handler] = await self.start(Answering)
        addresses = {"from": "capulet.example", "to": "romeo@montague.example/orchard"}
        handler.send(domish.Element((None, "message"), attribs=addresses))
        self.assertEqual("capulet.example", (await self.romeo.receives("message"))["from"])
