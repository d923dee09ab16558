"""XEP-0049 Private XML Storage."""

from xml.sax.saxutils import escape, quoteattr

from twisted.trial.unittest import TestCase

from dynxmpp.modules.private import Private, PrivateConfig
from tests.fixtures.dialogue import TestSession, parse
from tests.protocol.support import HOSTILE, HOSTILE_LOCALPARTS, StoredDialogues

EXODUS = "<exodus xmlns='exodus:prefs'><defaultnick>Hamlet</defaultnick></exodus>"


class PrivateTestCase(StoredDialogues):
    modules = [Private]
    domains = ("shakespeare.lit", "other.example")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.hamlet = self.host.session("hamlet@shakespeare.lit/denmark")

    async def store(self, inner: str, session: TestSession | None = None) -> None:
        reply = await (session or self.hamlet).asks(
            f"<iq type='set' id='1001'><query xmlns='jabber:iq:private'>{inner}</query></iq>"
        )
        self.assertEqual(("result", []), (reply["type"], list(reply.elements())), reply.toXml())

    async def stored(self, inner: str, session: TestSession | None = None) -> str:
        """What is inside the answer, as text without white space between elements."""
        reply = await (session or self.hamlet).asks(
            f"<iq type='get' id='1002'><query xmlns='jabber:iq:private'>{inner}</query></iq>"
        )
        self.assertEqual("result", reply["type"], reply.toXml())
        return "".join(e.toXml() for e in reply.query.elements())


class Examples(PrivateTestCase):
    async def test_store_and_retrieve(self) -> None:
        await self.check(
            self.hamlet,
            f"<iq type='set' id='1001'><query xmlns='jabber:iq:private'>{EXODUS}</query></iq>",
            "<iq type='result' from='hamlet@shakespeare.lit' to='hamlet@shakespeare.lit/denmark' id='1001'/>",
        )
        await self.check(
            self.hamlet,
            "<iq type='get' id='1002'><query xmlns='jabber:iq:private'><exodus xmlns='exodus:prefs'/></query></iq>",
            f"""
            <iq type='result' from='hamlet@shakespeare.lit' to='hamlet@shakespeare.lit/denmark' id='1002'>
              <query xmlns='jabber:iq:private'>{EXODUS}</query>
            </iq>
            """,
        )

    async def test_somebody_elses_is_forbidden(self) -> None:
        await self.store(EXODUS)
        for session in ("macbeth@shakespeare.lit/x", "hamlet@other.example/x"):
            macbeth = self.host.session(session)
            for type_ in ("set", "get"):
                xml = f"""
                <iq type='{type_}' to='hamlet@shakespeare.lit' id='1003'>
                  <query xmlns='jabber:iq:private'>{EXODUS.replace("Hamlet", "Macbeth")}</query>
                </iq>
                """
                self.assertEqual("forbidden", await self.refusal(macbeth, xml))
        self.assertIn("Hamlet", await self.stored("<exodus xmlns='exodus:prefs'/>"))

    async def test_nothing_to_store_or_to_get(self) -> None:
        for type_ in ("set", "get"):
            for inner in ("", "text"):
                xml = f"<iq type='{type_}' id='1004'><query xmlns='jabber:iq:private'>{inner}</query></iq>"
                self.assertEqual("not-acceptable", await self.refusal(self.hamlet, xml))

    async def test_reserved_namespaces(self) -> None:
        for inner in (
            "<vCard xmlns='vcard-temp'><FN>Hamlet</FN></vCard>",
            "<query xmlns='jabber:iq:roster'/>",
            "<x xmlns='http://jabber.org/protocol/muc'/>",
            "<inherits/>",
            "<none xmlns=''/>",
            EXODUS + "<vCard xmlns='vcard-temp'/>",
        ):
            for type_ in ("set", "get"):
                xml = f"<iq type='{type_}' id='1005'><query xmlns='jabber:iq:private'>{inner}</query></iq>"
                self.assertEqual("not-acceptable", await self.refusal(self.hamlet, xml), inner)
        self.assertEqual(0, await self.rows(Private, "shakespeare.lit"))


