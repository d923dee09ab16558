"""Asking for rooms, and all that everybody gets because of it."""

from typing import Any

from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_CONFIGURATION, NS_CREATE
from tests.fixtures.dialogue import TestSession, canonical
from tests.muclight.support import ANN, LOBBY, RoomTestCase, error, notice, result, seen


def users(**affiliations: str) -> str:
    """<occupants/> with accounts of the domain."""
    entries = (
        f"<user affiliation='{affiliation}'>{name}@example.org</user>" for name, affiliation in affiliations.items()
    )
    return f"<occupants>{''.join(entries)}</occupants>"


def fields(content: str) -> str:
    return f"<configuration>{content}</configuration>"


class CreationTestCase(RoomTestCase):
    async def makes(self, content: str, *, to: str = LOBBY, who: TestSession | None = None) -> dict[str, list[Any]]:
        """What everybody gets because somebody (ann) asks for a room."""
        return await self.hear(who or self.ann, NS_CREATE, content, to=to)

    async def made(self, content: str, **affiliations: str) -> None:
        """Asks for a room, which then has these members: each was told what concerns him, ann has her result last."""
        heard = await self.makes(content)
        version = await self.version()
        expected: dict[str, list[Any]] = {}
        for name, affiliation in affiliations.items():
            expected[f"{name}@example.org"] = [welcome(f"{name}@example.org", affiliation, version)]
        expected[ANN].append(result(ANN))
        self.assertEqual(expected, heard)
        self.assertEqual(
            {f"{n}@example.org": affiliation for n, affiliation in affiliations.items()}, await self.members()
        )
        self.assertEqual(canonical_users(await self.members()), await self.read_members())

    async def read_members(self) -> list[Any]:
        reply = await self.get(self.ann, LOBBY, NS_AFFILIATIONS)
        return [canonical(child) for child in reply.query.elements() if child.name == "user"]

    async def refused(
        self, content: str, text: str | None, *, condition: str = "bad-request", type_: str = "modify"
    ) -> None:
        """Asks for a room, which is refused: ann is told, nobody else anything, and there is none."""
        heard = await self.makes(content)
        self.assertEqual({ANN: [error(ANN, condition, text, type_=type_)]}, heard, content[:500])
        self.assertEqual({}, await self.members())

    async def config_of(self, room: str = LOBBY) -> list[tuple[str, str]]:
        reply = await self.get(self.ann, room, NS_CONFIGURATION)
        return [(child.name, str(child)) for child in reply.query.elements() if child.name != "version"]


def welcome(address: str, affiliation: str, version: str, room: str = LOBBY, id_: str = "h") -> Any:
    """What somebody is told who is in a room from its beginning."""
    user = f"<user affiliation='{affiliation}'>{address}</user>"
    return notice(address, f"<x xmlns='{NS_AFFILIATIONS}'><version>{version}</version>{user}</x>", room=room, id_=id_)


def canonical_users(members: dict[str, str]) -> list[Any]:
    entries = "".join(f"<user affiliation='{affiliation}'>{address}</user>" for address, affiliation in members.items())
    query: Any = seen(f"<iq><query xmlns='{NS_AFFILIATIONS}'>{entries}</query></iq>")
    return list(query[3][0][3])
