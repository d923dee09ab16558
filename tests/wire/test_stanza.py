"""Stanza: domish, wokkel and xpath find an element in it, and its bytes stay in force as long as they can."""

import copy
from typing import Any

from twisted.trial.unittest import TestCase
from twisted.words.protocols.jabber.xmlstream import toResponse
from twisted.words.xish import domish, xpath
from wokkel.generic import Stanza as WokkelStanza
from wokkel.xmppim import Message

from dynxmpp.wire.stanza import Stanza, qualified
from tests.wire.recording import HEADER, ByDomish, Recorder, canonical, domish_child, one_stanza

TEXT = (
    "<message to='a@example.com/r' from='b@example.com' id='1' type='chat' xml:lang='en'>"
    "<body>Hello</body><body xml:lang='de'>Hallo</body><x xmlns='urn:a'><y>z</y></x> tail</message>"
)
ONE_BODY = "<message from='b@example.com' id='1' type='chat'><body>Hello</body></message>"
INNER = TEXT[TEXT.index("<body>") : TEXT.index("</message>")].encode()


def is_untouched(stanza: Stanza) -> bool:
    """Would its own bytes be printed?"""
    return stanza.inner() is stanza._inner


class AsDomishHasIt(TestCase):
    def test_children(self) -> None:
        stanza = one_stanza(TEXT)
        self.assertEqual("Hello", str(stanza.body))
        self.assertIsNone(stanza.subject)
        self.assertEqual(["body", "body", "x"], [e.name for e in stanza.elements()])
        self.assertEqual(["x"], [e.name for e in stanza.elements("urn:a", "x")])
        self.assertEqual([], list(stanza.elements("urn:b", "x")))
        first = stanza.firstChildElement()
        self.assertEqual("body", first.name)
        self.assertIs(stanza, first.parent)
        self.assertEqual(" tail", str(stanza))
        self.assertEqual(b" tail", bytes(stanza))
        self.assertEqual("z", str(stanza.x.y))
        self.assertTrue(domish.IElement.providedBy(stanza))

    def test_no_children(self) -> None:
        stanza = one_stanza("<presence/>")
        self.assertEqual(([], "", None), (stanza.children, str(stanza), stanza.firstChildElement()))
        self.assertEqual(b"<presence/>", stanza.to_bytes())

    def test_attributes(self) -> None:
        stanza = one_stanza(TEXT)
        self.assertEqual("1", stanza["id"])
        self.assertEqual("chat", stanza.getAttribute("type"))
        self.assertIsNone(stanza.getAttribute("nothing"))
        self.assertTrue(stanza.hasAttribute("to"))
        self.assertTrue(stanza.compareAttribute("to", "a@example.com/r"))
        stanza.swapAttributeValues("to", "from")
        stanza["id"] = "a'b&"
        del stanza["type"]
        del stanza[("http://www.w3.org/XML/1998/namespace", "lang")]
        self.assertTrue(is_untouched(stanza))
        open_tag = b"<message to='b@example.com' from='a@example.com/r' id='a&apos;b&amp;'>"
        self.assertEqual(open_tag + INNER + b"</message>", stanza.to_bytes())

    def test_adding(self) -> None:
        stanza = one_stanza("<message><body>a</body></message>")
        stanza.addElement("subject", content="b")
        stanza.addElement(("urn:a", "x")).addElement("y", content="<")
        stanza.addChild(domish.Element((None, "thread")))
        stanza.addContent("c")
        stanza.addRawXml("<z xmlns='urn:z'/>")
        self.assertEqual(
            b"<message><body>a</body><subject>b</subject><x xmlns='urn:a'><y>&lt;</y></x><thread/>c<z xmlns='urn:z'/>"
            b"</message>",
            stanza.to_bytes(),
        )
        keys = ("jabber:client body", "jabber:client subject", "urn:a x", "jabber:client thread", "urn:z z")
        self.assertEqual(keys, stanza.child_keys)
        for key in keys:
            self.assertTrue(stanza.has_child(key))
        self.assertFalse(stanza.has_child("None thread"))
        thread = stanza.child("jabber:client", "thread")
        self.assertIsNotNone(thread)
        self.assertIs(thread, stanza.children[3])
        self.assertIsNone(stanza.child("urn:b", "x"))

    def test_children_replaced(self) -> None:
        stanza = one_stanza(TEXT)
        stanza.children = ["text"]
        self.assertEqual(((), b"text"), (stanza.child_keys, stanza.inner()))

    def test_printing(self) -> None:
        stanza = one_stanza("<message id='1'><body/></message>")
        for default, namespace in (
            ("", " xmlns='jabber:client'"),
            ("jabber:client", ""),
            ("urn:a", " xmlns='jabber:client'"),
        ):
            self.assertEqual(f"<message{namespace} id='1'><body/></message>", stanza.toXml(defaultUri=default))
            self.assertEqual(f"<message{namespace} id='1'>", stanza.toXml(defaultUri=default, closeElement=0))

    def test_inside_of_an_element(self) -> None:
        """domish prints it from its tree then, as any other child."""
        forwarded = domish.Element(("urn:xmpp:forward:0", "forwarded"))
        stanza = one_stanza(TEXT)
        forwarded.addChild(stanza)
        (child,) = domish_child(forwarded.toXml().encode()).elements()
        self.assertEqual(canonical(domish_child(TEXT.encode())), canonical(child))
        outer = one_stanza("<message/>")
        outer.addElement(("urn:xmpp:forward:0", "forwarded")).addChild(stanza)
        (child,) = next(domish_child(outer.to_bytes()).elements()).elements()
        self.assertEqual(canonical(domish_child(TEXT.encode())), canonical(child))

    def test_xpath(self) -> None:
        for query, found in (
            ("/message/body", True),
            ("/message[@type='chat']/body", True),
            ("/message/x[@xmlns='urn:a']/y", True),
            ("/message/subject", False),
            ("/presence", False),
        ):
            self.assertEqual(found, bool(xpath.matches(query, one_stanza(TEXT))), query)
        self.assertEqual("Hello", xpath.queryForString("/message/body", one_stanza(ONE_BODY)))

    def test_response(self) -> None:
        response = toResponse(
            one_stanza("<iq type='get' id='1' from='a@b' to='c'><query xmlns='urn:a'/></iq>"), "result"
        )
        self.assertEqual(("a@b", "c", "1", "result"), tuple(response[key] for key in ("to", "from", "id", "type")))
        self.assertEqual(
            b"<iq to='a@b' from='c' id='1' type='result'/>",
            Stanza.from_element(response).to_bytes(),
        )

    def test_wokkel(self) -> None:
        """Its parser takes the namespaces away from what it is given: it gets a copy."""
        stanza = one_stanza(ONE_BODY)
        message = Message.fromElement(stanza.copy_tree())
        self.assertEqual(("Hello", "chat", "1"), (str(message.body), message.stanzaType, message.stanzaID))
        self.assertTrue(is_untouched(stanza))
        self.assertEqual("jabber:client", stanza.uri)
        self.assertEqual("b@example.com", WokkelStanza.fromElement(stanza.copy_tree()).sender.full())


