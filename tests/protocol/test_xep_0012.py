"""XEP-0012 Last Activity."""

from typing import Any
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.modules.last_activity import LastActivity
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.dialogue import TestSession
from tests.protocol.support import HOSTILE, HOSTILE_LOCALPARTS, Contacts, StoredDialogues

LAST = "<query xmlns='jabber:iq:last'/>"


class LastTestCase(StoredDialogues):
    modules = [LastActivity, Contacts]
    domains = ("montague.net", "capulet.com")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host.clock.advance(1_000_000_000)
        self.romeo = self.host.session("romeo@montague.net/orchard")
        self.juliet = self.host.session("juliet@capulet.com/balcony")
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "from")

    async def written(self) -> None:
        """Every log-out that was noted is in the table."""
        flushed = Deferred.fromCoroutine(self.module("mod_last")._writer.flush())
        self.host.clock.advance(0.002)
        await flushed

    async def leaves(self, session: TestSession, status: str | None = None) -> None:
        if status is not None:
            session.sends(f"<presence type='unavailable'><status>{status}</status></presence>")
        session.available = False
        session.leaves()
        await self.written()

    async def last(self, session: TestSession, to: str) -> domish.Element:
        reply = await session.asks(f"<iq id='last1' {to} type='get'>{LAST}</iq>")
        self.assertEqual("result", reply["type"], reply.toXml())
        return reply.query


class Accounts(LastTestCase):
    REQUEST = f"<iq id='last1' to='juliet@capulet.com' type='get'>{LAST}</iq>"

    async def test_example_4(self) -> None:
        await self.leaves(self.juliet, "Heading Home")
        self.host.clock.advance(903)
        await self.check(
            self.romeo,
            self.REQUEST,
            """
            <iq from='juliet@capulet.com' id='last1' to='romeo@montague.net/orchard' type='result'>
              <query xmlns='jabber:iq:last' seconds='903'>Heading Home</query>
            </iq>
            """,
        )

    async def test_an_available_resource_was_active_just_now(self) -> None:
        await self.leaves(self.juliet, "Heading Home")
        self.host.session("juliet@capulet.com/chamber").available = True
        self.host.clock.advance(903)
        query = await self.last(self.romeo, "to='juliet@capulet.com'")
        self.assertEqual(("0", []), (query["seconds"], query.children))

    async def test_who_may_not_see_the_presence(self) -> None:
        await self.leaves(self.juliet, "Heading Home")
        for subscription in ("none", "to"):
            self.subscribe("juliet@capulet.com", "romeo@montague.net", subscription)
            self.subscribe("romeo@montague.net", "juliet@capulet.com", "both")
            self.assertEqual("forbidden", await self.refusal(self.romeo, self.REQUEST))
        namesake = self.host.session("romeo@capulet.com/x")
        self.assertEqual("forbidden", await self.refusal(namesake, self.REQUEST))

    async def test_who_may(self) -> None:
        await self.leaves(self.juliet)
        for subscription in ("from", "both"):
            self.subscribe("juliet@capulet.com", "romeo@montague.net", subscription)
            await self.last(self.romeo, "to='juliet@capulet.com'")
        chamber = self.host.session("juliet@capulet.com/chamber")
        for to in ("", "to='juliet@capulet.com'"):
            await self.last(chamber, to)

    async def test_an_account_that_never_was_online(self) -> None:
        self.subscribe("nurse@capulet.com", "romeo@montague.net", "from")
        self.host.accounts.names.add("nurse@capulet.com")
        xml = self.REQUEST.replace("juliet@", "nurse@")
        self.assertEqual("item-not-found", await self.refusal(self.romeo, xml))

    async def test_a_connection_that_breaks_is_a_log_out_without_a_word(self) -> None:
        self.juliet.sends("<presence><status>here</status></presence>")
        self.host.clock.advance(50)
        await self.leaves(self.juliet)
        self.host.clock.advance(7)
        query = await self.last(self.romeo, "to='juliet@capulet.com'")
        self.assertEqual(("7", ""), (query["seconds"], str(query)))

    async def test_unavailable_counts_and_not_the_end_of_the_connection_after_it(self) -> None:
        self.juliet.sends("<presence type='unavailable'><status>bye</status></presence>")
        await self.written()
        self.host.clock.advance(5)
        query = await self.last(self.romeo, "to='juliet@capulet.com'")
        self.assertEqual(("5", "bye"), (query["seconds"], str(query)))
        self.host.clock.advance(60)
        await self.leaves(self.juliet)
        query = await self.last(self.romeo, "to='juliet@capulet.com'")
        self.assertEqual(("65", "bye"), (query["seconds"], str(query)))

    async def test_who_comes_back_logs_out_anew(self) -> None:
        self.juliet.sends("<presence type='unavailable'><status>bye</status></presence>")
        self.juliet.sends("<presence/>")
        self.host.clock.advance(60)
        await self.leaves(self.juliet)
        query = await self.last(self.romeo, "to='juliet@capulet.com'")
        self.assertEqual(("0", ""), (query["seconds"], str(query)))

    async def test_directed_presence_is_no_log_out(self) -> None:
        self.juliet.sends("<presence type='unavailable' to='nurse@capulet.com'><status>bye</status></presence>")
        await self.written()
        self.assertEqual(0, await self.rows(LastActivity, "capulet.com"))

    async def test_an_answer_waits_for_what_is_still_to_be_written(self) -> None:
        self.juliet.leaves()
        self.romeo.sends(self.REQUEST)
        self.assertFalse(self.romeo.received)
        self.host.clock.advance(0.002)
        self.assertEqual("result", (await self.romeo.receives("iq"))["type"])

    async def test_log_outs_of_one_moment_are_one_row_each(self) -> None:
        self.juliet.sends("<presence type='unavailable'><status>first</status></presence>")
        self.juliet.sends("<presence/>")
        self.host.clock.advance(0.001)
        self.host.session("juliet@capulet.com/chamber").leaves()
        self.romeo.leaves()
        await self.written()
        self.assertEqual(
            (1, 1), (await self.rows(LastActivity, "capulet.com"), await self.rows(LastActivity, "montague.net"))
        )


