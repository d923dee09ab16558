"""XEP-0313: what is refused, how, and that nothing is sent then."""

from typing import Any

from twisted.words.xish import domish

from dynxmpp.db.pool import DatabaseUnavailable
from tests.mam.archives import JULIET, NS_MAM, NURSE, ROMEO, Archived, Configured, field, text_id

UNKNOWN = ("cancel", "item-not-found", "Message with specified ID is not found")
UNDECODABLE = ("modify", "not-acceptable", "Invalid stanza ID provided")
NOT_ALLOWED = ("cancel", "not-allowed", "The action is not allowed.")
FLOODING = ("wait", "resource-constraint", "The action is cancelled because of flooding.")

REQUESTS = (
    f"<iq type='set' id='1' to='{ROMEO}'><query xmlns='{NS_MAM}'/></iq>",
    f"<iq type='get' id='1' to='{ROMEO}'><query xmlns='{NS_MAM}'/></iq>",
    f"<iq type='get' id='1' to='{ROMEO}'><metadata xmlns='{NS_MAM}'/></iq>",
)


class Ids(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([3, 4, 6, 7])

    async def test_unknown_ids_of_pages(self) -> None:
        for number in (1, 5, 9):  # before all, between, after all
            for page in (f"<before>{text_id(number)}</before>", f"<after>{text_id(number)}</after>"):
                for size in ("", "<max>0</max>", "<max>1</max>"):
                    self.assert_error(await self.refusal("", page + size), *UNKNOWN)

    async def test_unknown_ids_of_fields(self) -> None:
        for name in ("before-id", "after-id", "before_id", "after_id", "from-id", "to-id", "ids"):
            for number in (1, 5, 9):
                self.assert_error(await self.refusal(field(name, text_id(number))), *UNKNOWN)

    async def test_an_unknown_one_beside_a_known_one(self) -> None:
        for fields in (
            field("after-id", text_id(3)) + field("before-id", text_id(5)),
            field("after-id", text_id(5)) + field("before-id", text_id(7)),
        ):
            self.assert_error(await self.refusal(fields), *UNKNOWN)
        both = f"<before>{text_id(7)}</before><after>{text_id(5)}</after>"
        self.assert_error(await self.refusal("", both), *UNKNOWN)

    async def test_one_that_the_interval_leaves_out(self) -> None:
        interval = field("after-id", text_id(3)) + field("before-id", text_id(4))  # empty
        for number in (3, 4, 6):
            for name in ("before", "after"):
                self.assert_error(await self.refusal(interval, f"<{name}>{text_id(number)}</{name}>"), *UNKNOWN)

    async def test_simple_queries_do_not_look(self) -> None:
        simple = field("simple", "true")
        page = await self.ask(simple, f"<after>{text_id(5)}</after>")
        self.assertEqual([6, 7], page.numbers)
        page = await self.ask(simple, f"<before>{text_id(5)}</before>")
        self.assertEqual([3, 4], page.numbers)
        page = await self.ask(simple + field("after-id", text_id(5)))
        self.assertEqual([6, 7], page.numbers)

    async def test_undecodable_ids(self) -> None:
        for text in ("W", "10 11", "-1", "0x1", "8000000000000", "V" * 13, "V" * 5000, "१"):
            for page in (f"<before>{text}</before>", f"<after>{text}</after>"):
                self.assert_error(await self.refusal("", page), *UNDECODABLE)
            for name in ("before-id", "after_id", "from-id", "to-id", "ids"):
                self.assert_error(await self.refusal(field("simple", "true") + field(name, text)), *UNDECODABLE)

    async def test_an_archive_that_is_not_there(self) -> None:
        juliet = self.host.session(f"{JULIET}/balcony")
        for form, content in (
            ("", f"<after>{text_id(3)}</after>"),
            ("", f"<before>{text_id(3)}</before>"),
            (field("after-id", text_id(3)), ""),
            (field("ids", text_id(3)), ""),
        ):
            reply = await juliet.asks(self.query_xml(form, content))
            self.assert_error(reply.error, *UNKNOWN)


class Values(Archived):
    async def test_sizes_and_places_that_are_no_numbers(self) -> None:
        await self.fill([1])
        for content in ("<max>-1</max>", "<max>ten</max>", "<max/>", "<index>-5</index>", "<index>x</index>"):
            error = await self.refusal("", content)
            self.assertEqual(("modify", "bad-request"), (error["type"], next(error.elements()).name), content)

    async def test_with_is_no_address(self) -> None:
        await self.fill([1])
        for text in ("@", "a@", f"{'x' * 1100}@capulet.example", "a@b/", "a b@capulet.example"):
            error = await self.refusal(field("with", text))
            self.assertEqual(("modify", "jid-malformed"), (error["type"], next(error.elements()).name), text)

    async def test_sql_in_values(self) -> None:
        await self.fill([1])
        for text in ("x' OR '1'='1", "%s", "\\'; --", "$1"):
            page = await self.ask(field("with", f"{JULIET}/{text}"))
            self.assertEqual([], page.numbers)


class Strangers(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1])
        self.juliet = self.host.session(f"{JULIET}/balcony")

    async def test_nobody_else_may(self) -> None:
        for request in REQUESTS:
            reply = await self.juliet.asks(request)
            self.assert_error(reply.error, *NOT_ALLOWED)
        await self.host.silence(self.juliet)

    async def test_not_with_a_request_that_is_wrong_otherwise_either(self) -> None:
        request = self.query_xml("", "<max>x</max>").replace("<iq", f"<iq to='{ROMEO}'")
        self.assert_error((await self.juliet.asks(request)).error, *NOT_ALLOWED)

    async def test_other_archives_are_not_told_apart(self) -> None:
        xml = f"<iq type='set' id='1' to='{NURSE}'><query xmlns='{NS_MAM}'/></iq>"
        self.assert_error((await self.juliet.asks(xml)).error, *NOT_ALLOWED)