class Pieces(PrivateTestCase):
    async def test_what_was_never_stored_is_empty(self) -> None:
        self.assertEqual(
            "<exodus xmlns='exodus:prefs'/>", await self.stored("<exodus xmlns='exodus:prefs'><q/></exodus>")
        )

    async def test_what_is_stored_again_is_replaced(self) -> None:
        await self.store("<a xmlns='n'>1</a>")
        await self.store("<a xmlns='n'>2</a>")
        self.assertEqual("<a xmlns='n'>2</a>", await self.stored("<a xmlns='n'/>"))

    async def test_names_and_namespaces_are_apart(self) -> None:
        await self.store("<a xmlns='n'>1</a><b xmlns='n'>2</b><a xmlns='m'>3</a>")
        await self.store("<a xmlns='m'>4</a>")
        for name, namespace, value in [("a", "n", "1"), ("b", "n", "2"), ("a", "m", "4")]:
            text = await self.stored(f"<{name} xmlns='{namespace}'/>")
            self.assertEqual(f"<{name} xmlns='{namespace}'>{value}</{name}>", text)

    async def test_several_of_one_name_stay_together(self) -> None:
        await self.store("<a xmlns='n'>1</a><a xmlns='n'>2</a>")
        self.assertEqual("<a xmlns='n'>1</a><a xmlns='n'>2</a>", await self.stored("<a xmlns='n'/>"))

    async def test_one_at_a_time_is_asked_for(self) -> None:
        xml = "<iq type='get' id='1'><query xmlns='jabber:iq:private'><a xmlns='n'/><b xmlns='n'/></query></iq>"
        self.assertEqual("not-acceptable", await self.refusal(self.hamlet, xml))

    async def test_an_empty_element_takes_away(self) -> None:
        await self.store("<a xmlns='n'>1</a>")
        await self.store("<a xmlns='n'> </a>")
        self.assertEqual(0, await self.rows(Private, "shakespeare.lit"))
        await self.store("<a xmlns='n' b='c'/>")
        self.assertEqual("<a xmlns='n' b='c'/>", await self.stored("<a xmlns='n'/>"))

    async def test_a_resource_stores_for_all(self) -> None:
        other = self.host.session("hamlet@shakespeare.lit/england")
        await self.store(EXODUS, other)
        self.assertIn("Hamlet", await self.stored("<exodus xmlns='exodus:prefs'/>"))
        await self.host.silence(self.hamlet)

    async def test_accounts_and_domains_are_apart(self) -> None:
        namesake = self.host.session("hamlet@other.example/denmark")
        neighbour = self.host.session("ophelia@shakespeare.lit/denmark")
        await self.store("<a xmlns='n'>mine</a>")
        for session in (namesake, neighbour):
            self.assertEqual("<a xmlns='n'/>", await self.stored("<a xmlns='n'/>", session))
            await self.store("<a xmlns='n'>theirs</a>", session)
        self.assertEqual("<a xmlns='n'>mine</a>", await self.stored("<a xmlns='n'/>"))

    async def test_everything_xml_can_say_survives(self) -> None:
        inner = (
            "<p:a xmlns:p='n' p:x='1' xml:lang='de' y='&apos;&quot;&lt;&amp;&#9;&#10;'>"
            "&lt;&amp;&#x1F600;<![CDATA[<b>]]>"
            "<b xmlns='m'><c xmlns=''/><p:d/></b></p:a>"
        )
        await self.store(inner)
        reply = await self.hamlet.asks(
            "<iq type='get' id='1'><query xmlns='jabber:iq:private'><a xmlns='n'/></query></iq>"
        )
        a = next(reply.query.elements())
        self.assertEqual(
            ("n", "1", "de", "'\"<&\t\n", "<&\U0001f600<b>"),
            (a.uri, a[("n", "x")], a[("http://www.w3.org/XML/1998/namespace", "lang")], a["y"], str(a)),
        )
        b = next(a.elements())
        self.assertEqual([("m", "b"), ("n", "d")], [(b.uri, b.name), (list(b.elements())[1].uri, "d")])


