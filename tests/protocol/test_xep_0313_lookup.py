"""XEP-0313 queries over the wire: which page, in what order, at what place, complete or not."""

import re
from collections.abc import Callable
from typing import Any

from dynxmpp.core.iq_registry import Target
from tests.mam.archives import JULIET, NS_MAM, NS_RSM, NURSE, ROMEO, Archived, field, forwarded, id_of, text_id

#: The archive has messages 1 to 15. Query in words: messages, index, count, complete. None: absent.
WORKED_NUMBERS: list[tuple[str, str, int | None, int | None, bool]] = [
    ("max 5", "1-5", 0, 15, False),
    ("max 5, before", "11-15", 10, 15, False),
    ("max 5, index 5", "6-10", 5, 15, False),
    ("max 0", "", None, 15, False),
    ("max 0, before", "", None, 15, False),
    ("max 0, index 5", "", None, 15, False),
    ("max 5, before 10", "5-9", 4, 15, False),
    ("max 5, before 6", "1-5", 0, 15, True),
    ("max 5, before 5", "1-4", 0, 15, True),
    ("max 5, before 1", "", None, 15, True),
    ("max 5, after 10", "11-15", 10, 15, True),
    ("max 5, after 11", "12-15", 11, 15, True),
    ("max 5, after 9", "10-14", 9, 15, False),
    ("max 5, after-id 4", "5-9", 0, 11, False),
    ("max 5, after-id 4, before", "11-15", 6, 11, False),
    ("max 5, after-id 5, before", "11-15", 5, 10, False),
    ("max 5, after-id 5, before-id 11, before", "6-10", 0, 5, True),
    ("max 5, after-id 5, before-id 11, before, flip-page", "10-6", 0, 5, True),
    ("max 5, flip-page", "5-1", 0, 15, False),
    ("simple, max 5, before 10", "5-9", None, None, False),
    ("simple, max 5, before 3", "1-2", None, None, True),
    ("simple, max 5, before 6", "1-5", None, None, True),
    ("simple, max 0, before 1", "", None, None, True),
    ("simple, max 0, before 2", "", None, None, False),
    ("simple, max 3, after 5", "6-8", None, None, False),
    ("simple, max 5, after 10", "11-15", None, None, True),
    ("simple, max 5, after 12", "13-15", None, None, True),
]
#: What the table leaves open.
MORE_NUMBERS: list[tuple[str, str, int | None, int | None, bool]] = [
    ("", "1-15", 0, 15, True),
    ("max 15", "1-15", 0, 15, True),
    ("max 16, before", "1-15", 0, 15, True),
    ("max 15, before", "1-15", 0, 15, True),
    ("max 5, after 15", "", None, 15, True),
    ("max 0, after 15", "", None, 15, True),
    ("max 0, after 14", "", None, 15, False),
    ("max 0, before 1", "", None, 15, True),
    ("max 0, before 2", "", None, 15, False),
    ("max 0, index 15", "", None, 15, True),
    ("max 5, index 10", "11-15", 10, 15, True),
    ("max 5, index 13", "14-15", 13, 15, True),
    ("max 5, index 15", "", None, 15, True),
    ("max 5, index 99999999999999999999", "", None, 15, True),
    ("max 99999999999999999999, after 10", "11-15", 10, 15, True),
    ("max 5, index 3, after 10", "11-15", 10, 15, True),  # of both, the id counts
    ("max 5, index 3, before", "11-15", 10, 15, False),
    ("max 5, after 3, before 8", "4-7", 0, 12, True),  # `after` is as far as pages may be turned back
    ("max 2, after 3, before 8", "6-7", 2, 12, False),
    ("max 5, after 12, before", "13-15", 0, 3, True),
    ("max 5, from-id 4, to-id 6", "4-6", 0, 3, True),
    ("max 2, from-id 4, to-id 6", "4-5", 0, 3, False),
    ("max 2, after-id 4, after 6", "7-8", 2, 11, False),
    ("max 2, before-id 9, before 6", "4-5", 3, 8, False),
    ("max 5, after-id 8, before-id 5", "", None, 0, True),
    ("max 5, after 5, flip-page", "10-6", 5, 15, False),
    ("simple", "1-15", None, None, True),
    ("simple, max 5", "1-5", None, None, False),
    ("simple, max 5, index 12", "13-15", None, None, True),
    ("simple, max 5, before", "11-15", None, None, False),
    ("simple, max 5, before, flip-page", "15-11", None, None, False),
]

