"""What members are told and answered: the stanzas of the protocol's examples, byte for byte where bytes matter."""

from twisted.trial.unittest import TestCase

from dynxmpp.module import JID, Stanza
from dynxmpp.modules.muc_light import notices
from dynxmpp.modules.muc_light.config import MucLightConfig, RoomField
from dynxmpp.modules.muc_light.names import (
    NS_AFFILIATIONS,
    NS_BLOCKING,
    NS_CONFIGURATION,
    NS_DESTROY,
    NS_INFO,
    NS_MUC_USER,
)
from dynxmpp.modules.muc_light.notices import Content
from dynxmpp.modules.muc_light.requests import Blocked, read_affiliations, read_blocking
from dynxmpp.modules.muc_light.room import Affiliation, Room
from dynxmpp.modules.muc_light.room_config import RoomSchema
from tests.fixtures.dialogue import canonical, parse

NONE, OWNER, MEMBER = Affiliation.NONE, Affiliation.OWNER, Affiliation.MEMBER
SCHEMA = RoomSchema(MucLightConfig().config_schema)
ANN, BEN, CAT = (JID.parse(f"{name}@example.org") for name in ("ann", "ben", "cat"))
LOBBY = JID.parse("lobby@muclight.example.org")
#: Nodeprep allows none of the characters that XML must escape; another part of the address may hold some.
ODD = JID.parse("é@example.org/<'&\">")
ROOM = Room(LOBBY, 1, "V1", {ANN: OWNER, BEN: MEMBER}, {"roomname": "Lobby"})
CHANGES = {ANN: MEMBER, BEN: OWNER, CAT: NONE}


class Printed(TestCase):
    def same(self, xml: str, stanza: Stanza) -> None:
        """Is it that stanza, in its bytes and its tree, and are its keys those of what is in it?"""
        data = stanza.to_bytes(embedded=True).decode()
        received = parse(data)
        self.assertEqual(canonical(parse(xml)), canonical(received))
        self.assertEqual(received.child_keys, stanza.child_keys)


class Notices(Printed):
    def sent(self, expected: str, content: Content) -> None:
        wanted = f"<message id='s1' type='groupchat' from='{LOBBY}' to='{BEN}'>{expected}<body/></message>"
        self.same(wanted, notices.message(content, room=LOBBY, to=BEN, id_="s1"))

    def test_to_who_was_and_stays_a_member(self) -> None:
        self.sent(
            f"<x xmlns='{NS_AFFILIATIONS}'><prev-version>V2</prev-version><version>V3</version>"
            "<user affiliation='member'>ann@example.org</user><user affiliation='owner'>ben@example.org</user>"
            "<user affiliation='none'>cat@example.org</user></x>",
            notices.affiliations_notice(CHANGES, version="V3", previous="V2"),
        )

    def test_to_a_newcomer(self) -> None:
        self.sent(
            f"<x xmlns='{NS_AFFILIATIONS}'><version>V3</version><user affiliation='member'>ben@example.org</user></x>",
            notices.affiliations_notice({BEN: MEMBER}, version="V3"),
        )

    def test_to_who_has_left(self) -> None:
        self.sent(
            f"<x xmlns='{NS_AFFILIATIONS}'><user affiliation='none'>ben@example.org</user></x>",
            notices.affiliations_notice({BEN: NONE}),
        )

    def test_of_the_configuration(self) -> None:
        self.sent(
            f"<x xmlns='{NS_CONFIGURATION}'><prev-version>V1</prev-version><version>V2</version>"
            "<roomname>Den &amp; é</roomname></x>",
            notices.configuration_notice(SCHEMA.printed({"roomname": "Den & é"}), version="V2", previous="V1"),
        )

    def test_of_the_end(self) -> None:
        self.sent(
            f"<x xmlns='{NS_DESTROY}'/>"
            f"<x xmlns='{NS_AFFILIATIONS}'><user affiliation='none'>ben@example.org</user></x>",
            notices.destroy_notice(BEN),
        )

    def test_as_archived(self) -> None:
        content = notices.affiliations_notice({ANN: OWNER}, version="V1")
        self.same(
            f"<message id='s1' type='groupchat' from='{LOBBY}'><x xmlns='{NS_AFFILIATIONS}'><version>V1</version>"
            "<user affiliation='owner'>ann@example.org</user></x><body/></message>",
            notices.message(content, room=LOBBY, to=None, id_="s1"),
        )

    def test_the_same_content_for_all(self) -> None:
        content = notices.destroy_notice(ANN)
        for to in (ANN, BEN):
            self.assertEqual(content.inner, notices.message(content, room=LOBBY, to=to, id_="1").inner())

    def test_versions_are_escaped(self) -> None:
        self.sent(
            f"<x xmlns='{NS_AFFILIATIONS}'><prev-version>&lt;</prev-version><version>&amp;</version></x>",
            notices.affiliations_notice({}, version="&", previous="<"),
        )


