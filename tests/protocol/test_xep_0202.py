"""XEP-0202 Entity Time."""

from dynxmpp.modules.entity_time import EntityTime
from tests.protocol.support import Dialogues


class TimeTests(Dialogues):
    modules = [EntityTime]

    async def test_the_clock_of_the_server_in_utc(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        self.host.clock.advance(1166551115.9)
        for to, sender in [
            ("to='capulet.example'", "capulet.example"),
            ("to='romeo@montague.example'", "romeo@montague.example"),
            ("", "romeo@montague.example"),
        ]:
            await self.check(
                romeo,
                f"<iq type='get' {to} id='time_1'><time xmlns='urn:xmpp:time'/></iq>",
                f"""
                <iq type='result' from='{sender}' to='romeo@montague.example/orchard' id='time_1'>
                  <time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2006-12-19T17:58:35Z</utc></time>
                </iq>
                """,
            )

    async def test_a_client_answers_for_itself(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        juliet = self.host.session("juliet@capulet.example/balcony")
        romeo.sends("<iq type='get' to='juliet@capulet.example/balcony' id='1'><time xmlns='urn:xmpp:time'/></iq>")
        self.assertEqual("romeo@montague.example/orchard", (await juliet.receives("iq"))["from"])

    async def test_it_cannot_be_set(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        xml = "<iq type='set' to='capulet.example' id='1'><time xmlns='urn:xmpp:time'/></iq>"
        self.assertEqual("service-unavailable", await self.refusal(romeo, xml))
