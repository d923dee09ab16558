"""XEP-0054 vcard-temp."""

from xml.sax.saxutils import escape, quoteattr

from dynxmpp.modules.vcard import VCard, VCardConfig
from tests.fixtures.dialogue import TestSession
from tests.protocol.support import HOSTILE, HOSTILE_LOCALPARTS, StoredDialogues

#: Example 5, shortened.
CARD = """
<vCard xmlns='vcard-temp'>
  <FN>Peter Saint-Andre</FN>
  <N><FAMILY>Saint-Andre</FAMILY><GIVEN>Peter</GIVEN><MIDDLE/></N>
  <TEL><WORK/><VOICE/><NUMBER>303-308-3282</NUMBER></TEL>
  <DESC>Check out my blog at https://stpeter.im/</DESC>
</vCard>
"""
EMPTY = "<vCard xmlns='vcard-temp'/>"


class CardTestCase(StoredDialogues):
    modules = [(VCard, VCardConfig(max_size=1000))]
    domains = ("jabber.org", "other.example")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.peter = self.host.session("stpeter@jabber.org/roundabout")
        self.jer = self.host.session("jer@jabber.org/x")

    async def publish(self, card: str, session: TestSession | None = None) -> None:
        reply = await (session or self.peter).asks(f"<iq id='v2' type='set'>{card}</iq>")
        self.assertEqual(("result", []), (reply["type"], reply.children), reply.toXml())


class Examples(CardTestCase):
    async def test_publish_and_retrieve_ones_own(self) -> None:
        await self.check(
            self.peter,
            f"<iq id='v2' type='set'>{CARD}</iq>",
            "<iq id='v2' from='stpeter@jabber.org' to='stpeter@jabber.org/roundabout' type='result'/>",
        )
        for to in ("", "to='stpeter@jabber.org'"):
            await self.check(
                self.peter,
                f"<iq id='v1' {to} type='get'>{EMPTY}</iq>",
                f"<iq id='v1' from='stpeter@jabber.org' to='stpeter@jabber.org/roundabout' type='result'>{CARD}</iq>",
            )

    async def test_one_that_is_not_there(self) -> None:
        self.assertEqual("item-not-found", await self.refusal(self.peter, f"<iq id='v1' type='get'>{EMPTY}</iq>"))

    async def test_somebody_elses(self) -> None:
        await self.publish(CARD)
        await self.check(
            self.jer,
            f"<iq id='v3' to='stpeter@jabber.org' type='get'>{EMPTY}</iq>",
            f"<iq id='v3' from='stpeter@jabber.org' to='jer@jabber.org/x' type='result'>{CARD}</iq>",
        )

    async def test_no_card_and_no_account_are_told_alike(self) -> None:
        answers = []
        for name in ("jer", "nobody"):
            reply = await self.peter.asks(f"<iq id='v3' to='{name}@jabber.org' type='get'>{EMPTY}</iq>")
            answers.append(reply.toXml().replace(name, "x"))
        self.assertEqual(answers[0], answers[1])
        self.assertIn("service-unavailable", answers[0])

    async def test_somebody_elses_cannot_be_set(self) -> None:
        await self.publish(CARD)
        for session in (self.jer, self.host.session("stpeter@other.example/x")):
            for card in (CARD, EMPTY):
                xml = f"<iq id='v2' to='stpeter@jabber.org' type='set'>{card}</iq>"
                self.assertEqual("forbidden", await self.refusal(session, xml))
        self.assertEqual(1, await self.rows(VCard, "jabber.org"))


class Cards(CardTestCase):
    async def test_the_last_one_counts_as_a_whole(self) -> None:
        await self.publish(CARD)
        await self.publish("<vCard xmlns='vcard-temp'><FN>P</FN></vCard>")
        reply = await self.peter.asks(f"<iq id='1' type='get'>{EMPTY}</iq>")
        self.assertEqual([("FN", "P")], [(e.name, str(e)) for e in reply.vCard.elements()])

    async def test_an_empty_one_takes_it_away(self) -> None:
        await self.publish(CARD)
        await self.publish("<vCard xmlns='vcard-temp'> </vCard>")
        self.assertEqual(0, await self.rows(VCard, "jabber.org"))

    async def test_namesakes_in_other_domains(self) -> None:
        namesake = self.host.session("stpeter@other.example/x")
        await self.publish(CARD)
        self.assertEqual("item-not-found", await self.refusal(namesake, f"<iq id='1' type='get'>{EMPTY}</iq>"))
        await self.publish("<vCard xmlns='vcard-temp'><FN>Other</FN></vCard>", namesake)
        reply = await self.jer.asks(f"<iq id='1' to='stpeter@other.example' type='get'>{EMPTY}</iq>")
        self.assertEqual("Other", str(reply.vCard.FN))
        reply = await self.jer.asks(f"<iq id='2' to='stpeter@jabber.org' type='get'>{EMPTY}</iq>")
        self.assertEqual("Peter Saint-Andre", str(reply.vCard.FN))

    async def test_a_client_answers_for_its_full_address(self) -> None:
        await self.publish(CARD)
        self.jer.sends(f"<iq id='1' to='stpeter@jabber.org/roundabout' type='get'>{EMPTY}</iq>")
        self.assertEqual("get", (await self.peter.receives("iq"))["type"])


class BadInput(CardTestCase):
    async def test_sql_in_values(self) -> None:
        for value in HOSTILE:
            text = escape(value)
            await self.publish(f"<vCard xmlns='vcard-temp'><FN x={quoteattr(value)}>{text}</FN></vCard>")
            fn = (await self.jer.asks(f"<iq id='1' to='stpeter@jabber.org' type='get'>{EMPTY}</iq>")).vCard.FN
            self.assertEqual((value, value), (fn["x"], str(fn)))

    async def test_sql_in_addresses(self) -> None:
        for name in HOSTILE_LOCALPARTS:
            session = self.host.session(f"{name}@jabber.org/x")
            await self.publish(f"<vCard xmlns='vcard-temp'><FN>{name}</FN></vCard>", session)
        for name in HOSTILE_LOCALPARTS:
            reply = await self.jer.asks(f"<iq id='1' to='{name}@jabber.org' type='get'>{EMPTY}</iq>")
            self.assertEqual(name, str(reply.vCard.FN))

    async def test_too_big(self) -> None:
        empty = len("<FN></FN>")
        await self.publish(f"<vCard xmlns='vcard-temp'><FN>{'x' * (1000 - empty)}</FN></vCard>")
        for value in ("x" * (1001 - empty), "é" * 500):
            xml = f"<iq id='1' type='set'><vCard xmlns='vcard-temp'><FN>{value}</FN></vCard></iq>"
            self.assertEqual("policy-violation", await self.refusal(self.peter, xml))

    async def test_other_payloads_and_places(self) -> None:
        for xml in (
            "<iq id='1' type='set'><vcard xmlns='vcard-temp'/></iq>",
            "<iq id='1' type='set'><vCard xmlns='vcard'/></iq>",
            f"<iq id='1' to='jabber.org' type='set'>{CARD}</iq>",
            f"<iq id='1' to='jabber.org' type='get'>{EMPTY}</iq>",
        ):
            self.assertEqual("service-unavailable", await self.refusal(self.peter, xml))


class Removal(CardTestCase):
    async def test_of_a_domain(self) -> None:
        await self.publish(CARD)
        await self.publish(CARD, self.host.session("stpeter@other.example/x"))
        await self.check_removal(VCard, "jabber.org", "other.example")