class Rules(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1])
        self.juliet = self.host.session(f"{JULIET}/balcony")

    def configure(self, **rules: str) -> None:
        self.host.host_types[0].config = Configured(rules)  # type: ignore[assignment]

    async def outcomes(self, session: Any) -> list[str]:
        outcomes = [(await session.asks(request))["type"] for request in REQUESTS]
        session.received.clear()
        return outcomes

    async def test_a_rule_that_allows(self) -> None:
        self.configure(mam_set_message_form="allow")
        self.assertEqual(["result", "error", "error"], await self.outcomes(self.juliet))
        self.configure(mam_lookup_messages="allow", mam_get_message_form="allow", mam_get_metadata="allow")
        self.assertEqual(["result"] * 3, await self.outcomes(self.juliet))

    async def test_who_is_allowed_reads_that_archive_and_no_other(self) -> None:
        await self.fill([2], owner=JULIET, remote=ROMEO)
        self.configure(mam_set_message_form="allow")
        reply = await self.juliet.asks(self.query_xml().replace("<iq", f"<iq to='{ROMEO}'"))
        self.assertEqual(ROMEO, reply["from"])
        (message,) = self.juliet.received
        self.assertEqual((ROMEO, f"{JULIET}/balcony"), (message["from"], message["to"]))
        self.assertEqual(text_id(1), next(message.elements())["id"])
        await self.host.silence(self.romeo)
        self.juliet.received.clear()
        # Nor does a rule make an archive where there is no account.
        reply = await self.juliet.asks(self.query_xml().replace("<iq", "<iq to='nobody@montague.example'"))
        self.assert_error(reply.error, "cancel", "service-unavailable")

    async def test_a_rule_that_denies(self) -> None:
        self.configure(mam_set_message_form="deny")
        self.assertEqual(["error", "result", "result"], await self.outcomes(self.romeo))
        self.configure(mam_lookup_messages="deny", mam_set_message_form="allow", mam_get_message_form="deny")
        self.assertEqual(["error", "error", "result"], await self.outcomes(self.romeo))
        self.configure(mam_get_metadata="deny")
        self.assertEqual(["result", "result", "error"], await self.outcomes(self.romeo))

    async def test_a_rule_that_leaves_it(self) -> None:
        self.configure(mam_set_message_form="default", mam_get_message_form="default", mam_get_metadata="default")
        self.assertEqual(["result"] * 3, await self.outcomes(self.romeo))
        self.assertEqual(["error"] * 3, await self.outcomes(self.juliet))

    async def test_rules_of_rooms_are_others(self) -> None:
        self.configure(muc_mam_set_message_form="deny")
        self.assertEqual(["result"] * 3, await self.outcomes(self.romeo))


