"""Section 9 as dialogues: a request for affiliations, and all that everybody gets because of it."""

from collections.abc import Mapping
from typing import Any

from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_BLOCKING
from tests.muclight.support import LOBBY, SERVICE, RoomTestCase, error, notice, result

Changes = Mapping[str, str]


def users(changes: Changes) -> str:
    return "".join(f"<user affiliation='{affiliation}'>{user}</user>" for user, affiliation in changes.items())


class AffiliationTestCase(RoomTestCase):
    async def told(self, session: Any, wanted: Changes, effect: Changes | None = None) -> None:
        """A request is granted, with this effect (as wanted): all learn what concerns them, then it ends.

        The order of `effect` is that of the notices.
        """
        effect = wanted if effect is None else effect
        before, old = await self.version(), await self.members()
        heard = await self.hear(session, NS_AFFILIATIONS, users(wanted))
        new = await self.members()
        self.assertEqual(applied(old, effect), new)
        after = await self.version() if new else None
        self.assertNotEqual(before, after)
        expected: dict[str, list[Any]] = {}
        for user in sorted(old.keys() | new.keys()):
            if not self.host.sessions.of(user):
                continue
            if user not in new:
                x = users({user: "none"})
            elif user in old:
                x = f"<prev-version>{before}</prev-version><version>{after}</version>{users(effect)}"
            else:
                x = f"<version>{after}</version>{users({user: new[user]})}"
            expected[user] = [notice(user, f"<x xmlns='{NS_AFFILIATIONS}'>{x}</x>")]
        expected[session.jid.bare].append(result(session.jid.bare))
        self.assertEqual(expected, heard)

    async def nothing(self, session: Any, wanted: Changes) -> None:
        """A request is granted, and nothing comes of it."""
        before = await self.version(), await self.members()
        heard = await self.hear(session, NS_AFFILIATIONS, users(wanted))
        self.assertEqual({session.jid.bare: [result(session.jid.bare)]}, heard)
        self.assertEqual(before, (await self.version(), await self.members()))

    async def refused(
        self,
        session: Any,
        wanted: Changes | str,
        condition: str = "bad-request",
        text: str | None = None,
        *,
        room: str = LOBBY,
    ) -> None:
        """A request is refused: nobody else hears of it, and nothing has changed."""
        before = await self.version(), await self.members()
        content = wanted if isinstance(wanted, str) else users(wanted)
        heard = await self.hear(session, NS_AFFILIATIONS, content, to=room)
        type_ = "modify" if condition == "bad-request" else "cancel"
        address = session.jid.bare
        self.assertEqual({address: [error(address, condition, text, type_=type_, sender=room)]}, heard)
        self.assertEqual(before, (await self.version(), await self.members()))

    async def block(self, session: Any, *users: str, rooms: tuple[str, ...] = ()) -> None:
        items = "".join(f"<user action='deny'>{user}</user>" for user in users)
        items += "".join(f"<room action='deny'>{room}</room>" for room in rooms)
        self.assertEqual("result", (await self.set(session, SERVICE, NS_BLOCKING, items))["type"])


def applied(members: Changes, effect: Changes) -> Changes:
    return {user: affiliation for user, affiliation in {**members, **effect}.items() if affiliation != "none"}
