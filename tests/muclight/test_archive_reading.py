"""Who may read the archive of a room, its preferences, and what is announced (section 14; archive, 9, 10, 13, 14)."""

from typing import ClassVar

from twisted.words.xish import domish

from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.protocol.disco_info import NS_DISCO_INFO
from tests.fixtures.dialogue import TestSession
from tests.mam.archives import forwarded
from tests.muclight.archives import NS_MAM, NS_MAM_1, ArchiveTestCase, stanza_ids
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, refusal
from tests.muclight.test_archive import CREATED

NOT_INSIDE = ("cancel", "not-allowed", "The action is not allowed. Not allowed to enter the room.")
NOT_OWNER = ("cancel", "not-allowed", "The action is not allowed. Not a room owner.")
NOT_THERE = ("cancel", "feature-not-implemented", "mod_muc_iq returns error")


def requests(namespace: str) -> list[tuple[str, str]]:
    """Everything that an archive can be asked: type and payload."""
    return [
        ("set", f"<query xmlns='{namespace}'/>"),
        ("get", f"<query xmlns='{namespace}'/>"),
        ("get", f"<metadata xmlns='{namespace}'/>"),
        ("get", f"<prefs xmlns='{namespace}'/>"),
        ("set", f"<prefs xmlns='{namespace}' default='never'><always/><never/></prefs>"),
    ]


class ReadingTestCase(ArchiveTestCase):
    async def asks(self, session: TestSession, type_: str, payload: str, to: str = LOBBY) -> domish.Element:
        return await session.asks(f"<iq type='{type_}' id='q' to='{to}'>{payload}</iq>")

    async def assert_refused(self, session: TestSession, refused: tuple[str, str, str | None], to: str = LOBBY) -> None:
        """Whatever is asked is answered with this error, and with nothing else."""
        for namespace in (NS_MAM_1, NS_MAM):
            for type_, payload in requests(namespace):
                reply = await self.asks(session, type_, payload, to)
                self.assertEqual((to, refused), (reply["from"], refusal(reply)), payload)
        await self.host.silence(session)


class Readers(ReadingTestCase):
    async def test_outsiders(self) -> None:
        await self.room()
        await self.assert_refused(self.dan, NOT_INSIDE)

    async def test_rooms_that_do_not_exist(self) -> None:
        """The answer does not tell whether they do."""
        await self.assert_refused(self.dan, NOT_INSIDE, f"nowhere@{SERVICE}")

    async def test_who_was_removed(self) -> None:
        await self.room()
        await self.said(self.cat, "<body>hi</body>")
        await self.page(self.cat)
        await self.affiliate(self.ann, (CAT, "none"))
        await self.settle()
        self.forget()
        await self.assert_refused(self.cat, NOT_INSIDE)

    async def test_who_left(self) -> None:
        await self.room()
        await self.affiliate(self.ben, (BEN, "none"))
        await self.settle()
        self.forget()
        await self.assert_refused(self.ben, NOT_INSIDE)

    async def test_a_new_member_sees_everything(self) -> None:
        await self.room()
        await self.said(self.ann, "<body>before</body>")
        await self.affiliate(self.ann, (DAN, "member"))
        await self.settle()
        self.forget()
        await self.said(self.dan, "<body>after</body>")
        page = await self.page(self.dan)
        first, *_ = page.results
        self.assert_same(CREATED, forwarded(first))
        self.assertEqual(["", "before", "", "after"], page.bodies)

    async def test_the_service_has_no_archive(self) -> None:
        await self.room()
        for session in (self.ann, self.dan):
            await self.assert_refused(session, NOT_THERE, SERVICE)

    async def test_an_occupant_has_none(self) -> None:
        await self.room()
        reply = await self.asks(self.ann, "set", f"<query xmlns='{NS_MAM}'/>", f"{LOBBY}/{ANN}")
        self.assertEqual(("modify", "bad-request", "Resource expected to be empty"), refusal(reply))


