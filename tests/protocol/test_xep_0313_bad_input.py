"""XEP-0313: bad input. It is refused or passed over, tells nothing of other archives, and harms nobody else."""

from typing import Any

from twisted.words.xish import domish

from dynxmpp.modules.mam.ids import MAX_ID, to_text
from dynxmpp.modules.mam.query import MAX_IDS, MAX_QUERY_ID
from dynxmpp.wire import escape
from tests.mam.archives import JULIET, NS_MAM, NURSE, ROMEO, Archived, field, forwarded, text_id
from tests.protocol.support import HOSTILE, condition

ID_FIELDS = ("before-id", "after-id", "before_id", "after_id", "from-id", "to-id")
UNDECODABLE = ("modify", "not-acceptable", "Invalid stanza ID provided")


class OtherArchives(Archived):
    """Ids of messages that others have: as if there were none."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 2, 8, 9])
        await self.fill([5], owner=JULIET, remote=ROMEO)

    async def test_an_id_of_another_archive_is_told_apart_from_no_other_one(self) -> None:
        for number in (5, 6):  # Juliet's, nobody's
            id_ = text_id(number)
            for form, page in (
                ("", f"<before>{id_}</before>"),
                ("", f"<after>{id_}</after>"),
                ("", f"<max>0</max><after>{id_}</after>"),
                (field("with", JULIET), f"<before>{id_}</before>"),
                *((field(name, id_), "") for name in ID_FIELDS),
                (field("ids", id_), ""),
                (field("ids", text_id(1), id_), ""),
                (field("fulltext", "message"), f"<after>{id_}</after>"),
            ):
                error = await self.refusal(form, page)
                self.assert_error(error, "cancel", "item-not-found", "Message with specified ID is not found")
                self.assertNotIn(id_, error.toXml())

    async def test_simple_queries_go_by_the_number_alone(self) -> None:
        simple = field("simple", "true")
        for number in (5, 6):
            for form, page, expected in (
                (simple, f"<before>{text_id(number)}</before>", [1, 2]),
                (simple, f"<after>{text_id(number)}</after>", [8, 9]),
                (simple + field("after-id", text_id(number)), "", [8, 9]),
                (simple + field("to-id", text_id(number)), "", [1, 2]),
            ):
                found = await self.ask(form, page)
                self.assertEqual((expected, None, None), (found.numbers, found.index, found.count))


class Extremes(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 2])

    async def test_ids_at_both_ends(self) -> None:
        simple, first, last = field("simple", "true"), to_text(0), to_text(MAX_ID)
        for form, page, expected in (
            ("", f"<after>{last}</after>", []),
            ("", f"<before>{last}</before>", [1, 2]),
            ("", f"<after>{first}</after>", [1, 2]),
            ("", f"<before>{first}</before>", []),
            ("", f"<before>{last}</before><after>{last}</after>", []),
            ("", f"<max>0</max><after>{last}</after>", []),
            (field("after-id", last), "", []),
            (field("after-id", last), "<before/>", []),
            (field("after-id", last), f"<after>{text_id(1)}</after>", []),
            (field("after-id", last) + field("with", f"{JULIET}/balcony"), "", []),
            (field("after-id", last) + field("fulltext", "message"), "", []),
            (field("from-id", last), "", []),
            (field("before-id", first), "", []),
            (field("to-id", first), "", []),
            (field("before-id", last), "", [1, 2]),
        ):
            found = await self.ask(simple + form, page)
            self.assertEqual((expected, "true"), (found.numbers, found.complete), (form, page))

    async def test_sizes_and_places(self) -> None:
        huge = "9" * 5000
        for page, expected, complete in (
            (f"<max>{huge}</max>", [1, 2], "true"),
            ("<max>0</max>", [], None),
            ("<max>00001</max>", [1], None),
            (f"<index>{huge}</index>", [], "true"),
            (f"<max>{2**63}</max><index>{2**63 - 1}</index>", [], "true"),
            (f"<max>{2**64}</max><before>{text_id(2)}</before>", [1], "true"),
        ):
            found = await self.ask("", page)
            self.assertEqual((expected, 2, complete), (found.numbers, found.count, found.complete), page)
        for page in ("<max>-1</max>", "<max>1.5</max>", "<max>1e3</max>", "<max>NaN</max>", f"<index>-{huge}</index>"):
            error = await self.refusal("", page)
            self.assertEqual(("modify", "bad-request"), (error["type"], next(error.elements()).name), page)

    async def test_dates(self) -> None:
        for text in (
            "2022-06-08",
            "2022-06-31T00:00:00Z",
            "2022-06-08T09:00:00",
            "2022-06-08T25:00:00Z",
            "2022-06-08T09:00:00+99:00",
            "-0001-01-01T00:00:00Z",
            "99999-01-01T00:00:00Z",
            "1654678800",
            "2022-06-08T09:00:00." + "9" * 10_000 + "x",
            *map(escape.text, HOSTILE),
        ):
            found = await self.ask(field("start", text) + field("end", text))
            self.assertEqual([1, 2], found.numbers, text)

    async def test_dates_that_no_calendar_has_any_more(self) -> None:
        found = await self.ask(field("start", "0001-01-01T00:00:00+14:00") + field("end", "9999-12-31T23:59:59-14:00"))
        self.assertEqual([1, 2], found.numbers)

    async def test_a_request_that_fails_harms_no_other_one(self) -> None:
        """Look-ups of the same moment share a statement."""
        other = self.host.session(f"{ROMEO}/garden")
        self.romeo.sends(self.query_xml(field("simple", "true") + field("after-id", to_text(MAX_ID))))
        reply = await other.asks(self.query_xml(field("simple", "true")))
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assertEqual(2, len(other.received))


class Bounds(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 2])

    async def test_ids(self) -> None:
        many = [1 + n / 1000 for n in range(MAX_IDS)]
        await self.fill(many[1:])
        found = await self.ask(field("ids", *map(text_id, many)), "<max>0</max>")
        self.assertEqual(MAX_IDS, found.count)
        error = await self.refusal(field("ids", *map(text_id, [*many, 2])))
        self.assert_error(error, "modify", "not-acceptable", f"At most {MAX_IDS} ids")
        # Those that are not there, and the same one again and again, are no cheaper.
        for values in ([text_id(7)] * 8000, [text_id(n / 10) for n in range(8000)]):
            error = await self.refusal(field("ids", *values))
            self.assert_error(error, "modify", "not-acceptable", f"At most {MAX_IDS} ids")

    async def test_a_query_id_comes_back_with_each_message(self) -> None:
        long = "x" * MAX_QUERY_ID
        request = f"<iq type='set' id='1'><query xmlns='{NS_MAM}' queryid='{long}'/></iq>"
        self.assertEqual("result", (await self.romeo.asks(request))["type"])
        self.assertEqual([long] * 2, [next(m.elements())["queryid"] for m in self.romeo.received])
        self.romeo.received.clear()
        reply = await self.romeo.asks(request.replace(long, f"{long}x"))
        self.assert_error(reply.error, "modify", "bad-request", f"queryid is longer than {MAX_QUERY_ID} characters")
        self.assertFalse(self.romeo.received)

    async def test_many_words(self) -> None:
        words = " ".join(f"word{n}" for n in range(10_000))
        self.assertEqual([], (await self.ask(field("fulltext", words))).numbers)
        found = await self.ask(field("fulltext", " ".join(["message"] * 10_000)))
        self.assertEqual([1, 2], found.numbers)
        self.assertEqual([], (await self.ask(field("fulltext", "m" * 200_000))).numbers)

    async def test_many_fields(self) -> None:
        form = "".join(field(f"f{n}", "x") for n in range(4000)) + field("with", JULIET)
        self.assertEqual([1, 2], (await self.ask(form)).numbers)


class Hostile(Archived):
    """Values that mean something to SQL, XML or regular expressions: none is ever more than a value."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 2])
        await self.fill([3], owner=JULIET, remote=ROMEO)
        self.texts = [*map(escape.text, HOSTILE), "]]&gt;", "&lt;/value&gt;", "(a+)+$", "&#9;&#10;&#13;"]

    async def check(self, form: str = "", page: str = "") -> domish.Element:
        """The answer; no answer has more than Romeo's archive, and none is about our own faults."""
        reply = await self.romeo.asks(self.query_xml(form, page))
        if reply["type"] == "error":
            self.assertIn(condition(reply), ("jid-malformed", "not-acceptable", "bad-request"), (form, page))
            self.assertFalse(self.romeo.received)
        for message in self.romeo.received:
            self.assertIn(forwarded(next(message.elements()))["id"], ("m1", "m2"))
        self.romeo.received.clear()
        return reply

    async def test_with(self) -> None:
        for text in self.texts:
            await self.check(field("with", text))
            await self.check(field("with", f"{text}@capulet.example"))
            reply = await self.check(field("with", f"{JULIET}/{text}"))
            if text.isascii() and not text.startswith("&#"):  # the others are no resources
                self.assertIn("<count>0</count>", reply.toXml(), text)

    async def test_ids(self) -> None:
        for text in (t for t in self.texts if t not in ("&#9;&#10;&#13;", "NULL")):
            for name in (*ID_FIELDS, "ids"):
                self.assert_error((await self.check(field(name, text))).error, *UNDECODABLE)
            for name in ("before", "after"):
                self.assert_error((await self.check("", f"<{name}>{text}</{name}>")).error, *UNDECODABLE)

    async def test_search(self) -> None:
        for text in self.texts:
            for name in ("{urn:xmpp:fulltext:0}fulltext", "fulltext", "full-text-search"):
                self.assertEqual("result", (await self.check(field(name, text)))["type"], text)

    async def test_names_of_fields(self) -> None:
        for text in HOSTILE:
            name = escape.attribute(text)
            reply = await self.check(field(name, "x"))
            self.assertIn("<count>2</count>", reply.toXml(), text)

    async def test_query_ids(self) -> None:
        for text in [*HOSTILE, "'/><evil xmlns='urn:evil' a='", '"&<>\t\n\r']:
            spelled = escape.attribute(text)
            await self.romeo.asks(f"<iq type='set' id='1'><query xmlns='{NS_MAM}' queryid='{spelled}'/></iq>")
            self.assertEqual([text] * 2, [next(m.elements())["queryid"] for m in self.romeo.received])
            self.romeo.received.clear()

    async def test_the_tables_are_as_they_were(self) -> None:
        await self.test_with()
        await self.test_search()
        self.assertEqual([1, 2], (await self.ask()).numbers)
        self.assertEqual([3], (await self.ask(session=self.host.session(f"{JULIET}/balcony"))).numbers)


