"""XEP-0203 Delayed Delivery."""

from datetime import UTC, datetime

from twisted.trial.unittest import TestCase

from dynxmpp.protocol.delay import DELAY_KEY, NS_DELAY, Delay, delayed, delays, without_delays_by
from dynxmpp.wire.stanza import Stanza
from tests.fixtures.dialogue import canonical, parse

STAMP = datetime(2002, 9, 10, 23, 8, 25, tzinfo=UTC)

#: Example 1, without the delay.
MESSAGE = """
<message from='romeo@montague.net/orchard' to='juliet@capulet.com' type='chat'>
  <body>O blessed, blessed night! I am afeard.</body>
</message>
"""


def reparsed(stanza: Stanza) -> Stanza:
    return parse(stanza.to_bytes().decode())


class Adding(TestCase):
    def test_the_example(self) -> None:
        stanza = delayed(parse(MESSAGE), Delay(STAMP, "capulet.com", "Offline Storage"))
        expected = parse(
            MESSAGE.replace(
                "</message>",
                "<delay xmlns='urn:xmpp:delay' from='capulet.com' stamp='2002-09-10T23:08:25.000Z'>"
                "Offline Storage</delay>"
                "</message>",
            )
        )
        self.assertEqual(canonical(expected.copy_tree()), canonical(reparsed(stanza).copy_tree()))
        self.assertTrue(stanza.has_child(DELAY_KEY))

    def test_the_stanza_that_passes_is_not_changed(self) -> None:
        original = parse(MESSAGE)
        before = original.to_bytes()
        delayed(original, Delay(STAMP, "capulet.com"))
        self.assertEqual(before, original.to_bytes())

    def test_names_and_reasons_are_escaped(self) -> None:
        delay = Delay(STAMP, "o'neil&co@capulet.com/<x>", "</delay> & 'so'")
        self.assertEqual([delay], delays(reparsed(delayed(parse(MESSAGE), delay))))

    def test_tree_and_bytes_say_the_same(self) -> None:
        for delay in (Delay(STAMP), Delay(STAMP, "capulet.com"), Delay(STAMP, "a'b@c", "<why>")):
            stanza = Stanza.of_children("message", {}, [delay.to_element()], "jabber:client")
            self.assertEqual([delay], delays(reparsed(stanza)))
            self.assertEqual([delay], delays(reparsed(parse("<message/>").appended(delay.to_bytes(), DELAY_KEY))))

    def test_one_of_each_entity_and_ours_replaces_what_claims_to_be(self) -> None:
        room = Delay(STAMP, "coven@chat.example")
        forged = Delay(STAMP.replace(year=1999), "capulet.com", "trust me")
        stanza = delayed(delayed(parse(MESSAGE), room), forged)
        ours = Delay(STAMP, "capulet.com")
        stanza = reparsed(delayed(stanza, ours))
        self.assertEqual([room, ours], delays(stanza))
        self.assertEqual("O blessed, blessed night! I am afeard.", str(stanza.body))


class Reading(TestCase):
    def test_several_and_foreign_ones(self) -> None:
        stanza = parse(
            "<message><delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>"
            "<delay xmlns='jabber:x:other' stamp='2002-09-10T23:08:25Z'/>"
            "<delay xmlns='urn:xmpp:delay' from='a@b' stamp='2002-09-10T23:08:25.5Z'> why </delay></message>"
        )
        self.assertEqual([Delay(STAMP), Delay(STAMP.replace(microsecond=500000), "a@b", "why")], delays(stanza))

    def test_invalid_stamps_say_nothing(self) -> None:
        for stamp in ("", "stamp='yesterday'", "stamp='20020910T23:08:25'", 'stamp="\'; DROP TABLE x; --"'):
            self.assertEqual([], delays(parse(f"<message><delay xmlns='{NS_DELAY}' {stamp}/></message>")))
        self.assertEqual([], delays(parse("<message/>")))


class Removing(TestCase):
    def test_only_those_of_the_entity(self) -> None:
        stanza = parse(
            "<message>a<delay xmlns='urn:xmpp:delay' from='capulet.com' stamp='x'/>b"
            "<delay xmlns='urn:xmpp:delay' from='capulet.com.evil' stamp='x'/><body>c</body></message>"
        )
        left = reparsed(without_delays_by(stanza, "capulet.com"))
        self.assertEqual(["capulet.com.evil"], [e["from"] for e in left.elements() if e.name == "delay"])
        self.assertEqual(("ab", "c"), (left.character_data(), str(left.body)))

    def test_a_stanza_without_is_passed_on_as_it_is(self) -> None:
        stanza = parse(MESSAGE)
        self.assertIs(stanza, without_delays_by(stanza, "capulet.com"))