class Requests(ReadingTestCase):
    async def test_both_namespaces(self) -> None:
        await self.room()
        await self.said(self.ann, "<body>hi</body>")
        for namespace in (NS_MAM_1, NS_MAM):
            page = await self.page(self.ben, namespace=namespace)
            self.assertEqual(namespace, page.fin.uri)
            self.assertEqual({(namespace, "f27")}, {(result.uri, result["queryid"]) for result in page.results})
            self.assertEqual(2, page.count)

    async def test_one_author(self) -> None:
        """Of `with` only the nick counts, which is an address."""
        await self.room()
        for session in (self.ann, self.ben, self.ann):
            await self.said(session, f"<body>{session.jid.local}</body>")
        with_ben = f"<field var='with'><value>{LOBBY}/{BEN}</value></field>"
        self.assertEqual(["ben"], (await self.page(self.cat, with_ben)).bodies)
        with_room = f"<field var='with'><value>{LOBBY}</value></field>"
        self.assertEqual(["", "ann", "ben", "ann"], (await self.page(self.cat, with_room)).bodies)

    async def test_the_form(self) -> None:
        await self.room()
        for namespace in (NS_MAM_1, NS_MAM):
            reply = await self.asks(self.ben, "get", f"<query xmlns='{namespace}'/>")
            self.assertEqual(("result", LOBBY), (reply["type"], reply["from"]))
            fields = [field["var"] for field in reply.query.x.elements()]
            self.assertEqual(namespace, str(next(reply.query.x.elements()).value))
            self.assertLessEqual({"FORM_TYPE", "with", "start", "end"}, set(fields))

    async def test_metadata(self) -> None:
        await self.room()
        copy = await self.said(self.ann, "<body>hi</body>")
        page = await self.page(self.ben)
        reply = await self.asks(self.ben, "get", f"<metadata xmlns='{NS_MAM}'/>")
        ends = [(end.name, end["id"]) for end in reply.metadata.elements()]
        self.assertEqual([("start", page.ids[0]), ("end", stanza_ids(copy)[0][1])], ends)

    async def test_ids_that_are_none(self) -> None:
        await self.room()
        for page, expected in (
            ("<after>!</after>", ("modify", "not-acceptable", "Invalid stanza ID provided")),
            ("<after>1</after>", ("cancel", "item-not-found", "Message with specified ID is not found")),
        ):
            set_ = f"<set xmlns='http://jabber.org/protocol/rsm'>{page}</set>"
            reply = await self.asks(self.ben, "set", f"<query xmlns='{NS_MAM}'>{set_}</query>")
            self.assertEqual(expected, refusal(reply))
        await self.host.silence(self.ben)