class Resources(LastTestCase):
    REQUEST = f"<iq id='last2' to='juliet@capulet.com/balcony' type='get'>{LAST}</iq>"

    async def test_a_client_says_how_long_it_was_idle(self) -> None:
        self.romeo.sends(self.REQUEST)
        await self.juliet.receives("iq")
        self.juliet.sends(
            "<iq id='last2' to='romeo@montague.net/orchard' type='result'>"
            "<query xmlns='jabber:iq:last' seconds='123'/></iq>"
        )
        self.assertEqual("123", (await self.romeo.receives("iq")).query["seconds"])

    async def test_strangers_don_t_reach_it(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "to")
        self.assertEqual("forbidden", await self.refusal(self.romeo, self.REQUEST))
        await self.host.silence(self.juliet)

    async def test_ones_own_other_resource_does(self) -> None:
        self.host.session("juliet@capulet.com/chamber").sends(self.REQUEST)
        self.assertEqual("juliet@capulet.com/chamber", (await self.juliet.receives("iq"))["from"])

    async def test_other_requests_of_strangers_do(self) -> None:
        self.subscribe("juliet@capulet.com", "romeo@montague.net", "none")
        self.romeo.sends(
            "<iq id='1' to='juliet@capulet.com/balcony' type='get'><query xmlns='jabber:iq:version'/></iq>"
        )
        await self.juliet.receives("iq")


