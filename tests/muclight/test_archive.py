"""What of a room is archived, and how it reads back (section 14; section 10 of the archive)."""

from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.module import Transaction
from dynxmpp.modules.mam import store
from dynxmpp.modules.mam.config import MamConfig, MucArchive, PmArchive
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_DESTROY
from tests.fixtures.dialogue import TestSession
from tests.mam.archives import NS_MAM as NS_MAM_2
from tests.mam.archives import Page, forwarded
from tests.muclight.archives import NS_MUC_USER, NS_SID, ArchiveTestCase, authors, stanza_ids
from tests.muclight.support import ANN, BEN, CAT, DAN, LOBBY, SERVICE, refusal

CREATED = (
    f"<message from='{LOBBY}' type='groupchat' id='c'><x xmlns='{NS_AFFILIATIONS}'>"
    f"<user affiliation='owner'>{ANN}</user><user affiliation='member'>{BEN}</user>"
    f"<user affiliation='member'>{CAT}</user></x><body/></message>"
)

BY_ORIGIN_ID = "<apply-to xmlns='urn:xmpp:fasten:0' id='o1'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>"


class Messages(ArchiveTestCase):
    async def test_as_it_was_sent(self) -> None:
        await self.room()
        content = "<body>hi</body><thread>t1</thread><x xmlns='urn:x:custom'>&amp;</x>"
        self.says(self.ann, content)
        copies = [await session.receives("message") for session in (self.ann, self.ben, self.cat)]
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        page = await self.page(self.ben)
        self.assertEqual((2, 0, "true"), (page.count, page.index, page.complete))
        self.assertEqual({(LOBBY, self.ben.jid.full)}, {(message["from"], message["to"]) for message in page.messages})
        self.assertFalse(any("type" in message.attributes for message in page.messages))
        _, result = page.results
        self.assert_same(
            f"<message from='{LOBBY}/{ANN}' type='groupchat' id='m1'>{content}</message>", forwarded(result)
        )
        self.assertEqual(f"{LOBBY}/{ANN}", result.forwarded.delay["from"])
        self.assertEqual([[(LOBBY, result["id"])]] * 3, [stanza_ids(copy) for copy in copies])

    async def test_an_id_that_the_room_has_not_given(self) -> None:
        await self.room()
        forged = f"<stanza-id xmlns='{NS_SID}' by='Lobby@{SERVICE}' id='forged'/>"
        other = f"<stanza-id xmlns='{NS_SID}' by='{BEN}' id='other'/>"
        copy = await self.said(self.ann, f"{forged}<body>hi</body>{other}")
        [message] = await self.kept(self.ben)
        self.assertEqual([(BEN, "other")], stanza_ids(message))
        self.assertEqual([BEN, LOBBY], [by for by, _ in stanza_ids(copy)])
        self.assertNotIn("forged", copy.toXml())

    async def test_the_author_sees_his_own_address_only(self) -> None:
        await self.room()
        for session, affiliation, role in ((self.ann, "owner", "moderator"), (self.ben, "member", "participant")):
            copy = await self.said(session, "<body>hi</body>")
            self.assertEqual([], authors(copy), "nobody is told when it is said")
            own = f"<item affiliation='{affiliation}' role='{role}' jid='{session.jid.full}'/>"
            self.assert_same(
                f"<message from='{LOBBY}/{session.jid.bare}' type='groupchat' id='m1'>"
                f"<body>hi</body><x xmlns='{NS_MUC_USER}'>{own}</x></message>",
                (await self.kept(session))[-1],
            )
            for other in {self.ann, self.ben, self.cat} - {session}:
                self.assertEqual([], authors((await self.kept(other))[-1]))

    async def test_what_claims_to_be_an_author(self) -> None:
        """All that is said is sent on; what is kept says the truth."""
        await self.room()
        claim = f"<x xmlns='{NS_MUC_USER}'><item affiliation='owner' role='moderator' jid='{DAN}/forged'/></x>"
        copy = await self.said(self.ben, f"{claim}<body>hi</body>{claim}")
        self.assertEqual(2, len(authors(copy)))
        [message] = await self.kept(self.ben)
        [author] = authors(message)
        self.assertEqual({"affiliation": "member", "role": "participant", "jid": f"{BEN}/p"}, author.item.attributes)
        for session in (self.ann, self.cat):
            [message] = await self.kept(session)
            self.assertEqual([], authors(message))

    async def test_what_is_not_worth_an_archive(self) -> None:
        await self.room()
        for content in (
            "<active xmlns='http://jabber.org/protocol/chatstates'/>",
            "<subject>no body</subject>",
            "<body>secret</body><no-store xmlns='urn:xmpp:hints'/>",
            "<body>old</body><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>",
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='m0'/>",
            "",
        ):
            self.says(self.ann, content)
            for session in (self.ann, self.ben, self.cat):
                self.assertEqual([], stanza_ids(await session.receives("message")), content)
        self.assertEqual([], await self.kept(self.ben))

    async def test_what_is_said_by_outsiders(self) -> None:
        await self.room()
        self.says(self.dan, "<body>hi</body>")
        self.assertEqual("item-not-found", refusal(await self.dan.receives("message"))[1])
        self.assertEqual([], await self.kept(self.ben))

    async def test_once_for_the_room(self) -> None:
        await self.room(BEN, CAT, DAN)
        await self.said(self.ann, "<body>hi</body>")
        await self.kept(self.ann)  # so that it is committed
        rows = await self.db.query("SELECT remote, source FROM mam_message ORDER BY id")
        self.assertEqual([("", LOBBY), (ANN, f"{LOBBY}/{ANN}")], rows)
        self.assertEqual([("example.org", 1, LOBBY)], await self.db.query("SELECT server, kind, name FROM mam_archive"))


