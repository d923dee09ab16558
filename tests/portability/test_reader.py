"""Documents as events: however they come in, and with what is wrong with them."""

from itertools import pairwise
from random import Random
from typing import Any

from twisted.trial.unittest import TestCase

from dynxmpp.portability.pieces import MAX_ELEMENT, MAX_ELEMENTS, PART_BYTES, PART_CHILDREN
from dynxmpp.portability.reader import (
    Child,
    DocumentError,
    DocumentReader,
    Event,
    Foreign,
    Host,
    LeftOut,
    User,
    UserEnd,
)
from tests.fixtures.dialogue import canonical
from tests.portability.support import SCRAM, document, events, user

HOST = "verona.example"
ARCHIVE = "urn:xmpp:pie:0#mam archive"
DOCUMENT = document(
    user("romeo", "<vCard xmlns='vcard-temp'><FN>R &amp; <![CDATA[<J>]]> \u00e9</FN></vCard>"),
    "<!-- nobody else --><user name='juliet' password='p&apos;q'>"
    "<p:archive xmlns:p='urn:xmpp:pie:0#mam'><p:result id='1'/>\n<p:result id='2'>text</p:result></p:archive></user>",
).replace(b"<host", b"<x:extra xmlns:x='urn:x'><x:more/></x:extra><host jid='other'><user name='no'/></host><host")


def described(found: list[Event]) -> list[Any]:
    return [(e.key, canonical(e.element, "")) if isinstance(e, Child) else e for e in found]


def inside(*children: str) -> bytes:
    return document(user("romeo", *children, credentials=""))


class Events(TestCase):
    def test_what_is_in_a_document(self) -> None:
        found = events(DOCUMENT, HOST, in_parts=[ARCHIVE])
        kinds = [type(event) for event in found]
        self.assertEqual([Foreign, Host, Host, User, Child, Child, UserEnd, User, Child, UserEnd], kinds)
        self.assertEqual(Foreign("urn:x extra", "server-data"), found[0])
        self.assertEqual([Host("other", False), Host(HOST, True)], found[1:3])
        self.assertEqual(User("juliet", "p'q"), found[7])
        card: Any = found[5]
        self.assertEqual("R & <J> \u00e9", str(card.element.FN))
        archive: Any = found[8]
        self.assertEqual(["1", "2"], [result["id"] for result in archive.element.elements()])

    def test_it_may_come_in_pieces_of_any_size(self) -> None:
        whole = described(events(DOCUMENT, HOST, in_parts=[ARCHIVE]))
        for size in (1, 2, 3, 7, 100):
            self.assertEqual(whole, described(events(DOCUMENT, HOST, in_parts=[ARCHIVE], size=size)))
        random = Random(1)
        for _ in range(50):
            cuts = sorted(random.sample(range(len(DOCUMENT)), 3))
            reader = DocumentReader(wants_host=HOST.__eq__, comes_in_parts=ARCHIVE.__eq__)
            found: list[Event] = []
            for start, end in pairwise((0, *cuts, len(DOCUMENT))):
                found.extend(reader.feed(DOCUMENT[start:end]))
            found.extend(reader.close())
            self.assertEqual(whole, described(found))

    def test_a_host_may_be_the_root(self) -> None:
        found = events(f"<host xmlns='urn:xmpp:pie:0' jid='{HOST}'><user name='a'/></host>".encode(), HOST)
        self.assertEqual([Host(HOST, True), User("a", None), UserEnd()], found)

    def test_what_should_not_be_there_is_told(self) -> None:
        data = document("text", "<user xmlns='other' name='a'/>", "<user name='b'>words</user>")
        found = events(data.replace(b"<host", b"<user name='c'/><host"), HOST)
        self.assertEqual(
            [
                Foreign("urn:xmpp:pie:0 user", "server-data"),
                Foreign("text", "host"),
                Foreign("other user", "host"),
                Foreign("text", "user"),
            ],
            [event for event in found if isinstance(event, Foreign)],
        )

    def test_a_long_archive_comes_in_parts(self) -> None:
        results = "".join(f"<result id='{n}'><body>{'x' * (n % 7)}</body></result>" for n in range(5000))
        data = inside(f"<archive xmlns='urn:xmpp:pie:0#mam' a='b'>{results}</archive>")
        parts = [event for event in events(data, HOST, in_parts=[ARCHIVE]) if isinstance(event, Child)]
        self.assertGreaterEqual(len(parts), 10)
        for part in parts:
            self.assertEqual(
                ("urn:xmpp:pie:0#mam", "archive", "b"), (part.element.uri, part.element.name, part.element["a"])
            )
            self.assertLessEqual(len(part.element.children), PART_CHILDREN)
        ids = [result["id"] for part in parts for result in part.element.elements()]
        self.assertEqual([str(n) for n in range(5000)], ids)

    def test_so_do_large_children(self) -> None:
        results = f"<result><body>{'x' * (PART_BYTES // 2)}</body></result>" * 9
        data = inside(f"<archive xmlns='urn:xmpp:pie:0#mam'>{results}</archive>")
        parts = [event for event in events(data, HOST, in_parts=[ARCHIVE]) if isinstance(event, Child)]
        self.assertEqual([2, 2, 2, 2, 1], [len(part.element.children) for part in parts])

    def test_what_does_not_come_in_parts_stays_whole(self) -> None:
        data = inside(f"<vCard xmlns='vcard-temp'>{'<N/>' * (PART_CHILDREN * 3)}</vCard>")
        (card,) = [event for event in events(data, HOST) if isinstance(event, Child)]
        self.assertEqual(PART_CHILDREN * 3, len(card.element.children))


