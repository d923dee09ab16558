"""Section 6: messages, and what may be sent to rooms and services (section 3)."""

from tests.muclight.support import ANN, BEN, CAT, LOBBY, SERVICE, RoomTestCase, refusal


class Messages(RoomTestCase):
    async def test_to_all_members_the_sender_included(self) -> None:
        await self.room()
        self.ann.sends(
            f"<message type='groupchat' id='m1' to='{LOBBY}'><body>hi</body><x xmlns='urn:x:custom'/></message>"
        )
        for session, address in ((self.ann, ANN), (self.ben, BEN), (self.cat, CAT)):
            message = await session.receives("message")
            expected = {"type": "groupchat", "id": "m1", "from": f"{LOBBY}/{ANN}", "to": address}
            self.assertEqual(expected, dict(message.attributes))
            self.assertEqual(["body", "x"], [child.name for child in message.elements()])
        await self.host.silence(self.ann, self.ben, self.cat, self.dan)

    async def test_outsiders_learn_nothing(self) -> None:
        await self.room()
        for to in (LOBBY, f"nowhere@{SERVICE}"):
            self.dan.sends(f"<message type='groupchat' id='m1' to='{to}'><body>hi</body></message>")
            error = await self.dan.receives("message")
            self.assertEqual(("cancel", "item-not-found", None), refusal(error))
            self.assertEqual((to, "m1"), (error["from"], error["id"]))
        await self.host.silence(self.ann, self.dan)