class Notices(ArchiveTestCase):
    async def notices(self, *sessions: TestSession) -> list[domish.Element]:
        """What came to these sessions, one stanza each; nothing to anybody else."""
        received = [await session.receives("message") for session in sessions]
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)
        return received

    async def last(self, session: TestSession, count: int) -> tuple[domish.Element, str]:
        """The last message that is kept, and its id; there are `count` of them."""
        page = await self.page(session)
        self.assertEqual(count, page.count)
        return forwarded(page.results[-1]), page.ids[-1]

    async def test_creation(self) -> None:
        """All who are in it at first, and no version; nobody is shown it."""
        await self.create(self.ann, BEN, CAT)
        for notice in await self.notices(self.ann, self.ben, self.cat):
            self.assertEqual([], stanza_ids(notice))
        self.assert_same(CREATED, (await self.last(self.cat, 1))[0])

    async def test_affiliations(self) -> None:
        await self.room()
        await self.affiliate(self.ann, (BEN, "owner"), (CAT, "none"), (DAN, "member"))
        for_ann, for_ben, for_cat, for_dan = await self.notices(self.ann, self.ben, self.cat, self.dan)
        kept, id_ = await self.last(self.ben, 2)
        self.assert_same(
            f"<message from='{LOBBY}' type='groupchat' id='a'><x xmlns='{NS_AFFILIATIONS}'>"
            f"<version>{await self.version()}</version><user affiliation='member'>{ANN}</user>"
            f"<user affiliation='owner'>{BEN}</user><user affiliation='none'>{CAT}</user>"
            f"<user affiliation='member'>{DAN}</user></x><body/></message>",
            kept,
        )
        self.assertEqual([[(LOBBY, id_)]] * 2, [stanza_ids(notice) for notice in (for_ann, for_ben)])
        # These two are told something else than what is kept.
        self.assertEqual([[], []], [stanza_ids(notice) for notice in (for_cat, for_dan)])

    async def test_configuration(self) -> None:
        await self.room()
        for count, (session, fields) in enumerate(
            ((self.ann, "<roomname>Den</roomname><subject>tea &amp; cake</subject>"), (self.ben, "<subject/>")), start=2
        ):
            before = await self.version()
            await self.configure(session, fields)
            told = await self.notices(self.ann, self.ben, self.cat)
            kept, id_ = await self.last(self.cat, count)
            self.assert_same(
                f"<message from='{LOBBY}' type='groupchat' id='f'><x xmlns='{NS_CONFIGURATION}'>"
                f"<prev-version>{before}</prev-version><version>{await self.version()}</version>"
                f"{fields}</x><body/></message>",
                kept,
            )
            self.assertEqual([[(LOBBY, id_)]] * 3, [stanza_ids(notice) for notice in told])

    async def test_who_leaves(self) -> None:
        await self.room()
        await self.affiliate(self.ben, (BEN, "none"))
        await self.notices(self.ann, self.ben, self.cat)
        kept, _ = await self.last(self.cat, 2)
        self.assertEqual(["version", "user"], [child.name for child in kept.x.elements()])
        self.assertEqual((BEN, "none"), (str(kept.x.user), kept.x.user["affiliation"]))

    async def test_what_is_refused(self) -> None:
        await self.room()
        await self.affiliate(self.ben, (DAN, "member"))
        await self.configure(self.ben, "<roomname>Den</roomname>")
        await self.affiliate(self.ann, (BEN, "member"))
        await self.last(self.cat, 1)

    async def test_in_their_order(self) -> None:
        await self.room()
        self.says(self.ann, "<body>first</body>")
        await self.configure(self.ann, "<subject>second</subject>")
        self.says(self.ben, "<body>third</body>")
        await self.settle()
        self.forget()
        kept = await self.kept(self.cat)
        self.assertEqual(["m1", "f", "m1"], [message["id"] for message in kept])