class Bytes(TestCase):
    """Who only looks does not cost the bytes."""

    def test_looking(self) -> None:
        stanza = one_stanza(TEXT)
        body = stanza.child("jabber:client", "body")
        assert body is not None
        self.assertEqual("Hello", str(body))
        self.assertIsNone(stanza.child("urn:b", "x"))
        self.assertTrue(stanza.has_child(qualified("urn:a", "x")))
        self.assertFalse(stanza.has_child(qualified("urn:b", "x")))
        self.assertEqual(["body", "body", "x"], [child.name for child in stanza.child_elements()])
        self.assertEqual(" tail", stanza.character_data())
        self.assertTrue(domish.IElement.providedBy(stanza))
        self.assertIs(stanza, domish.IElement(stanza))
        self.assertFalse(hasattr(stanza, "__conform__"))
        copy.copy(stanza)
        repr(stanza)
        self.assertTrue(is_untouched(stanza))
        self.assertEqual(INNER, stanza.inner())

    def test_taking(self) -> None:
        for take in (lambda s: s.children, lambda s: s.body, lambda s: list(s.elements()), str):
            stanza = one_stanza(TEXT)
            take(stanza)
            self.assertFalse(is_untouched(stanza))
            self.assertEqual(canonical(domish_child(TEXT.encode())), canonical(domish_child(stanza.to_bytes())))

    def test_changes_after_a_look(self) -> None:
        stanza = one_stanza(TEXT)
        stanza.child("jabber:client", "body")
        stanza.body["changed"] = "yes"
        self.assertIn(b"<body changed='yes'>Hello</body>", stanza.to_bytes())

    def test_inner_is_what_came(self) -> None:
        inner = "<a  b = \"'>\" />&#x41;<![CDATA[<]]>\r\n<c:d xmlns:c='urn:c'></c:d >"
        self.assertEqual(
            f"<message>{inner}</message>".encode(), one_stanza(f"<message\n>{inner}</message >").to_bytes()
        )

    def test_prefixes_of_the_root(self) -> None:
        recorder = Recorder()
        recorder.feed(b"<a:stream xmlns:a='urn:a' xmlns:b='urn:b' xmlns:c='urn:c' xmlns='jabber:client'>")
        recorder.feed(b"<message b:x='1'><c:y/></message><message/><message xmlns:c='urn:d'><c:y/></message>")
        recorder.feed(b"<a:nonza/><c:nonza c:x='1'><b:y/><y/></c:nonza>")
        self.assertEqual(
            [
                b"<message xmlns:c='urn:c' xmlns:nn2='urn:b' nn2:x='1'><c:y/></message>",
                b"<message/>",
                b"<message xmlns:c='urn:d'><c:y/></message>",
                b"<nonza xmlns='urn:a'/>",
                b"<nonza xmlns='urn:c' xmlns:b='urn:b' xmlns:nn3='urn:c' nn3:x='1'>"
                b"<y xmlns='urn:b'/><y xmlns='jabber:client'/></nonza>",
            ],
            [stanza.to_bytes() for stanza in recorder.stanzas],
        )
        self.assertEqual(
            [("urn:c y",), (), ("urn:d y",), (), ("urn:b y", "jabber:client y")],
            [stanza.child_keys for stanza in recorder.stanzas],
        )

    def test_prefixes_in_content(self) -> None:
        """Names in values (xsi:type and the like) keep their prefixes."""
        for text in (
            "<message xmlns:xs='urn:xs'><x type='xs:string'/></message>",
            "<c:message xmlns:c='jabber:client' xmlns:xs='urn:xs' xmlns='urn:a'><x type='xs:string'/></c:message>",
        ):
            stanza = one_stanza(text)
            for printed in (
                stanza,
                Stanza.from_element(stanza.copy_tree()),
                Stanza.from_element(domish_child(text.encode())),
            ):
                element = domish_child(printed.to_bytes())
                self.assertEqual("urn:xs", element.localPrefixes.get("xs"), printed.to_bytes())

    def test_no_namespace(self) -> None:
        stanza = one_stanza("<message xmlns=''><body/></message>")
        self.assertEqual(("", ("body",)), (stanza.uri, stanza.child_keys))
        self.assertTrue(stanza.has_child(qualified("", "body")))
        self.assertIsNotNone(stanza.child("", "body"))
        self.assertEqual(b"<message xmlns=''><body/></message>", stanza.to_bytes())
        stanza = one_stanza("<message><body xmlns=''/></message>")
        self.assertEqual((qualified("", "body"),), stanza.child_keys)
        self.assertIsNotNone(stanza.child("", "body"))
        self.assertIsNone(stanza.child("jabber:client", "body"))
        stanza.children
        self.assertTrue(stanza.has_child(qualified("", "body")))


