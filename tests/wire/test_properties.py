"""Whatever the spelling and wherever it is cut: StanzaStream makes of a stream what domish makes of it."""

from typing import Any
from unittest import mock

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.wire import stream as stream_module
from dynxmpp.wire.stanza import Stanza, qualified
from tests.wire.recording import ByDomish, Recorder, canonical, domish_child, each_byte
from tests.wire.spellings import Spelled, cuts, elements, streams

FORWARDED = "urn:xmpp:forward:0"
PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["to", "from", "id"]),
    st.none() | st.text(st.sampled_from("a'\"<>&\t\n\r@/ é😀"), max_size=6),
)


def embedded(data: bytes) -> domish.Element:
    """The element that `data` spells inside of <forwarded/>."""
    parent = domish_child(b"<forwarded xmlns='urn:xmpp:forward:0'>" + data + b"</forwarded>")
    (element,) = parent.children
    return element


def received(spelled: Spelled) -> tuple[list[Stanza], list[domish.Element]]:
    recorder = Recorder()
    assert recorder.feed(spelled.data) is None
    expected = ByDomish(spelled.data).elements
    assert len(expected) == len(recorder.stanzas) == len(spelled.stanzas)
    return recorder.stanzas, expected


class Streams(TestCase):
    """The stream against domish's."""

    def check(self, data: bytes, pieces: Any) -> None:
        expected = ByDomish(data)
        recorder = Recorder()
        self.assertIsNone(recorder.feed(*pieces))
        self.assertEqual(canonical(expected.root), canonical(recorder.root))
        self.assertEqual(expected.root.localPrefixes, recorder.root.localPrefixes)
        self.assertEqual([canonical(e) for e in expected.elements], [canonical(s) for s in recorder.stanzas])
        for element, stanza in zip(expected.elements, recorder.stanzas, strict=True):
            keys = tuple(qualified(child.uri, child.name) for child in element.elements())
            self.assertEqual(keys, stanza.child_keys)
        last = ["end"] if expected.ended else []
        self.assertEqual(["start", *recorder.stanzas, *last], recorder.events)

    @PLENTY
    @given(st.data(), streams())
    def test_in_any_pieces(self, data: st.DataObject, spelled: Spelled) -> None:
        self.check(spelled.data, data.draw(cuts(spelled.data)))

    @PLENTY
    @given(streams(), st.integers(0, 400))
    def test_under_ever_new_parsers(self, spelled: Spelled, renew_after: int) -> None:
        with mock.patch.object(stream_module, "RENEW_AFTER", renew_after):
            self.check(spelled.data, each_byte(spelled.data))

    @PLENTY
    @given(streams())
    def test_at_once_with_its_last_byte(self, spelled: Spelled) -> None:
        """No stanza waits for what comes after it."""
        recorder = Recorder()
        self.assertIsNone(recorder.feed(spelled.header.encode()))
        self.assertEqual(["start"], recorder.events)
        for count, text in enumerate(spelled.stanzas, 1):
            for byte in each_byte(text.encode()):
                self.assertEqual(count - 1, len(recorder.stanzas))
                recorder.feed(byte)
            self.assertEqual(count, len(recorder.stanzas))