class Removed(ArchiveTestCase):
    async def rows(self) -> list[int]:
        tables = ("mam_message", "mam_archive")
        return [(await self.db.query(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]

    async def made_anew(self) -> Page:
        """What somebody reads who makes a room with the address of another one."""
        await self.settle()
        self.forget()
        reply = await self.create(self.dan, ANN)
        self.assertEqual("result", reply["type"], reply.toXml())
        await self.settle()
        self.forget()
        return await self.page(self.dan)

    async def test_a_room_is_destroyed(self) -> None:
        await self.room()
        await self.said(self.ann, "<body>hi</body>")
        reply = await self.set(self.ann, LOBBY, NS_DESTROY)
        self.assertEqual("result", reply["type"])
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual([], stanza_ids(await session.receives("message")))
        await self.settle()
        self.assertEqual([0, 0], await self.rows())
        page = await self.made_anew()
        self.assertEqual(1, page.count)
        self.assertNotIn(CAT, page.messages[0].toXml())

    async def test_the_last_one_leaves(self) -> None:
        await self.room(BEN)
        await self.said(self.ann, "<body>hi</body>")
        await self.affiliate(self.ben, (BEN, "none"))
        reply = await self.affiliate(self.ann, (ANN, "none"))
        self.assertEqual("result", reply["type"])
        await self.settle()
        self.assertEqual([0, 0], await self.rows())
        self.assertEqual(1, (await self.made_anew()).count)

    async def test_other_rooms_stay(self) -> None:
        other = f"den@{SERVICE}"
        await self.room(room=other)
        await self.room()
        await self.set(self.ann, LOBBY, NS_DESTROY)
        await self.settle()
        self.forget()
        self.assertEqual(1, (await self.page(self.ben, room=other)).count)


class Accounts(ArchiveTestCase):
    """What is said in rooms, and the archives of those who are in them."""

    archive: ClassVar[MamConfig | None] = MamConfig(pm=PmArchive(), muc=MucArchive(host="muclight.@HOST@"))
    copies = 0

    async def test_archives_of_accounts(self) -> None:
        await self.room()
        copy = await self.said(self.ann, "<body>hi</body>")
        [(_, id_)] = stanza_ids(copy)[:1]
        for session in (self.ann, self.ben, self.cat, self.dan):
            page = await self.page(session, room=session.jid.bare)
            said = [result for result in page.results if forwarded(result)["id"] == "m1"]
            self.assertEqual(self.copies if session is not self.dan else 0, len(said))
            for result in said:
                message = forwarded(result)
                self.assertEqual((f"{LOBBY}/{ANN}", session.jid.bare), (message["from"], message["to"]))
                self.assertEqual([(LOBBY, id_)], stanza_ids(message))
        self.assertEqual(2, (await self.page(self.ben)).count)


class AccountsWithGroupchats(Accounts):
    archive: ClassVar[MamConfig | None] = MamConfig(
        pm=PmArchive(archive_groupchats=True), muc=MucArchive(host="muclight.@HOST@")
    )
    copies = 1

    async def test_whether_they_are_of_groups(self) -> None:
        await self.room()
        await self.said(self.ann, "<body>hi</body>")
        await self.page(self.ann, room=ANN)
        rows = await self.db.query(
            "SELECT a.name, outgoing, groupchat, remote FROM mam_message JOIN mam_archive AS a ON a.id = archive "
            "WHERE a.kind = 0 AND source = %s ORDER BY a.name",
            (f"{LOBBY}/{ANN}",),
        )
        self.assertEqual([(name, False, True, LOBBY) for name in ("ann", "ben", "cat")], rows)


class Retraction(ArchiveTestCase):
    async def asked_for(self, session: TestSession, request: str) -> list[domish.Element]:
        """Says something with an origin-id, asks to take it back; what is kept of the two."""
        origin = "<body>oops</body><origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"
        copy = await self.said(self.ann, origin, "m1")
        await self.said(session, request.format(id=stanza_ids(copy)[0][1]), "r1")
        message, retraction = await self.kept(self.cat)
        self.assertEqual("r1", retraction["id"], "it is kept whatever becomes of it")
        return [message, retraction]

    async def assert_buried(self, request: str, namespace: str, *inside: str) -> None:
        await self.room()
        message, _ = await self.asked_for(self.ann, request)
        self.assertEqual((f"{LOBBY}/{ANN}", "m1"), (message["from"], message["id"]))
        [tombstone] = message.elements()
        self.assertEqual((namespace, "retracted"), (tombstone.uri, tombstone.name))
        self.assertEqual(list(inside), [child.name for child in tombstone.elements()])

    async def test_by_the_id_of_its_author(self) -> None:
        await self.assert_buried(BY_ORIGIN_ID, "urn:xmpp:message-retract:0", "origin-id")

    async def test_by_the_id_of_the_room(self) -> None:
        namespace = "urn:esl:message-retract-by-stanza-id:0"
        request = f"<apply-to xmlns='urn:xmpp:fasten:0' id='{{id}}'><retract xmlns='{namespace}'/></apply-to>"
        await self.assert_buried(request, namespace, "stanza-id", "origin-id")

    async def test_as_the_newer_version_has_it(self) -> None:
        namespace = "urn:xmpp:message-retract:1"
        await self.assert_buried(f"<retract xmlns='{namespace}' id='{{id}}'/><body>fallback</body>", namespace)

    async def test_nobody_else_does(self) -> None:
        await self.room()
        message, _ = await self.asked_for(self.ben, BY_ORIGIN_ID)
        self.assertEqual("oops", str(message.body))


class Committed(ArchiveTestCase):
    """What is acknowledged is kept, and what cannot be kept is not said. The table of messages is locked at first."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.patch(store, "MAX_WAITING", 1)
        await super().setUp()
        other = await self.start_database(self.settings)
        await self.room()
        await self.kept(self.ann)  # what was written is committed
        self.unlocked: Deferred[None] = Deferred()
        locked: Deferred[None] = Deferred()

        async def work(transaction: Transaction) -> None:
            await transaction.execute("LOCK mam_message IN ACCESS EXCLUSIVE MODE")
            locked.callback(None)
            await self.unlocked

        self.locking = Deferred.fromCoroutine(other.transaction(work))
        self.addCleanup(self.unlock)
        await locked

    async def unlock(self) -> None:
        """Until now nothing was written into archives."""
        if not self.unlocked.called:
            self.unlocked.callback(None)
            await self.locking

    async def test_a_message(self) -> None:
        context = self.ann.sends(f"<message type='groupchat' id='m1' to='{LOBBY}'><body>hi</body></message>")
        for session in (self.ann, self.ben, self.cat):
            await session.receives("message")
        self.assertFalse(context.ticket.settled)
        settled: Deferred[None] = Deferred()
        context.ticket.when_settled(settled.callback)
        await self.unlock()
        await settled
        self.assertTrue(context.ticket.committed)
        [[count]] = await self.db.query("SELECT count(*) FROM mam_message WHERE source = %s", (f"{LOBBY}/{ANN}",))
        self.assertEqual(1, count)

    async def test_a_notice(self) -> None:
        context = self.ann.sends(
            f"<iq type='set' id='f' to='{LOBBY}'><query xmlns='{NS_CONFIGURATION}'><subject>tea</subject></query></iq>"
        )
        await self.ann.receives("message")
        self.assertEqual("result", (await self.ann.receives("iq"))["type"])
        self.assertFalse(context.ticket.settled)
        settled: Deferred[None] = Deferred()
        context.ticket.when_settled(settled.callback)
        await self.unlock()
        await settled
        self.assertTrue(context.ticket.committed)

    async def test_too_much_waits(self) -> None:
        self.says(self.ann, "<body>taken</body>", "m1")
        for session in (self.ann, self.ben, self.cat):
            await session.receives("message")
        for session in (self.ann, self.ben):
            self.says(session, "<body>lost?</body>", "m2")
            error = await session.receives("message")
            self.assertEqual((LOBBY, "m2"), (error["from"], error["id"]))
            self.assertEqual(("wait", "resource-constraint", "Please try again later"), refusal(error))
        await self.host.silence(self.ann, self.ben, self.cat)
        # A change is in the database already: its members are told, without an id.
        await self.configure(self.ann, "<subject>tea</subject>")
        for session in (self.ann, self.ben, self.cat):
            self.assertEqual([], stanza_ids(await session.receives("message")))
        await self.unlock()
        self.assertEqual(["m1"], [message["id"] for message in await self.kept(self.cat)])
        await self.said(self.ann, "<body>again</body>", "m3")
        self.assertEqual(["m1", "m3"], [message["id"] for message in await self.kept(self.cat)])


class AnotherService(ArchiveTestCase):
    """`muc.host` is not the service of these rooms."""

    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive())

    async def test_nothing_is_archived(self) -> None:
        await self.room()
        self.assertEqual([], stanza_ids(await self.said(self.ann, "<body>hi</body>")))
        await self.configure(self.ann, "<subject>tea</subject>")
        self.assertEqual([], stanza_ids(await self.ben.receives("message")))
        reply = await self.set(self.ann, LOBBY, NS_MAM_2)
        self.assertEqual(("cancel", "feature-not-implemented", "mod_muc_iq returns error"), refusal(reply))
        reply = await self.set(self.ann, LOBBY, NS_DESTROY)
        self.assertEqual("result", reply["type"])
        await self.settle()
        for table in ("mam_message", "mam_archive"):
            self.assertEqual([(0,)], await self.db.query(f"SELECT count(*) FROM {table}"))


class WithoutIds(ArchiveTestCase):
    """`no_stanzaid_element`: what is archived has no id that members are told."""

    archive: ClassVar[MamConfig | None] = MamConfig(muc=MucArchive(host="muclight.@HOST@", no_stanzaid_element=True))

    async def test_nobody_is_told_ids(self) -> None:
        await self.room()
        self.ann.sends(f"<message type='groupchat' id='m' to='{LOBBY}'><body>hi</body></message>")
        await self.configure(self.ann, "<roomname>Den</roomname>")
        for _ in range(2):
            message = await self.ben.receives("message")
            self.assertEqual([], [child.name for child in message.elements() if child.name == "stanza-id"])
