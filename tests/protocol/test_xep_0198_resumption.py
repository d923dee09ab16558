"""XEP-0198: sessions that go on over another connection, and those that do not."""

from typing import Any

from dynxmpp.c2s.stream_management import MASK
from dynxmpp.module import StreamError
from dynxmpp.modules.stream_management import NS_SM, StaleH
from tests.protocol.managed_streams import BOB, PHONE, EnabledCase, ManagedCase, first


class Resuming(EnabledCase):
    async def test_what_was_missed_comes_after_the_answer(self) -> None:
        self.says(self.ann, 1)
        self.says(self.bob, 1, PHONE)
        self.says(self.bob, 2, PHONE)
        self.ann.loses()
        self.says(self.bob, 3, PHONE)
        self.says(self.bob, 4, "ann@a.example")
        self.assertEqual([], self.server.observer().ended)
        back = await self.resumes(self.id, 2)
        resumed = back.receives("resumed")
        self.assertEqual((self.id, "2"), (resumed["previd"], resumed["h"]))
        self.assertEqual(["2", "3", "4"], self.bodies(back))
        self.assertEqual([PHONE], self.records.resumed)
        self.says(back, 2)
        self.asks(back)
        self.assertEqual(3, self.h(back))
        self.assertEqual(["1", "2"], self.bodies(self.bob))
        self.assertEqual([PHONE, BOB], self.server.observer().bound, "nothing was bound anew")

    async def test_nobody_sees_that_it_was_away(self) -> None:
        self.ann.sends("<presence to='bob@b.example/x'/>")
        self.bob.received()
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.receives("resumed")
        self.server.clock.advance(601)
        self.assertEqual([], self.bob.received())
        self.assertTrue(back.is_open)
        self.assertTrue(self.session().available)

    async def test_a_connection_that_is_half_open(self) -> None:
        """The client has moved; the server thinks that the old connection lives."""
        self.says(self.bob, 1, PHONE)
        back = await self.resumes(self.id, 1)
        self.assertEqual("1", back.receives("resumed")["h"])
        self.assertEqual(["1"], self.bodies(back))
        self.ann.receives("message")
        self.ann.receives("r")
        self.assertEqual("conflict", self.ann.stream_error())
        self.assertEqual([], self.server.observer().ended)
        self.says(self.bob, 2, PHONE)
        self.assertEqual(["2"], self.bodies(back))

    async def test_again_and_again(self) -> None:
        h = 1
        client = self.ann
        for number in range(5):
            client.loses()
            self.says(self.bob, number, PHONE)
            client = await self.resumes(self.id, h)
            client.receives("resumed")
            self.assertEqual([str(number)], self.bodies(client))
            h += 1

    async def test_it_waits_for_the_commit(self) -> None:
        """What <resumed/> does not count will be sent again: it must not take effect a second time."""
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.sends("<presence><show>away</show></presence>")
        self.assertEqual([], back.received())
        self.records.commits()
        self.assertEqual("2", back.receives("resumed")["h"])
        self.server.clock.advance(0)
        self.assertEqual(["presence", "r"], [e.name for e in back.received()])
        self.asks(back)
        self.assertEqual(3, self.h(back))

    async def test_the_second_of_two_at_once_has_it(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        first = await self.resumes(self.id, 1)
        second = await self.resumes(self.id, 1)
        self.assertEqual("conflict", first.stream_error())
        self.records.commits()
        self.assertEqual("2", second.receives("resumed")["h"])
        self.assertTrue(second.is_open)

    async def test_a_client_that_goes_while_it_resumes(self) -> None:
        self.records.is_slow = True
        self.says(self.ann, 1)
        self.ann.loses()
        back = await self.resumes(self.id, 1)
        back.loses()
        self.records.commits()
        self.assertEqual([], self.server.observer().ended)
        self.server.clock.advance(600)
        self.assertEqual([PHONE], self.server.observer().ended)

    async def test_pipelined_stanzas_are_the_sessions(self) -> None:
        self.ann.loses()
        back = await self.authenticated()
        back.sends(
            f"<resume xmlns='{NS_SM}' previd='{self.id}' h='1'/>"
            f"<message to='{BOB}'><body>next</body></message><r xmlns='{NS_SM}'/>"
        )
        self.assertEqual("1", back.receives("resumed")["h"])
        self.assertEqual(2, self.h(back))
        self.assertEqual(["next"], self.bodies(self.bob))

    async def test_an_id_that_is_none(self) -> None:
        self.ann.loses()
        for previous in ("guessed", self.id[:-1], self.id.swapcase(), "'; DROP TABLE users; --", "x" * 4000):
            client = await self.authenticated()
            client.sends(f'<resume xmlns="{NS_SM}" previd="{previous}" h="1"/>')
            self.assertEqual("item-not-found", first(client.receives("failed")))
            self.assertEqual("result", client.binds("other")["type"], "it may bind instead")
        self.assertEqual(PHONE, self.session().full)

    async def test_somebody_elses_id(self) -> None:
        self.ann.loses()
        for username, domain in (("bob", "a.example"), ("ann", "b.example"), ("ann", "c.example")):
            thief = await self.resumes(self.id, 1, username, domain)
            self.assertEqual("item-not-found", first(thief.receives("failed")))
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_without_id_or_count(self) -> None:
        client = await self.authenticated()
        client.sends(f"<resume xmlns='{NS_SM}' h='1'/>")
        self.assertEqual("bad-request", first(client.receives("failed")))
        client.sends(f"<resume xmlns='{NS_SM}' previd='{self.id}'/>")
        self.assertEqual("invalid-xml", client.stream_error())

    async def test_an_impossible_count(self) -> None:
        """The session stays: the next attempt may know better."""
        self.ann.loses()
        for h in (0, 2, 99, MASK):
            client = await self.resumes(self.id, h)
            self.assertEqual("undefined-condition", client.receives("error").firstChildElement().name, h)
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_attempts_are_bounded(self) -> None:
        client = await self.authenticated()
        attempts = self.server.context.config.auth_attempts
        for _ in range(attempts):
            client.sends(f"<resume xmlns='{NS_SM}' previd='guessed' h='1'/>")
            client.receives("failed")
        self.assertEqual("policy-violation", client.stream_error())

    async def test_after_its_time(self) -> None:
        self.ann.loses()
        self.server.clock.advance(599)
        self.assertEqual([], self.server.observer().ended)
        self.server.clock.advance(1)
        self.assertEqual([PHONE], self.server.observer().ended)
        late = await self.resumes(self.id, 1)
        failed = late.receives("failed")
        self.assertEqual("item-not-found", first(failed))
        self.assertFalse(failed.hasAttribute("h"))

    async def test_not_after_a_stream_that_was_closed(self) -> None:
        for end in ("</stream:stream>", "<message/><nonsense xmlns='x'/>"):
            client = await self.server.logged_in("ann@a.example/other")
            id_ = self.enable(client)["id"]
            self.server.observer().ended.clear()
            client.sends(end)
            self.assertEqual(["ann@a.example/other"], self.server.observer().ended)
            late = await self.resumes(id_, 0)
            self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_not_after_the_session_was_ended(self) -> None:
        """By an administrator, with its account, with its domain; whether the client is there or away."""
        self.session().end(StreamError("policy-violation"))
        self.assertEqual([PHONE], self.server.observer().ended)
        away = await self.server.logged_in("ann@a.example/away")
        id_ = self.enable(away)["id"]
        away.loses()
        self.session("ann@a.example/away").end(StreamError("host-gone"))
        self.assertEqual([PHONE, "ann@a.example/away"], self.server.observer().ended)
        for previous in (self.id, id_):
            late = await self.resumes(previous, 0)
            self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_not_after_its_resource_was_bound_anew(self) -> None:
        self.ann.loses()
        await self.server.logged_in(PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        late = await self.resumes(self.id, 1)
        self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_a_connection_found_dead_may_be_resumed(self) -> None:
        """What mod_ping does to a client that does not answer."""
        self.session().end(StreamError("connection-timeout"))
        self.assertEqual("connection-timeout", self.ann.stream_error())
        self.assertEqual([], self.server.observer().ended)
        self.session().end(StreamError("connection-timeout"))
        back = await self.resumes(self.id, 1)
        back.receives("resumed")

    async def test_a_bound_client_has_nothing_to_resume(self) -> None:
        self.ann.sends(f"<resume xmlns='{NS_SM}' previd='{self.id}' h='0'/>")
        self.assertEqual("unexpected-request", first(self.ann.receives("failed")))

    async def test_nothing_is_left_behind(self) -> None:
        self.ann.loses()
        self.bob.loses()
        self.server.clock.advance(601)
        self.assertEqual((0, {}, 0, 0), self.server.balance)
        management: Any = self.server.type_of("a.example").modules["mod_stream_management"]
        self.assertEqual({}, management._sessions)
        self.assertEqual([], self.server.clock.getDelayedCalls())


class StaleCounters(ManagedCase):
    options = {"stale_h": StaleH(enabled=True, geriatric=100), "resume_timeout": 50}

    async def test_h_is_told_for_a_while(self) -> None:
        id_ = self.enable(self.ann)["id"]
        self.says(self.ann, 1)
        self.ann.loses()
        self.server.clock.advance(50)
        late = await self.resumes(id_, 0)
        self.assertEqual("1", late.receives("failed")["h"])
        other = await self.resumes(id_, 0, "bob")
        self.assertFalse(other.receives("failed").hasAttribute("h"))
        self.server.clock.advance(101)
        later = await self.resumes(id_, 0)
        self.assertFalse(later.receives("failed").hasAttribute("h"))