class Stanzas(TestCase):
    """A stanza's bytes, its tree, and what is made from it, against the element that domish made."""

    @PLENTY
    @given(streams(2))
    def test_bytes(self, spelled: Spelled) -> None:
        for stanza, element in zip(*received(spelled), strict=True):
            expected = canonical(element)
            self.assertEqual(expected, canonical(domish_child(stanza.to_bytes())))
            self.assertEqual(expected, canonical(embedded(stanza.to_bytes(embedded=True))))
            self.assertEqual(expected, canonical(domish_child(stanza.toXml().encode())))
            self.assertEqual(expected, canonical(embedded(stanza.toXml(defaultUri=FORWARDED).encode())))

    @PLENTY
    @given(streams(2))
    def test_tree(self, spelled: Spelled) -> None:
        for stanza, element in zip(*received(spelled), strict=True):
            expected, keys = canonical(element), stanza.child_keys
            children = stanza.children
            self.assertTrue(all(child.parent is stanza for child in stanza.elements()))
            self.assertIs(children, stanza.children)
            self.assertEqual(keys, stanza.child_keys)
            self.assertEqual(expected, canonical(domish_child(stanza.to_bytes())))
            self.assertEqual(expected, canonical(embedded(stanza.to_bytes(embedded=True))))
            self.assertEqual(expected, canonical(embedded(stanza.toXml(defaultUri=FORWARDED).encode())))
            self.assertEqual(expected, canonical(stanza))

    @PLENTY
    @given(streams(1), st.booleans())
    def test_copy(self, spelled: Spelled, touched: bool) -> None:
        ((stanza,), (element,)) = received(spelled)
        if touched:
            stanza.children
        copy = stanza.copy_tree()
        self.assertEqual(canonical(element), canonical(copy))
        copy["to"] = "elsewhere"
        for child in copy.elements():
            self.assertIs(copy, child.parent)
            child["changed"] = "yes"
            child.children.append("more")
        copy.children.append("more")
        self.assertEqual(canonical(element), canonical(domish_child(stanza.to_bytes())))

    @PLENTY
    @given(elements({"": "jabber:client", "a": "urn:a"}))
    def test_from_element(self, text: str) -> None:
        element = domish_child(text.encode(), b"<stream xmlns='jabber:client' xmlns:a='urn:a'>")
        stanza = Stanza.from_element(element)
        if element.uri:
            self.assertEqual(canonical(element), canonical(stanza))
            self.assertEqual(canonical(element), canonical(domish_child(stanza.to_bytes())))
            keys = tuple(qualified(child.uri, child.name) for child in element.elements())
        else:
            # Without a namespace it says: that of the stream. test_stanza.py has more of this.
            self.assertEqual("jabber:client", stanza.uri)
            keys = tuple(qualified(child.uri, child.name) for child in stanza.copy_tree().elements())
        self.assertEqual(keys, stanza.child_keys)

    @PLENTY
    @given(streams(1), ATTRIBUTES, st.booleans())
    def test_with_attributes(self, spelled: Spelled, changes: dict[str, str | None], touched: bool) -> None:
        ((stanza,), (element,)) = received(spelled)
        if touched:
            stanza.children
        before = canonical(element)
        changed = stanza.with_attributes(changes)
        for key, value in changes.items():
            element.attributes.pop(key, None)
            if value is not None:
                element.attributes[key] = value
        self.assertEqual(canonical(element), canonical(domish_child(changed.to_bytes())))
        self.assertEqual(canonical(element), canonical(changed))
        self.assertEqual(before, canonical(domish_child(stanza.to_bytes())))
        self.assertEqual(stanza.child_keys, changed.child_keys)

    @PLENTY
    @given(streams(2), st.booleans())
    def test_appended(self, spelled: Spelled, touched: bool) -> None:
        stanzas, expected = received(spelled)
        stanza, child = stanzas[0], stanzas[-1]
        if touched:
            stanza.children
        before, keys = canonical(expected[0]), stanza.child_keys
        longer = stanza.appended(child.to_bytes(embedded=True), qualified(child.uri, child.name))
        uri, name, attributes, children = before
        wanted = (uri, name, attributes, [*children, canonical(expected[-1])])
        self.assertEqual(wanted, canonical(longer))
        self.assertEqual(wanted, canonical(domish_child(longer.to_bytes())))
        self.assertEqual((*keys, qualified(child.uri, child.name)), longer.child_keys)
        self.assertEqual((before, keys), (canonical(stanza), stanza.child_keys))

    @PLENTY
    @given(streams(2))
    def test_one_inside_of_the_other(self, spelled: Spelled) -> None:
        stanzas, expected = received(spelled)
        inner = stanzas[-1]
        for outer in (stanzas[0].with_attributes({}), stanzas[0].with_attributes({}).copy_tree()):
            assume(outer.uri)
            outer.addChild(inner)
            uri, name, attributes, children = canonical(expected[0])
            wanted = (uri, name, attributes, [*children, canonical(expected[-1])])
            self.assertEqual(wanted, canonical(domish_child(Stanza.from_element(outer).to_bytes())))
