"""What clients ask of rooms, and what is refused (sections 5, 7, 8, 9 and 11 of the protocol)."""

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.module import JID, StanzaError
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_AFFILIATIONS, NS_BLOCKING, NS_CONFIGURATION, NS_CREATE, NS_INFO
from dynxmpp.modules.muc_light.requests import (
    MAX_CHANGES,
    Blocked,
    BlockingItem,
    Create,
    read_affiliations,
    read_blocking,
    read_configuration,
    read_create,
    read_version,
)
from dynxmpp.modules.muc_light.room import Affiliation
from dynxmpp.modules.muc_light.room_config import RoomSchema
from tests.fixtures.dialogue import parse

SCHEMA = RoomSchema(MucLightConfig().config_schema)
ANN, BEN, CAT = (JID.parse(f"{name}@example.org") for name in ("ann", "ben", "cat"))
LOBBY = JID.parse("lobby@muclight.example.org")
TWICE = "Cannot change affiliation for the same user twice in the same request"
NOT_ADDRESSES = (
    "",
    "example.org",
    "@example.org",
    "ben@",
    "ben@example.org/",
    "be n@example.org",
    "ben@exa mple",
    " ben@example.org",
    "ben@example.org\n",
    "b" * 1024 + "@example.org",
)


def payload(uri: str, content: str) -> domish.Element:
    iq = parse(f"<iq type='set' id='1'><query xmlns='{uri}'>{content}</query></iq>")
    return next(iter(iq.child_elements()))


def user(address: str, affiliation: str = "member") -> str:
    return f"<user affiliation='{affiliation}'>{address}</user>"


class Requests(TestCase):
    #: The namespace of the payload, and what reads it.
    uri: str
    read: Callable[[domish.Element], Any]

    def reads(self, content: str) -> Any:
        return type(self).read(payload(self.uri, content))

    def refused(self, content: str) -> str | None:
        """The text of the error."""
        with self.assertRaises(StanzaError) as caught:
            self.reads(content)
        self.assertEqual(("modify", "bad-request"), (caught.exception.type, caught.exception.condition))
        return caught.exception.text


class Creation(Requests):
    uri = NS_CREATE
    read = staticmethod(lambda element: read_create(element, SCHEMA))

    def test_the_example(self) -> None:
        configuration = "<configuration><roomname>Lobby</roomname></configuration>"
        occupants = f"<occupants>{user('ben@example.org')}{user('cat@example.org', 'owner')}</occupants>"
        wanted = Create({"roomname": "Lobby"}, {BEN: Affiliation.MEMBER, CAT: Affiliation.OWNER})
        self.assertEqual(wanted, self.reads(configuration + occupants))
        self.assertEqual(wanted, self.reads(occupants + configuration))

    def test_nothing_has_to_be_said(self) -> None:
        for content in ("", "<configuration/>", "<occupants/>", "<x xmlns='urn:x'/>", "\n"):
            self.assertEqual(Create({}, {}), self.reads(content))

    def test_each_once(self) -> None:
        self.assertEqual("More than one element configuration", self.refused("<configuration/><configuration/>"))
        self.assertEqual("More than one element occupants", self.refused("<occupants/><configuration/><occupants/>"))

    def test_elements_that_there_are_not(self) -> None:
        self.assertEqual("Unexpected element members", self.refused("<members/>"))
        self.assertEqual("Unexpected element member", self.refused("<occupants><member/></occupants>"))
        self.assertEqual("Unexpected element roomname", self.refused("<roomname>Lobby</roomname>"))

    def test_the_schema_decides(self) -> None:
        for name in ("colour", "version"):
            text = self.refused(f"<configuration><{name}>1</{name}></configuration>")
            self.assertEqual(f"{name}:not_found", text)
        self.assertEqual(
            "roomname:type_error", self.refused("<configuration><roomname><b/></roomname></configuration>")
        )

    def test_occupants(self) -> None:
        twice = user("ben@example.org") + user("BEN@example.org", "none")
        self.assertEqual(TWICE, self.refused(f"<occupants>{twice}</occupants>"))
        self.refused(f"<occupants>{user('example.org')}</occupants>")

    def test_other_namespaces_are_passed_over(self) -> None:
        content = "<configuration><roomname xmlns='urn:x'>a</roomname></configuration>"
        self.assertEqual(Create({}, {}), self.reads(content))


class Configuration(Requests):
    uri = NS_CONFIGURATION
    read = staticmethod(lambda element: read_configuration(element, SCHEMA))

    def test_the_example(self) -> None:
        self.assertEqual({"roomname": "Den"}, self.reads("<roomname>Den</roomname>"))
        self.assertEqual(
            {"subject": "", "roomname": "b"}, self.reads("<subject/><roomname>a</roomname><roomname>b</roomname>")
        )

    def test_nothing_to_change(self) -> None:
        for content in ("", "text", "<roomname xmlns='urn:x'>Den</roomname>"):
            self.assertEqual("An empty request", self.refused(content))

    def test_the_schema_decides(self) -> None:
        self.assertEqual("version:not_found", self.refused("<version>1</version><roomname>Den</roomname>"))

    def test_bounded(self) -> None:
        self.assertEqual({"subject": ""}, self.reads("<subject/>" * MAX_CHANGES))
        self.assertEqual("More than 1000 entries", self.refused("<subject/>" * (MAX_CHANGES + 1)))