class Shapers(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1])

    def configure(self, **shapers: int) -> None:
        self.host.host_types[0].config = Configured({}, shapers)  # type: ignore[assignment]

    def asks(self, session: Any, number: int) -> None:
        session.sends(f"<iq type='get' id='{number}'><query xmlns='{NS_MAM}'/></iq>")

    async def test_requests_wait_their_turn(self) -> None:
        self.configure(mam_get_message_form_shaper=2)
        for number in range(4):
            self.asks(self.romeo, number)
        self.assertEqual(["0", "1"], self.answered(self.romeo))
        self.clock.advance(0.5)
        self.assertEqual(["0", "1", "2"], self.answered(self.romeo))
        self.clock.advance(0.5)
        self.assertEqual(["0", "1", "2", "3"], self.answered(self.romeo))

    async def test_each_account_by_itself(self) -> None:
        self.configure(mam_get_message_form_shaper=1)
        nurse = self.host.session(f"{NURSE}/kitchen")
        for number in range(2):
            self.asks(self.romeo, number)
        self.asks(nurse, 9)
        self.assertEqual((["0"], ["9"]), (self.answered(self.romeo), self.answered(nurse)))
        self.clock.advance(1)

    async def test_all_together(self) -> None:
        self.configure(mam_get_message_form_global_shaper=1)
        nurse = self.host.session(f"{NURSE}/kitchen")
        self.asks(self.romeo, 0)
        self.asks(nurse, 9)
        self.assertEqual((["0"], []), (self.answered(self.romeo), self.answered(nurse)))
        self.clock.advance(1)
        self.assertEqual(["9"], self.answered(nurse))

    async def test_beyond_ten_that_wait(self) -> None:
        self.configure(mam_get_message_form_global_shaper=10)
        sessions = [self.host.session(f"{ROMEO}/{n}") for n in range(21)]
        for number, session in enumerate(sessions):
            self.asks(session, number)
        self.assert_error(self.refused(sessions[20]), *FLOODING)
        self.assertEqual(1, self.module.reading.permission.dropped)
        self.assertEqual([1] * 10 + [0] * 10, [len(session.received) for session in sessions[:20]])
        self.clock.advance(1)
        self.assertEqual([1] * 20, [len(session.received) for session in sessions[:20]])

    async def test_beyond_five_seconds(self) -> None:
        self.configure(mam_get_message_form_global_shaper=1)
        sessions = [self.host.session(f"{ROMEO}/{n}") for n in range(8)]
        for number, session in enumerate(sessions):
            self.asks(session, number)
        for session in sessions[6:]:
            self.assert_error(self.refused(session), *FLOODING)
        self.assertEqual([1, 0, 0, 0, 0, 0], [len(session.received) for session in sessions[:6]])
        for _ in range(5):
            self.clock.advance(1)
        self.assertEqual([1] * 6, [len(session.received) for session in sessions[:6]])

    async def test_both_names_slow_queries(self) -> None:
        for name in ("mam_set_message_form_shaper", "mam_lookup_messages_shaper"):
            self.configure(**{name: 1})
            session = self.host.session(f"{ROMEO}/{name}")
            await session.asks(self.query_xml())
            session.received.clear()
            self.clock.advance(0.1)
            session.sends(self.query_xml())
            waiting = session.receives("message")
            self.clock.advance(1)
            await waiting
            await session.receives("iq")
            self.clock.advance(2)

    def answered(self, session: Any) -> list[str]:
        return [element["id"] for element in session.received]

    def refused(self, session: Any) -> domish.Element:
        (reply,) = session.received
        return reply.error


class DatabaseTrouble(Archived):
    """The error that the client gets, and that the next request is answered again."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill([1])

    def spoil(self, problem: Exception) -> None:
        async def query(sql: str, params: Any = ()) -> Any:
            raise problem

        lookups = self.module.reading._lookups
        for pages in (*lookups._pages.values(), *lookups._counted_pages.values()):
            self.patch(pages, "_database", Spoiled(query))
        self.patch(lookups, "_database", Spoiled(query))

    async def test_no_answer_in_time(self) -> None:
        self.spoil(DatabaseUnavailable("the statement was stopped"))
        self.assert_error(await self.refusal(), "cancel", "service-unavailable", "Timeout")
        reply = await self.romeo.asks(f"<iq type='get' id='1'><metadata xmlns='{NS_MAM}'/></iq>")
        self.assert_error(reply.error, "cancel", "service-unavailable", "Timeout")

    async def test_a_statement_that_fails(self) -> None:
        await self.db.execute("ALTER TABLE mam_message RENAME TO gone")
        self.assert_error(await self.refusal(), "wait", "internal-server-error")
        self.flushLoggedErrors()
        await self.db.execute("ALTER TABLE gone RENAME TO mam_message")
        self.assertEqual([1], (await self.ask()).numbers)

    async def test_who_is_gone_when_the_answer_comes(self) -> None:
        self.romeo.sends(self.query_xml())
        self.romeo.leaves()
        await self.host.settle()
        other = self.host.session(f"{ROMEO}/orchard")
        await self.host.silence(other)


class Spoiled:
    def __init__(self, query: Any) -> None:
        self.query = query

    def call_soon(self, function: Any) -> None:
        function()


class WithoutAnArchive(Archived):
    async def test_of_rooms_only(self) -> None:
        """A host type that archives rooms has nothing to say of accounts."""
        from dynxmpp.modules.mam import Mam
        from dynxmpp.modules.mam.config import MamConfig, MucArchive

        self.host.add_host_type("rooms", [(Mam, MamConfig(muc=MucArchive()))], ["verona.example"])
        session = self.host.session("benvolio@verona.example/street")
        for request in REQUESTS:
            reply = await session.asks(request.replace(f" to='{ROMEO}'", ""))
            self.assertEqual("service-unavailable", next(reply.error.elements()).name)