class Authors(TestCase):
    def test_of_both_kinds(self) -> None:
        ann = JID.parse("ann@example.org/p")
        for affiliation, role in ((OWNER, "moderator"), (MEMBER, "participant")):
            self.assertEqual(
                f"<x xmlns='{NS_MUC_USER}'><item affiliation='{affiliation.text}' role='{role}'"
                " jid='ann@example.org/p'/></x>",
                notices.author(affiliation, ann).decode(),
            )

    def test_resources_are_escaped(self) -> None:
        x = parse(notices.author(MEMBER, ODD).decode())
        (item,) = x.child_elements()
        self.assertEqual(ODD.full, item["jid"])


class Answers(Printed):
    def test_configuration(self) -> None:
        self.same(
            f"<query xmlns='{NS_CONFIGURATION}'><version>V1</version><roomname>Lobby</roomname><subject/></query>",
            notices.configuration_answer(ROOM, SCHEMA),
        )

    def test_configuration_by_the_names_on_the_wire(self) -> None:
        schema = RoomSchema(
            (
                RoomField(field="title", string_value="", internal_key="roomname"),
                RoomField(field="size", integer_value=3),
            )
        )
        self.same(
            f"<query xmlns='{NS_CONFIGURATION}'><version>V1</version><title>Lobby</title><size>3</size></query>",
            notices.configuration_answer(ROOM, schema),
        )

    def test_affiliations(self) -> None:
        self.same(
            f"<query xmlns='{NS_AFFILIATIONS}'><version>V1</version><user affiliation='owner'>ann@example.org</user>"
            "<user affiliation='member'>ben@example.org</user></query>",
            notices.affiliations_answer(ROOM),
        )

    def test_both(self) -> None:
        self.same(
            f"<query xmlns='{NS_INFO}'><version>V1</version>"
            "<configuration><roomname>Lobby</roomname><subject/></configuration>"
            "<occupants><user affiliation='owner'>ann@example.org</user>"
            "<user affiliation='member'>ben@example.org</user></occupants></query>",
            notices.info_answer(ROOM, SCHEMA),
        )

    def test_blocking(self) -> None:
        self.same(
            f"<query xmlns='{NS_BLOCKING}'><room action='deny'>lobby@muclight.example.org</room>"
            "<user action='deny'>ann@example.org</user></query>",
            notices.blocking_answer([(Blocked.ROOM, LOBBY), (Blocked.USER, ANN)]),
        )
        self.same(f"<query xmlns='{NS_BLOCKING}'/>", notices.blocking_answer([]))


class ThereAndBack(TestCase):
    """What is printed is read again as it was."""

    def test_affiliations(self) -> None:
        xml = notices.affiliations_notice(CHANGES).inner.decode().removesuffix("<body/>")
        self.assertEqual(CHANGES, read_affiliations(parse(xml)))

    def test_blocking(self) -> None:
        listed = [(Blocked.ROOM, LOBBY), (Blocked.USER, JID.parse("é@example.org"))]
        items = read_blocking(parse(notices.blocking_answer(listed).to_bytes(embedded=True).decode()))
        self.assertEqual([(kind, jid, True) for kind, jid in listed], [(i.kind, i.jid, i.deny) for i in items])