class BadInput(PrivateTestCase):
    modules = [(Private, PrivateConfig(max_size=200, max_items=3))]

    async def test_sql_in_names_and_values(self) -> None:
        for value in HOSTILE:
            namespace = "n" + value.replace(" ", "")  # no stream takes white space in a namespace
            asked = f"<a xmlns={quoteattr(namespace)}/>"
            await self.store(f"{asked[:-2]} b={quoteattr(value)}>{escape(value)}</a>")
            reply = await self.hamlet.asks(
                f"<iq type='get' id='1'><query xmlns='jabber:iq:private'>{asked}</query></iq>"
            )
            a = next(reply.query.elements())
            self.assertEqual((namespace, value, value), (a.uri, a["b"], str(a)))
            await self.store(asked)
        self.assertEqual(0, await self.rows(Private, "shakespeare.lit"))

    async def test_sql_in_addresses(self) -> None:
        for name in HOSTILE_LOCALPARTS:
            session = self.host.session(f"{name}@shakespeare.lit/x")
            await self.store(f"<a xmlns='n'>{name}</a>", session)
        for name in HOSTILE_LOCALPARTS:
            session = self.host.session(f"{name}@shakespeare.lit/x")
            self.assertEqual(f"<a xmlns='n'>{name}</a>", await self.stored("<a xmlns='n'/>", session))
        self.assertEqual(len(HOSTILE_LOCALPARTS), await self.rows(Private, "shakespeare.lit"))

    async def test_too_big(self) -> None:
        empty = len("<a xmlns='n'></a>")
        await self.store(f"<a xmlns='n'>{'x' * (200 - empty)}</a>")
        for inner in (f"<a xmlns='n'>{'x' * (201 - empty)}</a>", f"<a xmlns='n'>{'é' * 100}</a>"):
            xml = f"<iq type='set' id='1'><query xmlns='jabber:iq:private'>{inner}</query></iq>"
            self.assertEqual("policy-violation", await self.refusal(self.hamlet, xml))

    async def test_too_many_leave_everything_as_it_was(self) -> None:
        await self.store("".join(f"<a{n} xmlns='n'>x</a{n}>" for n in range(3)))
        xml = (
            "<iq type='set' id='1'><query xmlns='jabber:iq:private'><a0 xmlns='n'>y</a0><b xmlns='n'>y</b></query></iq>"
        )
        self.assertEqual("policy-violation", await self.refusal(self.hamlet, xml))
        self.assertEqual("<a0 xmlns='n'>x</a0>", await self.stored("<a0 xmlns='n'/>"))
        await self.store("<a0 xmlns='n'>z</a0>")

    async def test_of_a_domain(self) -> None:
        xml = f"<iq type='set' to='shakespeare.lit' id='1'><query xmlns='jabber:iq:private'>{EXODUS}</query></iq>"
        self.assertEqual("service-unavailable", await self.refusal(self.hamlet, xml))


class Removal(PrivateTestCase):
    async def test_of_a_domain(self) -> None:
        await self.store(EXODUS)
        await self.store(EXODUS, self.host.session("hamlet@other.example/x"))
        await self.check_removal(Private, "shakespeare.lit", "other.example")


class Streams(TestCase):
    def test_what_no_database_takes_cannot_arrive(self) -> None:
        for text in ("&#0;", "\0", "&#xD800;", "&#xFFFE;", "\x01"):
            with self.assertRaises(Exception):  # noqa: B017 - whatever the parser raises, no stanza comes of it
                parse(f"<iq type='set' id='1'><query xmlns='jabber:iq:private'><a xmlns='n'>{text}</a></query></iq>")