class Preferences(ReadingTestCase):
    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive(host="muclight.@HOST@", user_prefs_store="rdbms"))

    def prefs(self, default: str, *, always: str = "", never: str = "", namespace: str = NS_MAM) -> str:
        lists = "".join(
            f"<{name}>{f'<jid>{jid}</jid>' if jid else ''}</{name}>"
            for name, jid in (("always", always), ("never", never))
        )
        return f"<prefs xmlns='{namespace}' default='{default}'>{lists}</prefs>"

    async def prefer(self, prefs: str) -> None:
        reply = await self.asks(self.ann, "set", prefs)
        self.assertEqual("result", reply["type"], reply.toXml())
        self.assert_same(prefs, next(reply.elements()))

    async def kept_of(self, session: TestSession, body: str) -> bool:
        """Says something; is it kept? Everybody hears it, with an id if it is."""
        self.says(session, f"<body>{body}</body>")
        copies = [await member.receives("message") for member in (self.ann, self.ben, self.cat)]
        self.assertEqual([body] * 3, [str(copy.body) for copy in copies])
        ids = [stanza_ids(copy) for copy in copies]
        bodies = (await self.page(self.cat)).bodies
        self.assertEqual([body in bodies] * 3, [bool(found) for found in ids])
        return body in bodies

    async def test_set_by_the_owner_and_read_by_members(self) -> None:
        await self.room()
        for namespace in (NS_MAM_1, NS_MAM):
            default = self.prefs("always", namespace=namespace)
            self.assert_same(
                default, next((await self.asks(self.ben, "get", f"<prefs xmlns='{namespace}'/>")).elements())
            )
        for namespace in (NS_MAM_1, NS_MAM):
            wanted = self.prefs("never", always=f"{LOBBY}/{ANN}", never=f"{LOBBY}/{CAT}", namespace=namespace)
            await self.prefer(wanted)
            for session in (self.ann, self.ben):
                reply = await self.asks(session, "get", f"<prefs xmlns='{namespace}'/>")
                self.assert_same(wanted, next(reply.elements()))

    async def test_set_by_members(self) -> None:
        await self.room()
        for namespace in (NS_MAM_1, NS_MAM):
            reply = await self.asks(self.ben, "set", self.prefs("never", namespace=namespace))
            self.assertEqual(NOT_OWNER, refusal(reply))
        self.assertTrue(await self.kept_of(self.ben, "kept"))

    async def test_who_becomes_the_owner(self) -> None:
        await self.room()
        await self.affiliate(self.ann, (BEN, "owner"))
        await self.settle()
        self.forget()
        self.assertEqual(NOT_OWNER, refusal(await self.asks(self.ann, "set", self.prefs("never"))))
        self.assertEqual("result", (await self.asks(self.ben, "set", self.prefs("never")))["type"])

    async def test_outsiders(self) -> None:
        await self.room()
        await self.assert_refused(self.dan, NOT_INSIDE)

    async def test_what_is_kept(self) -> None:
        await self.room()
        await self.prefer(self.prefs("never"))
        self.assertFalse(await self.kept_of(self.ann, "one"))
        await self.prefer(self.prefs("never", always=f"{LOBBY}/{BEN}"))
        self.assertFalse(await self.kept_of(self.ann, "two"))
        self.assertTrue(await self.kept_of(self.ben, "three"))
        await self.prefer(self.prefs("always", never=f"{LOBBY}/{BEN}"))
        self.assertTrue(await self.kept_of(self.ann, "four"))
        self.assertFalse(await self.kept_of(self.ben, "five"))
        await self.prefer(self.prefs("roster"))
        self.assertTrue(await self.kept_of(self.ben, "six"))

    async def test_notices(self) -> None:
        await self.room()
        for count, default in ((1, "never"), (2, "always")):
            await self.prefer(self.prefs(default))
            await self.configure(self.ben, f"<subject>{default}</subject>")
            await self.settle()
            self.assertEqual(default == "always", bool(stanza_ids(self.cat.received[-1])))
            self.forget()
            self.assertEqual(count, (await self.page(self.cat)).count)

    async def test_of_this_room_only(self) -> None:
        await self.room(room=f"den@{SERVICE}")
        await self.room()
        reply = await self.asks(self.ann, "set", self.prefs("never"), f"den@{SERVICE}")
        self.assertEqual("result", reply["type"])
        self.assertTrue(await self.kept_of(self.ann, "kept"))


class NoPreferences(ReadingTestCase):
    """There is nowhere to store them."""

    async def test_get_and_set(self) -> None:
        await self.room()
        reply = await self.asks(self.ben, "get", f"<prefs xmlns='{NS_MAM}'/>")
        self.assert_same(f"<prefs xmlns='{NS_MAM}' default='always'><always/><never/></prefs>", next(reply.elements()))
        reply = await self.asks(self.ann, "set", requests(NS_MAM)[-1][1])
        self.assertEqual(("cancel", "feature-not-implemented", None), refusal(reply))
        self.assertEqual(NOT_OWNER, refusal(await self.asks(self.ben, "set", requests(NS_MAM)[-1][1])))


class Announced(ReadingTestCase):
    announces = True

    async def test_features(self) -> None:
        await self.room()
        for session in (self.ann, self.dan):
            for address in (SERVICE, LOBBY):
                reply = await self.get(session, address, NS_DISCO_INFO)
                features = {element["var"] for element in reply.query.elements() if element.name == "feature"}
                archives = {feature for feature in features if feature.startswith("urn:xmpp:mam:")}
                wanted = {NS_MAM_1, NS_MAM, f"{NS_MAM}#extended"} if self.announces else set()
                self.assertEqual(wanted, archives)
                self.assertEqual(self.announces, "urn:xmpp:message-retract:0" in features)
                self.assertEqual(self.announces, "urn:xmpp:sid:0" in features)


class NotAnnounced(Announced):
    """`muc.host` is not the service of these rooms."""

    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive())
    announces = False

    async def test_nobody_is_answered(self) -> None:
        await self.room()
        for session in (self.ann, self.dan):
            await self.assert_refused(session, NOT_THERE)
