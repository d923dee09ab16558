"""XEP-0092 Software Version."""

import platform
from importlib.metadata import version

from dynxmpp.modules.version import Version, VersionConfig
from tests.protocol.support import Dialogues

REQUEST = "<iq type='get' to='capulet.example' id='version_1'><query xmlns='jabber:iq:version'/></iq>"


class VersionTests(Dialogues):
    modules = [Version]

    async def test_name_and_version_and_nothing_of_the_system(self) -> None:
        await self.check(
            self.host.session("romeo@montague.example/orchard"),
            REQUEST,
            f"""
            <iq type='result' to='romeo@montague.example/orchard' from='capulet.example' id='version_1'>
              <query xmlns='jabber:iq:version'><name>dynxmpp</name><version>{version("dynxmpp")}</version></query>
            </iq>
            """,
        )

    async def test_accounts_have_no_software(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        for to in ("", "to='romeo@montague.example'"):
            xml = f"<iq type='get' {to} id='1'><query xmlns='jabber:iq:version'/></iq>"
            self.assertEqual("service-unavailable", await self.refusal(romeo, xml))

    async def test_it_cannot_be_set(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        xml = REQUEST.replace("type='get'", "type='set'")
        self.assertEqual("service-unavailable", await self.refusal(romeo, xml))


class WithSystem(Dialogues):
    modules = [(Version, VersionConfig(os_info=True))]

    async def test_the_system_is_told_where_the_administrator_wants_it(self) -> None:
        reply = await self.host.session("romeo@montague.example/orchard").asks(REQUEST)
        self.assertEqual(f"{platform.system()} {platform.release()}", str(reply.query.os))
