"""Whatever the text: it comes out of a parser as it went in, and what no parser accepts does not go in."""

from xml.parsers import expat

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.wire import escape

PLENTY = settings(max_examples=500, deadline=None)
ANY = st.text(
    st.characters(exclude_categories=[])
    | st.sampled_from(
        "<>&'\"]\t\n\r \0\x0b\x1f\x7f\x85\u2028\ud7ff\ud800\udfff\ue000\ufffd\ufffe\uffff\U0001ffff\U0010ffff"
    )
)


def is_xml(character: str) -> bool:
    """XML 1.0 2.2: Char."""
    code = ord(character)
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def expected(text: str) -> str:
    return "".join(character if is_xml(character) else "\ufffd" for character in text)


def parsed(data: bytes) -> tuple[str, list[tuple[str, dict[str, str]]]]:
    """(the character data, names and attributes of the elements) by expat, with namespaces."""
    texts: list[str] = []
    elements: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate("UTF-8", " ")
    parser.CharacterDataHandler = texts.append
    parser.StartElementHandler = lambda name, attributes: elements.append((name, attributes))
    parser.Parse(data, True)
    return "".join(texts), elements


class RoundTrips(TestCase):
    @PLENTY
    @given(ANY)
    def test_text(self, text: str) -> None:
        self.assertEqual(expected(text), parsed(f"<a>{escape.text(text)}</a>".encode())[0])

    @PLENTY
    @given(ANY)
    def test_attribute(self, text: str) -> None:
        self.assertEqual({"b": expected(text)}, parsed(f"<a b='{escape.attribute(text)}'/>".encode())[1][0][1])

    def test_every_character(self) -> None:
        every = "".join(map(chr, range(0x11000)))
        self.assertEqual(expected(every), parsed(f"<a>{escape.text(every)}</a>".encode())[0])
        self.assertEqual({"b": expected(every)}, parsed(f"<a b='{escape.attribute(every)}'/>".encode())[1][0][1])
        for code in range(0x11000):
            character = chr(code)
            if not is_xml(character):
                self.assertEqual(("\ufffd", "\ufffd"), (escape.text(character), escape.attribute(character)))

    @PLENTY
    @given(
        st.dictionaries(
            st.sampled_from(["a", "b", "nn4"]), st.sampled_from(["urn:a", "urn:b", "urn:c'&<"]), max_size=3
        ),
        st.dictionaries(
            st.tuples(
                st.sampled_from(["", "urn:a", "urn:b", "urn:c'&<", "urn:d", "http://www.w3.org/XML/1998/namespace"]),
                st.sampled_from(["x", "y", "lang"]),
            ),
            ANY,
            max_size=5,
        ),
        st.none() | st.sampled_from(["", "urn:a", "urn:c'&<"]),
    )
    def test_open_tag(
        self, prefixes: dict[str, str], values: dict[tuple[str, str], str], namespace: str | None
    ) -> None:
        attributes: dict[escape.AttributeName, str] = {
            (key if key[0] else key[1]): value for key, value in values.items()
        }
        tag = escape.open_tag("name", attributes, prefixes, namespace, "/>")
        ((name, found),) = parsed(tag.encode())[1]
        self.assertEqual(f"{namespace} name" if namespace else "name", name)
        self.assertEqual({f"{uri} {n}" if uri else n: expected(v) for (uri, n), v in values.items()}, found)


class Spelling(TestCase):
    def test_untouched_is_the_same_object(self) -> None:
        """Most values need nothing, and cost one search."""
        for text in ("romeo@montague.example/orchard", "тишина", "\U0001f600", "", "a b"):
            self.assertIs(text, escape.attribute(text))
            self.assertIs(text, escape.text(text))
        self.assertIs("it's \"\t\n", escape.text("it's \"\t\n"))

    def test_white_space_in_attributes(self) -> None:
        """A parser would make blanks of it (XML 1.0 3.3.3)."""
        self.assertEqual("&#9;&#10;&#13; ", escape.attribute("\t\n\r "))
        self.assertEqual("\t\n&#13; ", escape.text("\t\n\r "))

    def test_open_tag(self) -> None:
        self.assertEqual("<a>", escape.open_tag("a", {}, {}))
        self.assertEqual("<a/>", escape.open_tag("a", {}, {}, None, "/>"))
        self.assertEqual("<a xmlns=''>", escape.open_tag("a", {}, {}, ""))
        self.assertEqual(
            "<a xmlns='urn:a&amp;' xmlns:b='urn:b' c='&lt;' b:d='e' xml:lang='en'>",
            escape.open_tag(
                "a",
                {"c": "<", ("urn:b", "d"): "e", ("http://www.w3.org/XML/1998/namespace", "lang"): "en"},
                {"b": "urn:b"},
                "urn:a&",
            ),
        )
        self.assertEqual("<a b='c'>", escape.open_tag("a", {("", "b"): "c"}, {}))
