"""Reading the archive of a room, as the service that has the rooms lets its occupants."""

from typing import Any

from twisted.internet.defer import Deferred

from dynxmpp.core.interfaces import RoomArchive
from dynxmpp.module import IQ, JID, RoutingContext, StanzaError
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.mam.schema import ROOM
from tests.fixtures.dialogue import Host, TestSession, parse
from tests.mam.archives import NS_MAM, Archived, Configured, Page, field, forwarded, id_of, text_id

COVEN = JID.parse("coven@muclight.verona.example")
DOMAIN = "verona.example"
HAG, CRONE = "hag@verona.example", "crone@verona.example"

_INSERT = """
INSERT INTO mam_message (archive, id, remote, outgoing, groupchat, source, stanza)
VALUES (%s, %s, %s, false, true, %s, %s)
"""


def said(number: int, author: str) -> str:
    x = f"<item affiliation='member' role='participant' jid='{author}/secret'/>"
    return (
        f"<message xmlns='jabber:client' from='{COVEN.bare}/{author}' type='groupchat' id='m{number}'>"
        f"<body>message {number}</body><x xmlns='http://jabber.org/protocol/muc#user'>{x}</x></message>"
    )


class RoomReading(Archived):
    async def setUp(self) -> None:
        await super().setUp()
        config = MamConfig(muc=MucArchive(host="muclight.@HOST@"))
        self.service = await Host([(Mam, config)], database=self.db, domains=[DOMAIN], clock=self.clock).start()
        self.rooms: Any = self.service.host_types[0].require(RoomArchive)
        self.hag = self.service.session(f"{HAG}/cave")
        number = await self.service.host_types[0].modules["mod_mam_meta"].owners.get(DOMAIN, ROOM, COVEN.bare)
        for n, author in ((1, HAG), (2, CRONE), (3, HAG)):
            row = (number, id_of(n), author, f"{COVEN.bare}/{author}", said(n, author))
            await self.db.execute(_INSERT, row)

    async def answer(self, xml: str, session: TestSession, *, is_owner: bool = False) -> Any:
        stanza = parse(xml)
        context = RoutingContext(session.jid, COVEN, session)
        return await self.rooms.answer(COVEN, DOMAIN, IQ(stanza, context), is_owner=is_owner)

    async def refused(self, xml: str) -> tuple[str, str, str | None]:
        """Type, condition and text of the error; nothing was sent."""
        with self.assertRaises(StanzaError) as caught:
            await self.answer(xml, self.hag)
        self.assertFalse(self.hag.received)
        return caught.exception.type, caught.exception.condition, caught.exception.text

    async def page(self, form: str = "", content: str = "") -> Page:
        fin = await self.answer(self.query_xml(form, content), self.hag)
        messages = list(self.hag.received)
        self.hag.received.clear()
        reply = parse("<iq type='result' id='1'/>").copy_tree()
        reply.addChild(parse(fin.toXml()).copy_tree())
        return Page(messages, reply)

    async def test_all_of_it(self) -> None:
        page = await self.page()
        self.assertEqual(([1, 2, 3], 3, "true"), (page.numbers, page.count, page.complete))
        self.assertEqual({(COVEN.bare, f"{HAG}/cave")}, {(m["from"], m["to"]) for m in page.messages})
        authors = [forwarded(result)["from"] for result in page.results]
        self.assertEqual([f"{COVEN.bare}/{author}" for author in (HAG, CRONE, HAG)], authors)

    async def test_the_full_addresses_of_others_stay_with_the_room(self) -> None:
        page = await self.page()
        self.assertEqual([True, False, True], ["secret" in message.toXml() for message in page.messages])

    async def test_one_occupant(self) -> None:
        self.assertEqual([2], (await self.page(field("with", f"{COVEN.bare}/{CRONE}"))).numbers)
        self.assertEqual([1, 2, 3], (await self.page(field("with", COVEN.bare))).numbers)

    async def test_pages(self) -> None:
        page = await self.page("", f"<max>1</max><after>{text_id(1)}</after>")
        self.assertEqual(([2], 1, 3, None), (page.numbers, page.index, page.count, page.complete))

    async def test_flipped(self) -> None:
        await self.answer(self.query_xml("", "", "<flip-page/>"), self.hag)
        self.assertEqual(["m3", "m2", "m1"], [forwarded(next(m.elements()))["id"] for m in self.hag.received])

    async def test_ids_that_are_not_in_it(self) -> None:
        coven = await self.service.host_types[0].modules["mod_mam_meta"].owners.get(DOMAIN, ROOM, f"other{COVEN.bare}")
        row = (coven, id_of(8), HAG, f"other{COVEN.bare}/{HAG}", said(8, HAG))
        await self.db.execute(_INSERT, row)  # in another room
        await self.fill([9])  # in the archive of an account
        unknown = ("cancel", "item-not-found", "Message with specified ID is not found")
        for number in (7, 8, 9):
            for form, content in (
                ("", f"<before>{text_id(number)}</before>"),
                ("", f"<after>{text_id(number)}</after>"),
                (field("after-id", text_id(number)), ""),
                (field("ids", text_id(1), text_id(number)), ""),
            ):
                self.assertEqual(unknown, await self.refused(self.query_xml(form, content)), (number, form, content))
        undecodable = ("modify", "not-acceptable", "Invalid stanza ID provided")
        self.assertEqual(undecodable, await self.refused(self.query_xml("", "<after>?</after>")))
        self.assertEqual("jid-malformed", (await self.refused(self.query_xml(field("with", "@"))))[1])

    async def test_rules_of_rooms(self) -> None:
        requests = (
            ("muc_mam_set_message_form", self.query_xml()),
            ("muc_mam_lookup_messages", self.query_xml()),
            ("muc_mam_get_message_form", f"<iq type='get' id='1'><query xmlns='{NS_MAM}'/></iq>"),
            ("muc_mam_get_metadata", f"<iq type='get' id='1'><metadata xmlns='{NS_MAM}'/></iq>"),
            ("muc_mam_get_prefs", f"<iq type='get' id='1'><prefs xmlns='{NS_MAM}'/></iq>"),
        )
        for rule, request in requests:
            self.configure({rule: "deny"})
            self.assertEqual(("cancel", "not-allowed", "The action is not allowed."), await self.refused(request), rule)
            self.configure({rule.removeprefix("muc_"): "deny"})  # those of accounts
            await self.answer(request, self.hag)
            self.hag.received.clear()

    async def test_shapers_of_rooms(self) -> None:
        request = f"<iq type='get' id='1'><query xmlns='{NS_MAM}'/></iq>"
        self.configure({}, {"muc_mam_get_message_form_shaper": 1})
        await self.answer(request, self.hag)
        waiting = [Deferred.fromCoroutine(self.answer(request, self.hag)) for _ in range(5)]
        flooding = ("wait", "resource-constraint", "The action is cancelled because of flooding.")
        self.assertEqual(flooding, await self.refused(request))
        for deferred in waiting:
            self.assertNoResult(deferred)
            self.clock.advance(1)
            self.successResultOf(deferred)

    def configure(self, rules: dict[str, str], shapers: dict[str, int] | None = None) -> None:
        self.service.host_types[0].config = Configured(rules, shapers)  # type: ignore[assignment]

    async def test_preferences_without_a_store(self) -> None:
        get = await self.answer(f"<iq type='get' id='1'><prefs xmlns='{NS_MAM}'/></iq>", self.hag)
        self.assertEqual(("always", ["always", "never"]), (get["default"], [e.name for e in get.elements()]))
        set_ = f"<iq type='set' id='1'><prefs xmlns='{NS_MAM}' default='never'/></iq>"
        with self.assertRaises(StanzaError) as caught:
            await self.answer(set_, self.hag, is_owner=True)
        self.assertEqual(("feature-not-implemented", "cancel"), (caught.exception.condition, caught.exception.type))
        self.assertEqual("not-allowed", (await self.refused(set_))[1])

    async def test_form_and_metadata(self) -> None:
        form = await self.answer(f"<iq type='get' id='1'><query xmlns='{NS_MAM}'/></iq>", self.hag)
        self.assertIn("before-id", form.toXml())
        metadata = await self.answer(f"<iq type='get' id='1'><metadata xmlns='{NS_MAM}'/></iq>", self.hag)
        self.assertEqual([text_id(1), text_id(3)], [end["id"] for end in metadata.elements()])

    async def test_other_payloads(self) -> None:
        for payload in ("<other xmlns='urn:example:other'/>", "<query xmlns='jabber:iq:roster'/>"):
            for type_ in ("get", "set"):
                with self.assertRaises(StanzaError):
                    await self.answer(f"<iq type='{type_}' id='1'>{payload}</iq>", self.hag)

    async def test_an_account_of_that_name_has_another_archive(self) -> None:
        await self.fill([9])
        self.assertEqual([9], (await self.ask()).numbers)
