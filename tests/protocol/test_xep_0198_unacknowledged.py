"""XEP-0198: what becomes of stanzas that the client did not get."""

from dynxmpp.module import Stanza, StreamError
from dynxmpp.modules.stream_management import NS_SM
from tests.protocol.managed_streams import PHONE, EnabledCase, ManagedCase, first


class NotAcknowledged(EnabledCase):
    """What becomes of stanzas that the client did not get."""

    options = {"buffer_max": 6, "buffer_max_bytes": 1000}

    def kept(self) -> list[str]:
        return [body for body, _ in self.records.offline]

    async def test_when_time_is_up_they_go_where_messages_go_that_nobody_takes(self) -> None:
        self.server.clock.advance(5)
        self.says(self.bob, 1, PHONE)
        self.says(self.bob, 2, "ann@a.example")
        self.ann.loses()
        self.server.clock.advance(600)
        self.assertEqual([("1", 5.0), ("2", 5.0)], self.records.offline)

    async def test_what_was_acknowledged_does_not(self) -> None:
        self.says(self.bob, 1, PHONE)
        self.ann.sends(f"<a xmlns='{NS_SM}' h='2'/>")
        self.says(self.bob, 2, PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["2"], self.kept())

    async def test_a_client_that_closes_its_stream(self) -> None:
        self.says(self.bob, 1, PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["1"], self.kept())

    async def test_without_resumption_at_once(self) -> None:
        other = await self.server.logged_in("ann@a.example/other")
        self.enable(other, "")
        self.says(self.bob, 1, "ann@a.example/other")
        self.ann.received()
        self.ann.sends("<presence type='unavailable'/>")
        other.loses()
        self.assertEqual(["1"], self.kept())

    async def test_another_resource_gets_what_it_has_not_seen(self) -> None:
        """A message for the resource that is gone, and one that came before the other resource did."""
        self.ann.loses()
        self.says(self.bob, 1, "ann@a.example")
        self.server.clock.advance(1)
        other = await self.server.logged_in("ann@a.example/other")
        self.available(other)
        self.server.clock.advance(1)
        self.says(self.bob, 2, "ann@a.example")
        self.says(self.bob, 3, PHONE)
        self.assertEqual(["2"], self.bodies(other))
        self.server.clock.advance(598)
        late = [e for e in other.received() if e.name == "message"]
        self.assertEqual(["1", "3"], [str(e.body) for e in late])
        self.assertEqual(["a.example"] * 2, [e.delay["from"] for e in late])
        self.assertEqual([], self.kept())

    async def test_what_is_about_the_moment_goes_nowhere(self) -> None:
        for stanza in (
            "<presence to='%s'/>",
            "<message type='headline' to='%s'><body>h</body></message>",
            "<message type='error' to='%s'><body>h</body></message>",
            "<iq type='result' id='1' to='%s'/>",
        ):
            self.bob.sends(stanza % PHONE)
        self.ann.sends("</stream:stream>")
        self.assertEqual(["message"], [e.name for e in self.ann.received() if e.name == "message"][:1])
        self.assertEqual([], self.kept())
        self.assertEqual([], self.bob.received())

    async def test_who_asked_is_told(self) -> None:
        self.bob.sends(f"<iq type='get' id='q' to='{PHONE}'><nothing xmlns='x'/></iq>")
        self.ann.sends("</stream:stream>")
        answer = self.bob.receives("iq")
        self.assertEqual(("q", "error"), (answer["id"], answer["type"]))
        self.assertEqual("service-unavailable", first(answer.error))

    async def test_too_many_for_a_client_that_is_away(self) -> None:
        self.ann.loses()
        for number in range(7):
            self.says(self.bob, number, PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual([str(number) for number in range(7)], self.kept())
        late = await self.resumes(self.id, 1)
        self.assertEqual("item-not-found", first(late.receives("failed")))

    async def test_too_many_bytes(self) -> None:
        self.ann.loses()
        self.bob.sends(f"<message to='{PHONE}'><body>{'x' * 1000}</body></message>")
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual(1, len(self.kept()))

    async def test_a_client_that_never_acknowledges(self) -> None:
        for _ in range(30):
            self.bob.sends(f"<presence to='{PHONE}'/>")
        for number in range(31):
            self.says(self.bob, number, PHONE)
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual(31, len(self.kept()))
        self.ann.received()
        self.assertFalse(self.ann.is_open)

    async def test_a_domain_that_is_gone_gets_nothing(self) -> None:
        self.says(self.bob, 1, PHONE)
        session = self.session()
        self.server.domains.delete("a.example")
        session.end(StreamError("host-gone"))
        self.assertEqual([], self.kept())


class NothingKept(ManagedCase):
    options = {"buffer": False}

    async def test_it_is_not_resumable(self) -> None:
        self.assertEqual({}, self.enable(self.ann).attributes)
        self.available(self.ann)
        self.says(self.bob, 1, PHONE)
        self.ann.loses()
        self.assertEqual([PHONE], self.server.observer().ended)
        self.assertEqual([], self.records.offline)


class Stored(ManagedCase):
    """Stanzas that stay stored until the client has them (as those of offline storage do)."""

    def deliver(self, body: str) -> list[bool]:
        heard: list[bool] = []
        stanza = Stanza("message", {"to": PHONE}, f"<body>{body}</body>".encode(), ("jabber:client body",))
        self.session().deliver_stored(stanza, stanza.to_bytes(), heard.append)
        return heard

    async def test_without_stream_management(self) -> None:
        self.assertEqual([True], self.deliver("1"))

    async def test_heard_of_with_the_acknowledgement(self) -> None:
        id_ = self.enable(self.ann)["id"]
        first, second = self.deliver("1"), self.deliver("2")
        self.ann.sends(f"<a xmlns='{NS_SM}' h='1'/>")
        self.assertEqual(([True], []), (first, second))
        self.ann.loses()
        back = await self.resumes(id_, 2)
        back.receives("resumed")
        self.assertEqual([True], second)

    async def test_not_delivered_elsewhere(self) -> None:
        self.enable(self.ann)
        heard = self.deliver("1")
        self.ann.sends("</stream:stream>")
        self.assertEqual([False], heard)
        self.assertEqual([], self.records.offline)