class TooMuch(TestCase):
    def left_out(self, *children: str) -> list[Event]:
        found = events(inside(*children, "<after xmlns='urn:x'>all is well</after>"), HOST, in_parts=[ARCHIVE])
        *others, after, end = found[2:]
        assert isinstance(after, Child)
        self.assertEqual(("urn:x after", "all is well"), (after.key, str(after.element)))
        self.assertEqual(UserEnd(), end)
        return others

    def test_a_huge_element(self) -> None:
        for big in ("x" * (MAX_ELEMENT + 1), "<a>yy</a>" * (MAX_ELEMENT // 9 + 1)):
            (event,) = self.left_out(f"<vCard xmlns='vcard-temp'><FN>{big}</FN></vCard>")
            assert isinstance(event, LeftOut)
            self.assertEqual("vcard-temp vCard", event.key)

    def test_too_many_elements(self) -> None:
        (event,) = self.left_out(f"<vCard xmlns='vcard-temp'>{'<a/>' * (MAX_ELEMENTS + 1)}</vCard>")
        self.assertEqual(LeftOut("vcard-temp vCard", f"more than {MAX_ELEMENTS} elements"), event)

    def test_one_huge_message_of_an_archive(self) -> None:
        small, huge = "<result>s</result>", f"<result><b>{'x' * (MAX_ELEMENT + 1)}</b>{'y' * 100}</result>"
        event, *parts = self.left_out(f"<archive xmlns='urn:xmpp:pie:0#mam'>{small}{huge}{small}</archive>")
        self.assertEqual(LeftOut("urn:xmpp:pie:0#mam result", f"larger than {MAX_ELEMENT} bytes"), event)
        left = [str(result) for part in parts if isinstance(part, Child) for result in part.element.elements()]
        self.assertEqual(["s", "s"], left)

    def test_nothing_of_it_is_held(self) -> None:
        """What is left out is forgotten while it comes in, not at its end."""
        reader = DocumentReader(wants_host=HOST.__eq__, comes_in_parts=lambda key: False)
        list(reader.feed(f"<host xmlns='urn:xmpp:pie:0' jid='{HOST}'><user name='a'><big>".encode()))
        for _ in range(2 * MAX_ELEMENT // 65_536):
            list(reader.feed(b"x" * 65_536))
        piece: Any = reader._piece
        self.assertEqual([], piece._open[0].children)


class Broken(TestCase):
    def refused(self, data: bytes, expected: str) -> None:
        with self.assertRaisesRegex(DocumentError, expected):
            events(data, HOST)

    def test_it_breaks_off(self) -> None:
        for cut in (0, 1, 60, len(DOCUMENT) // 2, len(DOCUMENT) - 1):
            self.refused(DOCUMENT[:cut], "^it breaks off$")

    def test_what_comes_before_is_told_first(self) -> None:
        reader = DocumentReader(wants_host=HOST.__eq__, comes_in_parts=lambda key: False)
        found = []
        with self.assertRaisesRegex(DocumentError, "^line 2: mismatched tag$"):
            for event in reader.feed(document(user("a"), "\n</user>")):
                found.append(event)
        self.assertEqual([Host, User, Child, UserEnd], [type(event) for event in found])

    def test_no_dtd(self) -> None:
        root = b"<server-data xmlns='urn:xmpp:pie:0'/>"
        lol = b"<!ENTITY a 'lol'>" + b"".join(
            b"<!ENTITY %c '%b'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
        )
        for inner in (b"", b" [" + lol + b"]", b" SYSTEM 'file:///etc/passwd'", b" PUBLIC 'x' 'http://127.0.0.1/'"):
            self.refused(b"<!DOCTYPE server-data" + inner + b">" + root, "a DTD is not accepted")

    def test_no_entities(self) -> None:
        self.refused(inside("&lol;"), "undefined entity")

    def test_not_deep(self) -> None:
        self.refused(inside("<a>" * 80), "nested more than 80 deep")
        self.refused(document("<a>" * 80), "nested more than 80 deep")

    def test_not_many_attributes(self) -> None:
        many = " ".join(f"a{number}=''" for number in range(65))
        self.refused(inside(f"<a {many}/>"), "more than 64 attributes")
        spaces = " ".join(f"xmlns:a{number}='u'" for number in range(65))
        self.refused(inside(f"<a {spaces}/>"), "too many namespaces")

    def test_no_endless_tag_or_comment(self) -> None:
        for endless in ("<user name='", "<!-- ", "<?target "):
            self.refused(document(endless + "a > " * (MAX_ELEMENT // 2)), "a tag of more than 1048576 bytes")

    def test_not_endlessly_many_names(self) -> None:
        reader = DocumentReader(wants_host=HOST.__eq__, comes_in_parts=lambda key: False)
        with self.assertRaisesRegex(DocumentError, "too many different names"):
            list(reader.feed(document()[: -len(b"</host></server-data>")]))
            for start in range(0, 120_000, 1000):
                list(reader.feed("".join(f"<n{n}/>" for n in range(start, start + 1000)).encode()))

    def test_another_root(self) -> None:
        namespace = "without a namespace, not server-data in the namespace urn:xmpp:pie:0"
        self.refused(b"<server-data/>", namespace)
        self.refused(b"<server-data xmlns='http://www.xmpp.org/extensions/xep-0227.html#ns'/>", "not server-data in")
        self.refused(f"<user xmlns='urn:xmpp:pie:0' name='a'>{SCRAM}</user>".encode(), "the root is user")

    def test_no_xml(self) -> None:
        self.refused(b"PK\x03\x04", "not well-formed")
        self.refused(b"{}", "not well-formed")
        self.refused(b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>", "the encoding is ISO-8859-1, not UTF-8")
        self.refused(
            "<?xml version='1.0' encoding='UTF-16'?><a/>".encode("utf-16"), "the encoding is UTF-16, not UTF-8"
        )