class Forms(Archived):
    """Elements that are not what they should be are none."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 2])
        await self.fill([3], remote=NURSE)

    async def ask_raw(self, inner: str) -> list[str]:
        reply = await self.romeo.asks(f"<iq type='set' id='1'><query xmlns='{NS_MAM}'>{inner}</query></iq>")
        self.assertEqual("result", reply["type"], reply.toXml())
        ids = [next(message.elements())["id"] for message in self.romeo.received]
        self.romeo.received.clear()
        return ids

    async def test_shapes(self) -> None:
        everything = [text_id(n) for n in (1, 2, 3)]
        for inner in (
            "text",
            "<x xmlns='jabber:x:data'/>",
            "<x xmlns='jabber:x:data' type='cancel'/>",
            "<x xmlns='jabber:x:data'>text<field/><field var='with'/><field var='with'><value/></field></x>",
            f"<x xmlns='urn:example:other'>{field('with', NURSE)}</x>",
            f"<x xmlns='jabber:x:data'><item>{field('with', NURSE)}</item></x>",
            f"<field xmlns='jabber:x:data' var='with'><value>{NURSE}</value></field>",
            "<set xmlns='http://jabber.org/protocol/rsm'>5</set>",
            "<set xmlns='http://jabber.org/protocol/rsm'><max xmlns='urn:other'>1</max></set>",
            "<max>1</max>",
        ):
            self.assertEqual(everything, await self.ask_raw(inner), inner)

    async def test_form_type_and_type_of_the_form_do_not_matter(self) -> None:
        for type_ in ("submit", "form", "cancel", "nonsense", ""):
            inner = (
                f"<x xmlns='jabber:x:data' type='{type_}'>{field('FORM_TYPE', 'urn:other')}{field('with', NURSE)}</x>"
            )
            self.assertEqual([text_id(3)], await self.ask_raw(inner))


class Places(Archived):
    """Where a query may be sent to."""

    query = f"<query xmlns='{NS_MAM}'/>"

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1])
        self.juliet = self.host.session(f"{JULIET}/balcony")

    def request(self, to: str, payload: str | None = None, type_: str = "set") -> str:
        return f"<iq type='{type_}' id='1' to='{to}'>{payload or self.query}</iq>"

    async def refused(self, session: Any, to: str, expected: str, **options: Any) -> None:
        reply = await session.asks(self.request(to, **options))
        self.assertEqual(expected, condition(reply), to)
        await self.host.silence(session)

    async def test_the_domain_has_no_archive(self) -> None:
        for to in ("montague.example", "capulet.example", "montague.example/orchard"):
            await self.refused(self.romeo, to, "service-unavailable")

    async def test_a_full_address_is_the_clients_own_affair(self) -> None:
        """RFC 6121 8.5.3.1: it is handed to that client, which may be the one that asks."""
        self.romeo.sends(self.request(f"{ROMEO}/orchard"))
        request = await self.romeo.receives("iq")
        self.assertEqual("set", request["type"])
        self.juliet.sends(self.request(f"{ROMEO}/orchard"))
        request = await self.romeo.receives("iq")
        self.assertEqual(("set", f"{JULIET}/balcony"), (request["type"], request["from"]))
        await self.host.silence(self.romeo, self.juliet)

    async def test_a_client_that_is_not_there(self) -> None:
        for session in (self.romeo, self.juliet):
            await self.refused(session, f"{ROMEO}/gone", "service-unavailable")

    async def test_an_account_that_is_not_there(self) -> None:
        await self.refused(self.romeo, "nobody@montague.example", "service-unavailable")

    async def test_what_is_not_asked_like_this(self) -> None:
        for type_, payload in (
            ("set", f"<metadata xmlns='{NS_MAM}'/>"),
            ("set", "<query xmlns='urn:xmpp:mam:0'/>"),
            ("set", "<query xmlns='urn:xmpp:mam:tmp'/>"),
            ("get", "<query xmlns='urn:xmpp:mam:0'/>"),
            ("set", f"<fin xmlns='{NS_MAM}'/>"),
            ("set", f"<result xmlns='{NS_MAM}'/>"),
        ):
            await self.refused(self.romeo, ROMEO, "service-unavailable", payload=payload, type_=type_)
