"""What a peer may not send, and how much it may cost: RFC 6120 4.9.3, 11.1, 11.6 and 13.12."""

from unittest import mock

from twisted.trial.unittest import TestCase

from dynxmpp.wire import tree
from dynxmpp.wire.stream import StreamLimits
from tests.wire.recording import HEADER, Recorder, each_byte, one_stanza, pieces_of

BEFORE = b"<message id='before'/>"
AFTER = b"<message id='after'/>"

BOMB = b"<?xml version='1.0'?><!DOCTYPE b [<!ENTITY a0 'ha'>" + b"".join(
    b"<!ENTITY a%d '%b'>" % (level, b"&a%d;" % (level - 1) * 10) for level in range(1, 7)
)

#: What comes instead of a stream header: (bytes, condition).
OPENINGS: dict[str, tuple[bytes, str]] = {
    "entity bomb": (BOMB + b"]>" + HEADER + b"<message><body>&a6;</body></message>", "restricted-xml"),
    "plain DTD": (b"<!DOCTYPE stream>" + HEADER, "restricted-xml"),
    "external DTD": (b"<!DOCTYPE stream SYSTEM 'file:///etc/passwd'>" + HEADER, "restricted-xml"),
    "external DTD with >": (b'<!DOCTYPE stream SYSTEM "x > y > z">' + HEADER, "restricted-xml"),
    "public DTD": (b"<!DOCTYPE stream PUBLIC '-//a' \"b>c\" [ ] >" + HEADER, "restricted-xml"),
    "external entity": (
        b"<!DOCTYPE s [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>" + HEADER + b"<message>&e;</message>",
        "restricted-xml",
    ),
    "comment": (b"<!-- hello -->" + HEADER, "restricted-xml"),
    "comment after the declaration": (b"<?xml version='1.0'?> <!-- > -->" + HEADER, "restricted-xml"),
    "processing instruction": (b"<?php > ?>" + HEADER, "restricted-xml"),
    "latin 1": (b"<?xml version='1.0' encoding='ISO-8859-1'?>" + HEADER, "unsupported-encoding"),
    "ASCII": (b'<?xml version="1.0" encoding="us-ascii"?>' + HEADER, "unsupported-encoding"),
    "declared UTF-16": (b"<?xml version='1.0' encoding='UTF-16'?>" + HEADER, "unsupported-encoding"),
    "no such encoding": (b"<?xml version='1.0' encoding='x-klingon'?>" + HEADER, "unsupported-encoding"),
    "UTF-16": (HEADER.decode().encode("utf-16"), "unsupported-encoding"),
    "UTF-16, little end first": (HEADER.decode().encode("utf-16-le"), "unsupported-encoding"),
    "UTF-16, big end first": (HEADER.decode().encode("utf-16-be"), "unsupported-encoding"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "not-well-formed"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not-well-formed"),
    "text": (b"hello " + HEADER, "not-well-formed"),
    "text after the declaration": (b"<?xml version='1.0'?>hello" + HEADER, "not-well-formed"),
    "late declaration": (b"\n<?xml version='1.0'?>" + HEADER, "not-well-formed"),
    "unbound prefix": (b"<stream:stream xmlns='jabber:client'>", "bad-namespace-prefix"),
    "end tag": (b"</stream:stream>", "not-well-formed"),
    "not even UTF-8": (b"<stream \xc3\x28='1'>", "not-well-formed"),
}

#: What comes after a header and a stanza: (bytes, condition).
CONTENTS: dict[str, tuple[bytes, str]] = {
    "comment": (b"<!-- a -->", "restricted-xml"),
    "comment with >": (b"<!-- it's > 'a -->", "restricted-xml"),
    "comment with one quotation mark": (b"<!-- it's -->", "restricted-xml"),
    "processing instruction with one quotation mark": (b"<?php it's ?>", "restricted-xml"),
    "comment in a stanza": (b"<message><!-- a --></message>", "restricted-xml"),
    "comment with > in a stanza": (b"<message>a<!-- > b > --></message>", "restricted-xml"),
    "processing instruction": (b"<?php a > b ?>", "restricted-xml"),
    "processing instruction in a stanza": (b"<message><?php a > b ?></message>", "restricted-xml"),
    "undefined entity": (b"<message><body>&nbsp;</body></message>", "restricted-xml"),
    "undefined entity in an attribute": (b"<message to='&nbsp;'/>", "restricted-xml"),
    "DTD": (b"<!DOCTYPE a>", "not-well-formed"),
    "second declaration": (b"<?xml version='1.0'?>", "not-well-formed"),
    "unbound prefix": (b"<a:message/>", "bad-namespace-prefix"),
    "unbound prefix of a child": (b"<message><a:body/></message>", "bad-namespace-prefix"),
    "unbound prefix of an attribute": (b"<message a:to='b'/>", "bad-namespace-prefix"),
    "prefix bound to nothing": (b"<message xmlns:a=''/>", "not-well-formed"),
    "namespace with a space": (b"<message xmlns='urn:a b'/>", "not-well-formed"),
    "text": (b"hello<message/>", "bad-format"),
    "text with >": (b"hello>", "bad-format"),
    "text after white space": (b" \n hello ", "bad-format"),
    "character reference": (b"&#32;<message/>", "bad-format"),
    "CDATA": (b"<![CDATA[ ]]><message/>", "bad-format"),
    "text before the end": (b"hello</stream:stream>", "bad-format"),
    "wrong end tag": (b"<message></presence>", "not-well-formed"),
    "end of another root": (b"</stream:features>", "not-well-formed"),
    "attribute twice": (b"<message to='a' to='b'/>", "not-well-formed"),
    "attribute twice by namespace": (
        b"<message xmlns:a='urn:a' xmlns:b='urn:a' a:to='1' b:to='2'/>",
        "not-well-formed",
    ),
    "< in an attribute": (b"<message to='a<b>'/>", "not-well-formed"),
    "]]> in a text": (b"<message>]]></message>", "not-well-formed"),
    "bare &": (b"<message>a & b</message>", "not-well-formed"),
    "U+0000": (b"<message>\0</message>", "not-well-formed"),
    "U+0000 by reference": (b"<message>&#0;</message>", "not-well-formed"),
    "U+000B": (b"<message>\x0b</message>", "not-well-formed"),
    "U+FFFE": (b"<message>\xef\xbf\xbe</message>", "not-well-formed"),
    "U+FFFE by reference": (b"<message>&#xfffe;</message>", "not-well-formed"),
    "surrogate": (b"<message>\xed\xa0\x80</message>", "not-well-formed"),
    "surrogate by reference": (b"<message>&#xd800;</message>", "not-well-formed"),
    "invalid UTF-8 in a text": (b"<message>\xff</message>", "not-well-formed"),
    "truncated UTF-8 in a text": (b"<message>\xe2\x82</message>", "not-well-formed"),
    "overlong UTF-8 in a text": (b"<message>\xc0\xaf</message>", "not-well-formed"),
    "invalid UTF-8 in an attribute": (b"<message to='\xff'/>", "not-well-formed"),
    "truncated UTF-8 in an attribute": (b"<message to='\xf0\x9f'/>", "not-well-formed"),
    "invalid UTF-8 in a name": (b"<mess\xffage/>", "not-well-formed"),
    "invalid UTF-8 in a prefix": (b"<message xmlns:\xff='urn:a'/>", "not-well-formed"),
}


class Conditions(TestCase):
    """Each danger gets its stream error, however the bytes are cut; what came before it arrives."""

    def test_openings(self) -> None:
        for what, (data, condition) in OPENINGS.items():
            for size in (len(data), 7, 1):
                recorder = Recorder()
                self.assertEqual(condition, recorder.feed(*pieces_of(data, size)), (what, size))
                self.assertEqual([], recorder.stanzas, what)

    def test_contents(self) -> None:
        for what, (data, condition) in CONTENTS.items():
            stream = HEADER + BEFORE + data
            for cut in range(1, len(stream)):
                recorder = Recorder()
                self.assertEqual(condition, recorder.feed(stream[:cut], stream[cut:]), (what, stream[:cut]))
                self.assertEqual(["before"], [s["id"] for s in recorder.stanzas if s.hasAttribute("id")], what)
            recorder = Recorder()
            self.assertEqual(condition, recorder.feed(*each_byte(stream)), what)

    def test_it_is_over_after_an_error(self) -> None:
        for data, condition in CONTENTS.values():
            recorder = Recorder()
            self.assertEqual(condition, recorder.feed(HEADER + BEFORE + data + AFTER))
            events = list(recorder.events)
            self.assertIsNone(recorder.feed(AFTER, b"</stream:stream>", HEADER))
            self.assertEqual(events, recorder.events)

    def test_after_the_end_nothing_is_read(self) -> None:
        for rest in (HEADER, b"hello", b"<!-- a -->", b"<message/>", b"</stream:stream>", b"\n"):
            for pieces in ([HEADER + b"</stream:stream>" + rest], [HEADER, b"</stream:stream>", rest]):
                recorder = Recorder()
                self.assertIsNone(recorder.feed(*pieces))
                self.assertEqual(["start", "end"], recorder.events)

    def test_allowed(self) -> None:
        """What looks like a danger and is none."""
        for opening in (
            b"\xef\xbb\xbf",
            b"<?xml version='1.0' encoding='utf-8'?>\n",
            b"<?xml version='1.0'?>",
            b"\r\n ",
        ):
            for pieces in ([opening + HEADER + BEFORE], each_byte(opening + HEADER + BEFORE)):
                recorder = Recorder()
                self.assertIsNone(recorder.feed(*pieces), opening)
                self.assertEqual(["start", "message"], recorder.names)
        texts = {
            "<![CDATA[<!-- a -->]]>": "<!-- a -->",
            "<![CDATA[<?php > ?>]]>": "<?php > ?>",
            "<![CDATA[<!DOCTYPE a>]]>": "<!DOCTYPE a>",
            "<![CDATA[<a b='>]]>": "<a b='>",
            "<![CDATA[ ]] > ]>]]>": " ]] > ]>",
            "it's > 'that": "it's > 'that",
            "\u20ac\U0001f600": "\u20ac\U0001f600",
        }
        for spelled, text in texts.items():
            for pieces in (
                [f"<message>{spelled}</message>".encode()],
                each_byte(f"<message>{spelled}</message>".encode()),
            ):
                recorder = Recorder()
                self.assertIsNone(recorder.feed(HEADER, *pieces), spelled)
                self.assertEqual([text], [stanza.character_data() for stanza in recorder.stanzas])


class Bounds(TestCase):
    """Sizes, and that reaching for them costs no more than they say."""

    def kept(self, recorder: Recorder) -> int:
        """Bytes that the stream keeps."""
        return len(recorder.stream._buffer) + len(recorder.stream._gate.held)

    def test_depth(self) -> None:
        limits = StreamLimits(max_depth=10)
        for depth, condition in ((10, None), (11, "policy-violation")):
            recorder = Recorder(limits)
            self.assertEqual(condition, recorder.feed(HEADER, BEFORE + b"<a>" * depth, b"</a>" * depth))
            self.assertEqual(1 + (condition is None), len(recorder.stanzas))

    def test_default_depth_can_be_printed(self) -> None:
        depth = StreamLimits().max_depth
        stanza = one_stanza("<a>" * depth + "</a>" * depth)
        stanza.children.append("text")
        self.assertEqual(b"<a>" * (depth - 1) + b"<a/>" + b"</a>" * (depth - 2) + b"text</a>", stanza.to_bytes())
        self.assertEqual(2 * depth - 1, stanza.copy_tree().toXml().count("<"))

    def test_attributes(self) -> None:
        limits = StreamLimits(max_attributes=10)
        for count, condition in ((10, None), (11, "policy-violation")):
            attributes = b"".join(b" a%d=''" % n for n in range(count))
            prefixes = b"".join(b" xmlns:a%d='urn:a'" % n for n in range(count))
            for data in (
                b"<message%b/>" % attributes,
                b"<message><body%b/></message>" % attributes,
                b"<message%b/>" % prefixes,
            ):
                recorder = Recorder(limits)
                self.assertEqual(condition, recorder.feed(HEADER + BEFORE + data), data)
                self.assertEqual(1 + (condition is None), len(recorder.stanzas))
            for header in (b"<stream%b>" % attributes, b"<stream%b>" % prefixes):
                self.assertEqual(condition, Recorder(limits).feed(header), header)

    def test_elements(self) -> None:
        limits = StreamLimits(max_elements=10)
        for count, condition in ((10, None), (11, "policy-violation")):
            recorder = Recorder(limits)
            data = HEADER + (b"<message>" + b"<a/>" * 10 + b"</message>") * 3
            self.assertEqual(condition, recorder.feed(data + b"<message>" + b"<a/>" * count + b"</message>"))
            self.assertEqual(3 + (condition is None), len(recorder.stanzas))

    def test_size(self) -> None:
        limits = StreamLimits(max_stanza_size=1000)
        for size, condition in ((1000, None), (1001, "policy-violation")):
            text = b"x" * (size - len(b"<a></a>"))
            for data in (b"<a>%b</a>" % text, b"<a b='%b'/>" % text[2:]):
                self.assertEqual(size, len(data))
                for step in (len(data), 999, 100, 1):
                    recorder = Recorder(limits)
                    # What is complete does not count; what follows in the same read may not either.
                    self.assertIsNone(recorder.feed(HEADER + BEFORE * 100))
                    self.assertEqual(condition, recorder.feed(*pieces_of(data + AFTER, step)), (size, step))
                    self.assertEqual(101 + (condition is None), len(recorder.stanzas) + (condition is not None))

    def test_size_of_the_header(self) -> None:
        limits = StreamLimits(max_stanza_size=1000)
        for step in (2000, 100, 1):
            self.assertEqual(
                "policy-violation", Recorder(limits).feed(*pieces_of(b"<stream a='%b'>" % (b"x" * 1000), step))
            )

    def test_endless(self) -> None:
        """None of them ever ends; none keeps more than it may."""
        limit = StreamLimits().max_stanza_size
        for what, beginning, piece in (
            ("start tag", b"<message", b" " * 1000),
            ("attribute", b"<message to='", b"x" * 1000),
            ("attribute of >", b"<message to='", b">" * 1000),
            ("text", b"<message><body>", b"x" * 1000),
            ("text of >", b"<message><body>", b">" * 1000),
            ("white space inside", b"<message><body>", b"\n" * 1000),
            ("elements", b"<message><body>", b"<a></a%b>" % (b" " * 93) * 10),
            ("CDATA", b"<message><![CDATA[", b"<a b='>" * 100),
            ("end tag", b"<message></message", b" " * 1000),
        ):
            recorder = Recorder()
            self.assertIsNone(recorder.feed(HEADER + BEFORE, beginning))
            sent, condition = len(beginning), None
            while condition is None and sent <= 2 * limit:
                condition = recorder.feed(piece)
                sent += len(piece)
                self.assertLessEqual(self.kept(recorder), limit)
            self.assertEqual(("policy-violation", ["before"]), (condition, [s["id"] for s in recorder.stanzas]), what)
            self.assertLess(limit, sent + 1000, what)
            self.assertLess(sent, limit + 2000, what)
            self.assertEqual(0, self.kept(recorder))

    def test_long_tags_are_not_fed_before_they_are_complete(self) -> None:
        """In small pieces expat would scan them again each time."""
        recorder = Recorder()
        recorder.feed(HEADER)
        with mock.patch.object(recorder.stream, "_feed", wraps=recorder.stream._feed) as feed:
            self.assertIsNone(recorder.feed(b"<message to='", *[b">" * 7] * 1000, b"'", b"/"))
            self.assertEqual(0, feed.call_count)
            self.assertIsNone(recorder.feed(b">"))
            self.assertEqual(1, feed.call_count)
        self.assertEqual([">" * 7000], [stanza["to"] for stanza in recorder.stanzas])

    def test_white_space_between_stanzas(self) -> None:
        """For ever, and for nothing."""
        recorder = Recorder(StreamLimits(max_stanza_size=1000))
        self.assertIsNone(recorder.feed(HEADER + BEFORE))
        for piece in (b" " * 60_000, b"\n", b"\r\n\t ", b" "):
            for _ in range(20):
                self.assertIsNone(recorder.feed(piece))
                self.assertEqual(0, self.kept(recorder))
        self.assertFalse(recorder.stream.has_unread)
        self.assertIsNone(recorder.feed(b" " * 60_000 + AFTER[:10], AFTER[10:] + b" " * 60_000 + b"</stream:stream>"))
        self.assertEqual(["start", "message", "message", "end"], recorder.names)

    def test_texts_come_in_few_pieces(self) -> None:
        """Of newlines or of entities: without buffer_text each would be a call of its own, and a new text."""
        for spelled, text in ((b"\n" * 200_000, "\n" * 200_000), (b"&amp;" * 200_000, "&" * 200_000)):
            recorder = Recorder(StreamLimits(max_stanza_size=2_000_000))
            with mock.patch.object(tree._Builder, "_text", autospec=True, side_effect=tree._Builder._text) as calls:
                self.assertIsNone(recorder.feed(HEADER, b"<message><body>" + spelled + b"</body></message>"))
                self.assertEqual(0, calls.call_count)
                (stanza,) = recorder.stanzas
                self.assertEqual(text, str(stanza.body))
            self.assertLess(calls.call_count, 50)
        self.assertEqual("policy-violation", Recorder().feed(HEADER, b"<message>" + b"&amp;" * 200_000 + b"</message>"))