_PAGE_WORDS = ("max", "limit", "index", "before", "after")
_ID_FIELDS = ("after-id", "before-id", "from-id", "to-id", "after_id", "before_id", "from_id", "to_id")


def spelled(words: str) -> tuple[str, str, str]:
    """(fields, content of <set/>, other children) that `words` mean."""
    fields, page, extra = "", "", ""
    for word in filter(None, words.split(", ")):
        name, _, value = word.partition(" ")
        if name in _ID_FIELDS:
            fields += field(name, text_id(int(value)))
        elif name == "simple":
            fields += field("simple", "true")
        elif name in ("before", "after"):
            page += f"<{name}>{text_id(int(value))}</{name}>" if value else f"<{name}/>"
        elif name in _PAGE_WORDS:
            page += f"<{name}>{value}</{name}>"
        else:
            assert name == "flip-page", word
            extra += "<flip-page/>"
    return fields, page, extra


def numbers(range_: str) -> list[int]:
    if not range_:
        return []
    first, last = map(int, range_.split("-"))
    return list(range(first, last + 1)) if first <= last else list(range(first, last - 1, -1))


class WorkedNumbers(Archived):
    """Every row is asked of the archive of one conversation, and of one that is narrowed down to it."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill(range(1, 16))

    async def check(self, words: str, sent: str, index: int | None, count: int | None, complete: bool) -> None:
        form, content, extra = spelled(words)
        page = await self.ask(form, content, extra=extra)
        self.assertEqual(numbers(sent), page.numbers)
        self.assertEqual((index, count, complete), (page.index, page.count, page.complete == "true"))
        self.assertIn(page.complete, (None, "true"))
        ends = (page.ids[0], page.ids[-1]) if page.ids else (None, None)
        self.assertEqual(ends, (page.text("first"), page.text("last")))

    async def narrowed(self, words: str, sent: str, index: int | None, count: int | None, complete: bool) -> None:
        """The same numbers for one conversation among others, and with conditions that no index has."""
        await self.fill([n + 0.5 for n in range(16)], remote=NURSE)
        for narrowing in (
            field("with", JULIET),
            field("with", f"{JULIET}/balcony"),
            field("with", JULIET) + field("include-groupchat", "false"),
        ):
            form, content, extra = spelled(words)
            page = await self.ask(form + narrowing, content, extra=extra)
            self.assertEqual(numbers(sent), page.numbers)
            self.assertEqual((index, count, complete), (page.index, page.count, page.complete == "true"))


def _add_tests() -> None:
    def test(method: str, row: tuple[Any, ...]) -> Callable[[WorkedNumbers], Any]:
        async def run(self: WorkedNumbers) -> None:
            await getattr(self, method)(*row)

        return run

    for row in WORKED_NUMBERS + MORE_NUMBERS:
        name = re.sub("[^a-z0-9]+", "_", row[0] or "nothing")
        setattr(WorkedNumbers, f"test_{name}", test("check", row))
    for row in WORKED_NUMBERS:
        name = re.sub("[^a-z0-9]+", "_", row[0])
        setattr(WorkedNumbers, f"test_conversation_{name}", test("narrowed", row))


_add_tests()


class Filters(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1, 4], remote=JULIET)
        await self.fill([2], remote=JULIET, resource="garden")
        await self.fill([3, 6], remote=NURSE)
        await self.fill([5], remote="coven@chat.shakespeare.example", resource="witch", groupchat=True)

    async def assert_found(self, expected: list[int], *fields: str) -> None:
        page = await self.ask("".join(fields))
        self.assertEqual((expected, len(expected), "true"), (page.numbers, page.count, page.complete))

    async def test_with(self) -> None:
        await self.assert_found([1, 2, 4], field("with", JULIET))
        await self.assert_found([1, 2, 4], field("with", "JULIET@Capulet.Example"))
        await self.assert_found([2], field("with", f"{JULIET}/garden"))
        await self.assert_found([], field("with", f"{JULIET}/chamber"))
        await self.assert_found([], field("with", "stranger@capulet.example"))

    async def test_an_empty_field_is_none(self) -> None:
        await self.assert_found([1, 2, 3, 4, 5, 6], field("with", ""), "<field var='start'/>", field("after-id", " "))

    async def test_start_and_end_are_inclusive(self) -> None:
        at_two, at_four = "2022-06-08T09:00:02Z", "2022-06-08T10:00:04+01:00"
        await self.assert_found([2, 3, 4], field("start", at_two), field("end", at_four))
        await self.assert_found([3, 4, 5, 6], field("start", "2022-06-08T09:00:02.000001Z"))
        await self.assert_found([1, 2, 3], field("end", "2022-06-08T09:00:03.999999Z"))

    async def test_times_at_the_ends_of_the_calendar(self) -> None:
        everything = [1, 2, 3, 4, 5, 6]
        await self.assert_found(
            everything, field("start", "0001-01-01T00:00:00Z"), field("end", "9999-12-31T23:59:59Z")
        )
        await self.assert_found([], field("end", "1969-12-31T23:59:59Z"))
        await self.assert_found([], field("start", "9999-12-31T23:59:59Z"))

    async def test_what_is_no_time_is_passed_over(self) -> None:
        await self.assert_found([1, 2, 3, 4, 5, 6], field("start", "yesterday"), field("end", "2022-13-01T00:00:00Z"))

    async def test_include_groupchat(self) -> None:
        for no in ("false", "0"):
            await self.assert_found([1, 2, 3, 4, 6], field("include-groupchat", no))
        await self.assert_found([1, 2, 3, 4, 5, 6], field("include-groupchat", "true"))

    async def test_all_must_hold(self) -> None:
        times = field("start", "2022-06-08T09:00:02Z") + field("end", "2022-06-08T09:00:05Z")
        await self.assert_found([2, 4], field("with", JULIET), times)
        await self.assert_found([4], field("with", JULIET), times, field("after_id", text_id(3)))
        await self.assert_found([], field("with", NURSE), times, field("before_id", text_id(3)))

    async def test_both_spellings_of_ids(self) -> None:
        for low, high in (("after-id", "before-id"), ("after_id", "before_id")):
            await self.assert_found([3, 4], field(low, text_id(2)), field(high, text_id(5)))
        for low, high in (("from-id", "to-id"), ("from_id", "to_id")):
            await self.assert_found([2, 3, 4, 5], field(low, text_id(2)), field(high, text_id(5)))

    async def test_ids_in_lower_case(self) -> None:
        await self.assert_found([4, 5, 6], field("after-id", text_id(3).lower()))

    async def test_unknown_fields_and_form_types_are_passed_over(self) -> None:
        page = await self.ask(field("colour", "red") + field("with", NURSE), extra="<other xmlns='urn:example:other'/>")
        self.assertEqual([3, 6], page.numbers)

    async def test_the_first_form_counts(self) -> None:
        second = f"<x xmlns='jabber:x:data' type='submit'>{field('with', JULIET)}</x>"
        page = await self.ask(field("with", NURSE), extra=second)
        self.assertEqual([3, 6], page.numbers)

    async def test_an_id_that_the_filters_leave_out_is_no_place_for_a_page(self) -> None:
        error = await self.refusal(field("with", NURSE), f"<after>{text_id(1)}</after>")
        self.assert_error(error, "cancel", "item-not-found", "Message with specified ID is not found")
        # In a form it only has to be in the archive.
        await self.assert_found([3, 6], field("with", NURSE), field("after-id", text_id(1)))


class Ids(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill(range(1, 8))
        await self.fill([8], remote=NURSE)

    def ids(self, *wanted: int) -> str:
        return field("ids", *map(text_id, wanted))

    async def test_in_the_order_asked(self) -> None:
        page = await self.ask(self.ids(5, 2, 7))
        self.assertEqual(([5, 2, 7], 3, 0, "true"), (page.numbers, page.count, page.index, page.complete))
        self.assertEqual((text_id(5), text_id(7)), (page.text("first"), page.text("last")))

    async def test_one_that_is_named_twice_is_sent_once(self) -> None:
        self.assertEqual([5, 2], (await self.ask(self.ids(5, 2, 5))).numbers)

    async def test_one_that_is_missing_spoils_all(self) -> None:
        for extra in ("", field("simple", "true")):
            error = await self.refusal(self.ids(5, 99) + extra)
            self.assert_error(error, "cancel", "item-not-found", "Message with specified ID is not found")

    async def test_one_of_another_archive_is_missing(self) -> None:
        await self.fill([50], owner=JULIET, remote=ROMEO)
        error = await self.refusal(self.ids(50))
        self.assert_error(error, "cancel", "item-not-found", "Message with specified ID is not found")

    async def test_pages(self) -> None:
        page = await self.ask(self.ids(5, 2, 7, 1), "<max>2</max>")
        self.assertEqual(([5, 2], 4, None), (page.numbers, page.count, page.complete))
        page = await self.ask(self.ids(5, 2, 7, 1), f"<max>2</max><after>{text_id(2)}</after>")
        self.assertEqual(([7, 1], 4, "true"), (page.numbers, page.count, page.complete))
        page = await self.ask(self.ids(5, 2, 7, 1), f"<max>2</max><before>{text_id(7)}</before>", extra="<flip-page/>")
        self.assertEqual(([2, 5], 0, "true"), (page.numbers, page.index, page.complete))

    async def test_other_filters_hold_too(self) -> None:
        page = await self.ask(self.ids(8, 5) + field("with", NURSE))
        self.assertEqual(([8], 1), (page.numbers, page.count))

    async def test_simple(self) -> None:
        page = await self.ask(self.ids(5, 2) + field("simple", "true"))
        self.assertEqual(([5, 2], None, None), (page.numbers, page.count, page.index))


class ResultMessages(Archived):
    async def test_as_the_example_shows(self) -> None:
        await self.fill([1])
        self.romeo.sends(self.query_xml())
        message = await self.romeo.receives("message")
        self.assertEqual({"from": ROMEO, "to": f"{ROMEO}/orchard", "id": message["id"]}, dict(message.attributes))
        (result,) = message.elements(NS_MAM, "result")
        self.assertEqual({"queryid": "f27", "id": text_id(1)}, dict(result.attributes))
        (wrapper,) = result.elements("urn:xmpp:forward:0", "forwarded")
        (delay,) = wrapper.elements("urn:xmpp:delay", "delay")
        self.assertEqual({"stamp": "2022-06-08T09:00:01.000000Z", "from": f"{JULIET}/balcony"}, dict(delay.attributes))
        inner = forwarded(result)
        self.assertEqual((f"{JULIET}/balcony", ROMEO, "chat", "message 1"), _seen(inner))
        reply = await self.romeo.receives("iq")
        self.assertEqual(("result", "q1"), (reply["type"], reply["id"]))
        await self.host.silence(self.romeo)

    async def test_ids_of_messages_differ(self) -> None:
        await self.fill(range(1, 9))
        sent = [*(await self.ask()).messages, *(await self.ask()).messages]
        self.assertEqual(16, len({message["id"] for message in sent}))

    async def test_without_a_query_id(self) -> None:
        await self.fill([1])
        for attribute in ("", " queryid=''"):
            await self.romeo.asks(f"<iq type='set' id='1'><query xmlns='{NS_MAM}'{attribute}/></iq>")
            (message,) = self.romeo.received
            self.romeo.received.clear()
            self.assertEqual({"id": text_id(1)}, dict(next(message.elements()).attributes))

    async def test_what_a_query_id_may_contain(self) -> None:
        await self.fill([1])
        hostile = "&apos;/&gt;&lt;evil a=&apos;&quot;&amp;&#10;"
        await self.romeo.asks(f"<iq type='set' id='1'><query xmlns='{NS_MAM}' queryid='{hostile}'/></iq>")
        self.assertEqual("'/><evil a='\"&\n", next(self.romeo.received[0].elements())["queryid"])

    async def test_the_first_version_is_answered_in_its_namespace(self) -> None:
        await self.fill([1])
        reply = await self.romeo.asks(self.query_xml(namespace="urn:xmpp:mam:1"))
        self.assertEqual("urn:xmpp:mam:1", next(reply.elements()).uri)
        self.assertEqual("urn:xmpp:mam:1", next(self.romeo.received[0].elements()).uri)

    async def test_only_to_the_resource_that_asked(self) -> None:
        await self.fill([1])
        other = self.host.session(f"{ROMEO}/balcony")
        other.available = True
        await self.ask()
        await self.host.silence(other)

    async def test_addressed_to_the_own_account(self) -> None:
        await self.fill([1])
        xml = self.query_xml().replace("type='set'", f"type='set' to='{ROMEO}'")
        reply = await self.romeo.asks(xml)
        self.assertEqual(("result", ROMEO), (reply["type"], reply["from"]))

    async def test_a_row_that_holds_no_message(self) -> None:
        await self.fill(range(1, 6))
        broken = {2: "not xml", 3: "", 4: "<message from='a'><body>"}
        for number, data in broken.items():
            await self.db.execute("UPDATE mam_message SET stanza = %s WHERE id = %s", (data, id_of(number)))
        page = await self.ask()
        self.assertEqual([text_id(n) for n in range(1, 6)], page.ids)
        self.assertEqual(["message 1", *["Failed to decode message in database"] * 3, "message 5"], page.bodies)
        bad = forwarded(page.results[1])
        self.assertEqual("error", bad["type"])
        self.assertEqual({"code": "500", "type": "wait"}, dict(bad.error.attributes))
        self.assertEqual(["internal-server-error", "text"], [child.name for child in bad.error.elements()])

    async def test_a_message_in_any_language(self) -> None:
        await self.fill([1], bodies={1: "żółw \u2028 \U0001f422"})
        self.assertEqual(["żółw \u2028 \U0001f422"], (await self.ask()).bodies)

    async def test_an_account_without_an_archive(self) -> None:
        page = await self.ask()
        self.assertEqual(([], 0, "true", None), (page.numbers, page.count, page.complete, page.text("first")))
        page = await self.ask(field("simple", "true"))
        self.assertEqual(([], None, "true"), (page.numbers, page.count, page.complete))


def _seen(message: Any) -> tuple[str, str, str, str]:
    return message["from"], message["to"], message["type"], str(message.body)


class Bounds(Archived):
    """A page is bounded in messages by the configuration, and in bytes."""

    options = {"default_result_limit": 4, "max_result_limit": 8}

    async def test_in_messages(self) -> None:
        await self.fill(range(1, 21))
        for content, size in (("", 4), ("<max>6</max>", 6), ("<max>8</max>", 8), ("<max>9</max>", 8)):
            self.assertEqual(size, len((await self.ask("", content)).numbers))
        self.assertEqual(8, len((await self.ask("", "<limit>100</limit>")).numbers))
        page = await self.ask("", f"<max>{10**30}</max>")
        self.assertEqual((list(range(1, 9)), 20, None), (page.numbers, page.count, page.complete))

    async def test_in_bytes(self) -> None:
        await self.fill(range(1, 9), bodies=dict.fromkeys(range(1, 9), "x" * 80000))
        page = await self.ask("", "<max>8</max>")
        self.assertEqual(([1, 2, 3], 0, 8, None), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask("", "<max>8</max><before/>")
        self.assertEqual(([6, 7, 8], 5, 8, None), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask("", f"<max>8</max><before>{text_id(4)}</before>")
        self.assertEqual(([1, 2, 3], 0, 8, "true"), (page.numbers, page.index, page.count, page.complete))
        page = await self.ask(field("ids", *map(text_id, range(1, 9))), "<max>8</max>")
        self.assertEqual(([1, 2, 3], None), (page.numbers, page.complete))
        for form in ("", field("simple", "true")):
            page = await self.ask(form, f"<max>8</max><after>{text_id(3)}</after>")
            self.assertEqual(([4, 5, 6], None), (page.numbers, page.complete))
            page = await self.ask(form, "<max>8</max><before/>", extra="<flip-page/>")
            self.assertEqual(([8, 7, 6], None), (page.numbers, page.complete))

    async def test_large_messages_are_sent_one_by_one(self) -> None:
        await self.fill(range(1, 5), bodies=dict.fromkeys((1, 2, 3), "x" * 250_000))
        seen, content = [], ""
        for _ in range(5):
            page = await self.ask("", content)
            seen.append(page.numbers)
            content = f"<after>{page.text('last')}</after>"
            if page.complete:
                break
        self.assertEqual([[1], [2], [3, 4]], seen)


class SimpleOnly(Archived):
    options = {"enforce_simple_queries": True}

    async def test_every_query_is_simple(self) -> None:
        await self.fill(range(1, 6))
        page = await self.ask("", "<max>2</max>")
        self.assertEqual(([1, 2], None, None, None), (page.numbers, page.index, page.count, page.complete))


class ReadingWhatWasWritten(Archived):
    async def test_a_message_that_is_on_its_way_to_the_table(self) -> None:
        await self.archive()
        await self.archive(JULIET)
        self.host.session(f"{JULIET}/balcony").available = True
        self.romeo.sends(f"<message to='{JULIET}' type='chat' id='m1'><body>hello</body></message>")
        self.romeo.sends(self.query_xml())
        self.assertFalse([element.toXml() for element in self.romeo.received])
        self.clock.advance(1)
        message = await self.romeo.receives("message")
        self.assertEqual("hello", str(forwarded(next(message.elements())).body))
        await self.romeo.receives("iq")

    async def test_the_routes(self) -> None:
        iqs = self.host.host_types[0].iqs
        for namespace in ("urn:xmpp:mam:1", NS_MAM):
            for type_, name in (("set", "query"), ("get", "query"), ("get", "metadata")):
                self.assertIsNotNone(iqs.find(Target.ACCOUNT, type_, f"{namespace} {name}"))
        self.assertEqual("http://jabber.org/protocol/rsm", NS_RSM)