class Domain(LastTestCase):
    async def test_uptime(self) -> None:
        await self.module("mod_last").start()
        self.host.clock.advance(123456.7)
        await self.check(
            self.romeo,
            f"<iq id='last3' to='capulet.com' type='get'>{LAST}</iq>",
            """
            <iq from='capulet.com' id='last3' to='romeo@montague.net/orchard' type='result'>
              <query xmlns='jabber:iq:last' seconds='123456'/>
            </iq>
            """,
        )

    async def test_it_cannot_be_set(self) -> None:
        for to in ("", "to='capulet.com'"):
            xml = f"<iq id='1' {to} type='set'>{LAST}</iq>"
            self.assertEqual("service-unavailable", await self.refusal(self.romeo, xml))


class BadInput(LastTestCase):
    async def test_sql_in_a_status(self) -> None:
        for number, value in enumerate(HOSTILE):
            session = self.host.session(f"juliet@capulet.com/{number}")
            self.host.clock.advance(1)
            await self.leaves(session, escape(value))
            self.assertEqual(value, str(await self.last(self.romeo, "to='juliet@capulet.com'")))

    async def test_sql_in_addresses(self) -> None:
        for name in HOSTILE_LOCALPARTS:
            session = self.host.session(f"{name}@capulet.com/x")
            await self.leaves(session, f"status of {name}")
        for name in HOSTILE_LOCALPARTS:
            session = self.host.session(f"{name}@capulet.com/x")
            self.assertEqual(f"status of {name}", str(await self.last(session, "")))

    async def test_a_long_status_is_cut(self) -> None:
        await self.leaves(self.juliet, "é" * 5000)
        self.assertEqual("é" * 1024, str(await self.last(self.romeo, "to='juliet@capulet.com'")))

    async def test_a_clock_that_went_back_gives_no_negative_seconds(self) -> None:
        await self.leaves(self.juliet)
        self.host.clock.rightNow -= 100
        self.assertEqual("0", (await self.last(self.romeo, "to='juliet@capulet.com'"))["seconds"])


class FullWriter(LastTestCase):
    async def test_a_log_out_that_cannot_be_noted_harms_nobody(self) -> None:
        class Full:
            def write(self, row: Any, ticket: Any) -> None:
                raise Unavailable("full")

        module = self.module("mod_last")
        writer, module._writer = module._writer, Full()
        self.juliet.sends("<presence type='unavailable'/>")
        self.juliet.leaves()
        module._writer = writer
        await self.host.silence(self.juliet, self.romeo)


class Removal(LastTestCase):
    async def test_of_a_domain(self) -> None:
        await self.leaves(self.juliet)
        await self.leaves(self.romeo)
        await self.check_removal(LastActivity, "capulet.com", "montague.net")

    async def test_what_was_still_to_be_written_goes_too(self) -> None:
        self.romeo.leaves()
        for removal in ("domain", "account"):
            session = self.host.session("juliet@capulet.com/x")
            session.leaves()
            module = self.module("mod_last")
            if removal == "domain":
                done = Deferred.fromCoroutine(module.remove_domain("capulet.com"))
            else:
                done = Deferred.fromCoroutine(module.remove_account(session.jid.to_bare()))
            self.host.clock.advance(0.002)
            await done
            self.assertEqual(0, await self.rows(LastActivity, "capulet.com"), removal)
        self.assertEqual(1, await self.rows(LastActivity, "montague.net"))

    async def test_of_an_account(self) -> None:
        await self.leaves(self.juliet)
        await self.leaves(self.host.session("nurse@capulet.com/x"))
        await self.module("mod_last").remove_account(self.juliet.jid.to_bare())
        self.assertEqual(0, await self.rows(LastActivity, "capulet.com", "juliet"))
        self.assertEqual(1, await self.rows(LastActivity, "capulet.com", "nurse"))

    async def test_stopping_writes_what_waits(self) -> None:
        self.juliet.leaves()
        done = Deferred.fromCoroutine(self.module("mod_last").stop())
        self.host.clock.advance(0.002)
        await done
        self.assertEqual(1, await self.rows(LastActivity, "capulet.com"))
