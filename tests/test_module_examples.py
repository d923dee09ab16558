"""The examples of docs/modules.md work as they stand there."""

import re
from pathlib import Path
from typing import Any

import tomlkit
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.domains.store import DomainStore
from dynxmpp.module import JID, Module, WokkelModule
from dynxmpp.module_loader import config_models, discover
from tests.config.support import PGSQL, ConfigTestCase
from tests.fixtures.dialogue import Host
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.support import condition

PAGE = Path(__file__).parents[1] / "docs" / "modules.md"


def blocks(language: str) -> list[str]:
    """The code of the page in one language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def defined(code: str, name: str) -> Any:
    """What `code` calls `name`."""
    scope: dict[str, Any] = {"__name__": "my_package.example"}
    exec(compile(code, str(PAGE), "exec"), scope)
    return scope[name]


NOTE: type[Module] = defined(blocks("python")[0], "Note")
DICE: type[Any] = defined(blocks("python")[1], "Dice")


class OwnModule(DatabaseTestCase):
    migrations = NOTE.migrations

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host = await Host([NOTE], database=self.db).start()
        self.romeo = self.host.session("romeo@montague.example/orchard")

    async def ask(self, type_: str, inner: str, to: str = "") -> domish.Element:
        note = f"<note xmlns='urn:example:note'>{inner}</note>"
        return await self.romeo.asks(f"<iq type='{type_}' id='1'{to}>{note}</iq>")

    async def test_keeps_a_note(self) -> None:
        self.assertEqual("", str((await self.ask("get", "")).note))
        await self.ask("set", "buy &lt;poison&gt;")
        self.assertEqual("buy <poison>", str((await self.ask("get", "")).note))

    async def test_refuses(self) -> None:
        self.assertEqual("policy-violation", condition(await self.ask("set", "x" * 201)))
        self.host.session("juliet@montague.example/balcony")
        for type_ in ("get", "set"):
            reply = await self.ask(type_, "", " to='juliet@montague.example'")
            self.assertEqual("forbidden", condition(reply))

    async def test_is_announced(self) -> None:
        self.assertEqual(("urn:example:note",), self.host.host_types[0].features())

    async def test_its_rows_go_with_the_account(self) -> None:
        await self.ask("set", "farewell")
        store = DomainStore(self.db, clock=self.host.clock)
        places = [Place(self.db, stored) for stored in NOTE.stored]
        remover = DomainRemover(store, settings_database=self.db, places=places)
        await remover.remove_account(JID.parse("romeo@montague.example"))
        self.assertEqual("", str((await self.ask("get", "")).note))


class WokkelHandler(TestCase):
    async def test_answers_for_the_domain(self) -> None:
        host = await Host([WokkelModule.wrap("mod_dice", DICE)]).start()
        romeo = host.session("romeo@montague.example/orchard")
        xml = "<iq type='get' id='1' to='montague.example'><roll xmlns='urn:example:dice'/></iq>"
        reply = await romeo.asks(xml)
        self.assertEqual(("result", "4"), (reply["type"], str(reply.roll)))
        self.assertEqual("montague.example", reply["from"])


class Files(ConfigTestCase):
    """The pieces of configuration on the page are valid, and mean what is said of them."""

    models = {**config_models(discover()), NOTE.name: NOTE.config_model}

    def modules(self, piece: str) -> Any:
        """What a host type has that is configured by `piece`."""
        pools = {"rdbms": {"default": {"connection": PGSQL}}}
        return self.load(outgoing_pools=pools, **tomlkit.parse(piece).unwrap()).host_types["basic"].modules

    def test_without_the_defaults(self) -> None:
        self.assertEqual({"mod_presence", "mod_roster"}, set(self.modules(blocks("toml")[0])))

    def test_the_module_of_the_example(self) -> None:
        modules = self.modules(next(block for block in blocks("toml") if "mod_note" in block))
        self.assertEqual(1000, modules["mod_note"].max_length)
        self.assertIn("mod_roster", modules)

    def test_indented_pieces(self) -> None:
        pieces = re.findall(r"(?:^    .*\n)+", PAGE.read_text().partition("## How to write")[0], re.MULTILINE)
        self.assertEqual(2, len(pieces))
        for piece in pieces:
            self.modules(re.sub("^    ", "", piece, flags=re.MULTILINE))