class Affiliations(Requests):
    uri = NS_AFFILIATIONS
    read = staticmethod(read_affiliations)

    def test_in_the_order_of_the_request(self) -> None:
        content = user("cat@example.org", "none") + user("Ben@EXAMPLE.org") + user("ann@example.org", "owner")
        self.assertEqual(
            [(CAT, Affiliation.NONE), (BEN, Affiliation.MEMBER), (ANN, Affiliation.OWNER)],
            list(self.reads(content).items()),
        )

    def test_nobody(self) -> None:
        for content in ("", " ", f"<user xmlns='{NS_BLOCKING}' affiliation='member'>ben@example.org</user>"):
            self.assertEqual("An empty request", self.refused(content))

    def test_addresses(self) -> None:
        for address in NOT_ADDRESSES:
            with self.subTest(address=address[:20]):
                self.refused(user("ann@example.org") + user(address))
        self.assertEqual("Elements inside of user", self.refused(user("ben@example.org<b/>")))

    def test_affiliations(self) -> None:
        for attribute in (
            "",
            "affiliation=''",
            "affiliation='admin'",
            "affiliation='OWNER'",
            "affiliation='1'",
            "action='deny'",
        ):
            text = self.refused(f"<user {attribute}>ben@example.org</user>")
            self.assertEqual("The affiliation must be owner, member or none", text)

    def test_the_same_user_twice(self) -> None:
        for affiliation in ("member", "none"):
            self.assertEqual(TWICE, self.refused(user("ben@example.org") + user("BEN@example.org", affiliation)))

    def test_elements_that_there_are_not(self) -> None:
        for name in ("room", "version", "item"):
            text = self.refused(user("ben@example.org") + f"<{name} affiliation='member'>cat@example.org</{name}>")
            self.assertEqual(f"Unexpected element {name}", text)

    def test_bounded(self) -> None:
        users = "".join(user(f"u{number}@example.org") for number in range(MAX_CHANGES))
        self.assertEqual(MAX_CHANGES, len(self.reads(users)))
        # Before anything else is looked at.
        self.assertEqual("More than 1000 entries", self.refused("<user/>" * (MAX_CHANGES + 1)))


class Versions(Requests):
    uri = NS_INFO
    read = staticmethod(read_version)

    def test_versions(self) -> None:
        for uri in (NS_CONFIGURATION, NS_AFFILIATIONS, NS_INFO):
            self.assertEqual("V0", read_version(payload(uri, "<version>V0</version>")))
        for content in ("", "<version/>", "<version></version>", "<version xmlns='urn:x'>V0</version>"):
            self.assertEqual("", self.reads(content))

    def test_refused(self) -> None:
        self.assertEqual("More than one element version", self.refused("<version/><version>V0</version>"))
        self.assertEqual("Unexpected element roomname", self.refused("<version>V0</version><roomname/>"))
        self.assertEqual("Elements inside of version", self.refused("<version>V<b/></version>"))


class Blocking(Requests):
    uri = NS_BLOCKING
    read = staticmethod(read_blocking)

    def test_the_example(self) -> None:
        content = "<user action='deny'>Ann@example.org</user><room action='allow'>lobby@muclight.example.org</room>"
        self.assertEqual(
            [BlockingItem(Blocked.USER, ANN, True), BlockingItem(Blocked.ROOM, LOBBY, False)], self.reads(content)
        )

    def test_one_after_the_other(self) -> None:
        content = "<user action='deny'>ann@example.org</user><user action='allow'>ann@example.org</user>"
        self.assertEqual([True, False], [item.deny for item in self.reads(content)])

    def test_nothing(self) -> None:
        self.assertEqual("An empty request", self.refused(""))

    def test_addresses(self) -> None:
        for name in ("user", "room"):
            for address in NOT_ADDRESSES:
                with self.subTest(name=name, address=address[:20]):
                    self.refused(f"<{name} action='deny'>{address}</{name}>")

    def test_actions(self) -> None:
        for attribute in ("", "action=''", "action='Deny'", "action='block'", "affiliation='member'"):
            text = self.refused(f"<room {attribute}>lobby@muclight.example.org</room>")
            self.assertEqual("The action must be deny or allow", text)

    def test_elements_that_there_are_not(self) -> None:
        self.assertEqual("Unexpected element item", self.refused("<item action='deny'>ann@example.org</item>"))

    def test_bounded(self) -> None:
        item = "<user action='deny'>ann@example.org</user>"
        self.assertEqual(MAX_CHANGES, len(self.reads(item * MAX_CHANGES)))
        self.assertEqual("More than 1000 entries", self.refused("<x/>" * (MAX_CHANGES + 1)))