class Made(TestCase):
    """Stanzas from elements that code has made."""

    def check(self, element: domish.Element, expected: bytes, keys: tuple[str, ...]) -> None:
        stanza = Stanza.from_element(element)
        self.assertEqual((expected, keys), (stanza.to_bytes(), stanza.child_keys))
        self.assertEqual("jabber:client", stanza.uri)
        seen = domish_child(element.toXml(defaultUri="jabber:client").encode())
        if element.uri != "":
            self.assertEqual(canonical(seen), canonical(stanza))

    def test_namespaces_left_open(self) -> None:
        """None and "" take the stream's, as they do when domish prints them into a stream."""
        for uri in (None, "", "jabber:client"):
            element = domish.Element((uri, "iq"))
            element["id"] = "1"
            query = element.addElement(("urn:a", "query"))
            query.addElement("item")
            query.addChild(domish.Element((None, "open")))
            element.addElement("body")
            element.addChild(domish.Element((None, "open")))
            self.check(
                element,
                b"<iq id='1'><query xmlns='urn:a'><item/><open/></query><body/><open/></iq>",
                ("urn:a query", "jabber:client body", "jabber:client open"),
            )

    def test_default_of_its_own(self) -> None:
        """domish lets an element give its children another default namespace than its own."""
        element = domish.Element(("jabber:client", "iq"), "urn:a")
        element.addElement("query").addChild(domish.Element((None, "open")))
        element.addChild(domish.Element((None, "open")))
        child = element.addElement(("urn:b", "x"), "urn:c")
        child.addChild(domish.Element((None, "open")))
        stanza = Stanza.from_element(element)
        self.assertEqual(("urn:a query", "urn:a open", "urn:b x"), stanza.child_keys)
        self.assertEqual(canonical(domish_child(element.toXml().encode())), canonical(stanza))

    def test_raw_children(self) -> None:
        for uri in (None, "jabber:client"):
            element = domish.Element((uri, "message"))
            element.addElement("body")
            element.addRawXml("<x xmlns='urn:a'/><body/>")
            self.check(
                element,
                b"<message><body/><x xmlns='urn:a'/><body/></message>",
                ("jabber:client body", "urn:a x", "jabber:client body"),
            )

    def test_attributes_that_are_none(self) -> None:
        element = domish.Element((None, "iq"), attribs={"to": None, "id": "1"})
        self.assertEqual(b"<iq id='1'/>", Stanza.from_element(element).to_bytes())

    def test_a_stanza_is_one_already(self) -> None:
        stanza = one_stanza(TEXT)
        self.assertIs(stanza, Stanza.from_element(stanza))

    def test_made_by_hand(self) -> None:
        stanza = Stanza("iq", {"type": "result"}, b"<q xmlns='urn:q'/>", (qualified("urn:q", "q"),))
        self.assertEqual(b"<iq type='result'><q xmlns='urn:q'/></iq>", stanza.to_bytes())
        self.assertEqual(
            b"<iq xmlns='jabber:client' type='result'><q xmlns='urn:q'/></iq>", stanza.to_bytes(embedded=True)
        )
        self.assertEqual(b"<presence/>", Stanza("presence").to_bytes())
        first, second = Stanza("presence"), Stanza("presence")
        first["to"] = "a"
        first.addElement("show")
        self.assertEqual(b"<presence/>", second.to_bytes())

    def test_made_from_another_one(self) -> None:
        """Both live on their own."""
        stanza = one_stanza("<message to='a'><body>b</body></message>")
        made: list[tuple[Stanza, bytes]] = [
            (stanza.with_attributes({"to": None, "from": "c"}), b"<message from='c'><body>b</body></message>"),
            (
                stanza.appended(b"<x xmlns='urn:a'/>", "urn:a x"),
                b"<message to='a'><body>b</body><x xmlns='urn:a'/></message>",
            ),
        ]
        for other, expected in made:
            self.assertEqual(expected, other.to_bytes())
            other["id"] = "1"
            other.addElement("subject")
            other.body["id"] = "1"
        self.assertEqual(b"<message to='a'><body>b</body></message>", stanza.to_bytes())

    def test_nothing_but_xml_gets_out(self) -> None:
        """Characters that XML does not have would end the peer's stream."""
        bad = "a\0b\x0bc\ud800d\uffffe"
        stanza = one_stanza("<message/>")
        stanza["id"] = bad
        body = stanza.addElement("body", content=bad)
        body["x"] = bad
        good = "a\ufffdb\ufffdc\ufffdd\ufffde"
        element = domish_child(stanza.to_bytes())
        self.assertEqual((good, good, good), (element["id"], str(element.body), element.body["x"]))


class FromBothSides(TestCase):
    def test_root(self) -> None:
        recorder: Any = Recorder()
        recorder.feed(HEADER)
        expected = ByDomish(HEADER).root
        self.assertEqual(canonical(expected), canonical(recorder.root))
        self.assertEqual(
            (expected.defaultUri, expected.localPrefixes), (recorder.root.defaultUri, recorder.root.localPrefixes)
        )
