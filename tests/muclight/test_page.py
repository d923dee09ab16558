"""docs/muc-light.md is true: its examples are played, as one story, and its table of owners is worked out."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.module import JID
from dynxmpp.module_loader import stop_modules
from dynxmpp.modules.disco import Disco
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, MucArchive
from dynxmpp.modules.muc_light import MucLight
from dynxmpp.modules.muc_light.affiliations import Rules, change
from dynxmpp.modules.muc_light.config import MucLightConfig
from dynxmpp.modules.muc_light.names import NS_CONFIGURATION, NS_CREATE
from dynxmpp.modules.muc_light.room import Affiliation
from dynxmpp.modules.presence import Presence
from dynxmpp.modules.roster import Roster
from tests.fixtures.dialogue import Accounts, Host, TestSession, canonical
from tests.fixtures.postgres import DatabaseTestCase

PAGE = (Path(__file__).parents[2] / "docs" / "muc-light.md").read_text()
ROOM = "kitchen@muclight.example.org"

#: Elements and attributes with names that servers make up.
NAMED = {("item", "version"), ("stanza-id", "id"), ("result", "id"), ("message", "id")}
#: Who asks, where the page shows no answer that says so.
AUTHORS = {
    "say-1": "nora@example.org",
    "set-1": "pia@example.org",
    "aff-1": "nora@example.org",
    "end-1": "omar@example.org",
    "past-1": "quin@example.org",
}


class Examples:
    """The stanzas of the page: what clients send, by id, and what they get."""

    def __init__(self) -> None:
        self.requests: dict[str, str] = {}
        self.answers: dict[str, list[domish.Element]] = {}
        self.others: list[domish.Element] = []
        last = ""
        for block in re.findall(r"```xml\n(.*?)```", PAGE, re.DOTALL):
            for text in block.strip().split("\n\n"):
                element = parsed(text)
                if element.name not in ("iq", "message"):
                    self.others.append(element)
                elif not element.hasAttribute("from"):
                    last = element["id"]
                    self.requests[last] = text
                    self.answers[last] = []
                else:
                    self.answers[last].append(element)

    def author(self, id_: str) -> str:
        results = (e for e in self.answers[id_] if e.name == "iq")
        return next((JID.parse(e["to"]).bare for e in results), AUTHORS.get(id_, ""))


def parsed(text: str) -> domish.Element:
    roots: list[domish.Element] = []
    stream = domish.elementStream()
    stream.DocumentStartEvent = lambda root: None
    stream.ElementEvent = roots.append
    stream.DocumentEndEvent = lambda: None
    stream.parse(f"<stream xmlns='jabber:client'>{text}</stream>".encode())
    return roots[0]


class Renamed:
    """What the page calls otherwise: versions, ids of archives. One name there is always the same one here."""

    def __init__(self, ids: Iterable[str]) -> None:
        """`ids` are those of requests, which are the same."""
        self.names: dict[str, str] = {id_: id_ for id_ in ids}

    def fits(self, page: Any, real: Any) -> bool:
        """Are these, as `canonical` gives them, the same but for the names?"""
        renames = dict(self.names)
        if not self._fits(page, real, renames, None):
            return False
        self.names = renames
        return True

    def _fits(self, page: Any, real: Any, renames: dict[str, str], around: str | None) -> bool:
        if isinstance(page, str) or isinstance(real, str):
            known = around not in ("version", "prev-version")
            return page == real if known else self._is(page, real, renames)
        (uri, name, attributes, children), (other_uri, other_name, others, other_children) = page, real
        if (uri, name, len(children)) != (other_uri, other_name, len(other_children)):
            return False
        if [key for key, _ in attributes] != [key for key, _ in others]:
            return False
        for (key, value), (_, other) in zip(attributes, others, strict=True):
            named = (name, key) in NAMED
            if (name, key) != ("delay", "stamp") and not (self._is(value, other, renames) if named else value == other):
                return False
        return all(self._fits(*pair, renames, name) for pair in zip(children, other_children, strict=True))

    @staticmethod
    def _is(page: str, real: str, renames: dict[str, str]) -> bool:
        if page not in renames and real in renames.values():
            return False
        return renames.setdefault(page, real) == real

    def applied(self, text: str) -> str:
        for page, real in self.names.items():
            text = text.replace(page, real)
        return text


class Story(DatabaseTestCase):
    migrations = (*Roster.migrations, *Mam.migrations, *MucLight.migrations)
    resources: ClassVar[dict[str, str]] = {"nora": "phone", "omar": "laptop", "pia": "tablet", "quin": "phone"}

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.host = Host(
            [
                Presence,
                Roster,
                Disco,
                (Mam, MamConfig(muc=MucArchive(host="muclight.@HOST@"))),
                (MucLight, MucLightConfig(rooms_in_rosters=True)),
            ],
            database=self.db,
            domains=("example.org",),
            accounts=Accounts(),
            clock=reactor,  # type: ignore[arg-type]
        )
        await self.host.start()
        self.addCleanup(stop_modules, self.host.host_types)
        self.addCleanup(self.host.settle)
        self.sessions: dict[str, TestSession] = {}
        for name, resource in self.resources.items():
            session = self.host.session(f"{name}@example.org/{resource}")
            session.sends("<presence/>")
            self.sessions[session.jid.bare] = session
        await self.host.settle()
        self.examples = Examples()
        self.renamed = Renamed(self.examples.requests)

    def heard(self) -> list[tuple[str, domish.Element]]:
        """All that has come, and to whom."""
        found = []
        for name, session in self.sessions.items():
            found += [(name, element) for element in session.received if element.name != "presence"]
            session.received.clear()
        return found

    async def plays(self, id_: str) -> list[tuple[str, domish.Element]]:
        """One request, and the answers that the page shows; gives all that has come."""
        self.sessions[self.examples.author(id_)].sends(self.renamed.applied(self.examples.requests.pop(id_)))
        await self.host.settle()
        heard = self.heard()
        for shown in self.examples.answers[id_]:
            to = JID.parse(shown["to"]).bare
            fitting = [e for name, e in heard if name == to and self.renamed.fits(canonical(shown), canonical(e))]
            self.assertEqual(1, len(fitting), f"{shown.toXml()}\n{[(n, e.toXml()) for n, e in heard]}")
        return heard

    async def does(self, name: str, payload: str, to: str = ROOM, type_: str = "set") -> domish.Element:
        """What the page does not show."""
        reply = await self.sessions[f"{name}@example.org"].asks(f"<iq type='{type_}' id='own' to='{to}'>{payload}</iq>")
        self.assertEqual("result", reply["type"], reply.toXml())
        await self.host.settle()
        self.heard()
        return reply

    async def test_the_examples(self) -> None:
        await self.plays("find-1")
        heard = await self.plays("new-1")
        self.assertEqual(["message", "iq"], [e.name for name, e in heard if name == "nora@example.org"])
        for room in ("garden", "library", "office", "yard"):
            config = f"<configuration><roomname>{room.capitalize()}</roomname></configuration>"
            create = f"<query xmlns='{NS_CREATE}'>{config}</query>"
            await self.does("nora", create, f"{room}@muclight.example.org")
        await self.plays("find-2")
        await self.plays("say-1")
        await self.does("nora", f"<query xmlns='{NS_CONFIGURATION}'><subject/></query>")
        for id_ in ("read-1", "read-2", "read-3", "set-1"):
            await self.plays(id_)
        heard = await self.plays("aff-1")
        self.assertEqual(5, len(heard), "a notice for each, and the result")
        await self.plays("block-1")
        await self.plays("block-2")
        # The creation, what was said, two changes of configuration, one of members.
        past = await self.plays("past-1")
        self.assertEqual(["message"] * 5 + ["iq"], [e.name for _, e in past])
        roster = await self.does("quin", "<query xmlns='jabber:iq:roster'/>", "quin@example.org", "get")
        [item] = self.examples.others
        [real] = roster.query.elements()
        self.assertTrue(self.renamed.fits(canonical(item), canonical(real)), real.toXml())
        heard = await self.plays("end-1")
        self.assertEqual(4, len(heard), "a notice for each of three, and the result")
        self.assertEqual({}, self.examples.requests, "not played")


def rows_of(heading: str) -> Iterator[list[str]]:
    """The rows of the first table below a heading that has three columns."""
    for line in PAGE.partition(heading)[2].splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0] not in ("Request", "---"):
            yield cells
        elif line.startswith("#"):
            return


def affiliations(text: str) -> dict[JID, Affiliation]:
    """`nora owner, omar none`"""
    found = {}
    for entry in text.split(", "):
        name, affiliation = entry.split()
        found[JID.parse(f"{name}@example.org")] = Affiliation[affiliation.upper()]
    return found


class Owners(TestCase):
    def test_the_table(self) -> None:
        room = affiliations("nora owner, omar member, pia member")
        rows = list(rows_of("### Who is owner afterwards"))
        self.assertEqual(4, len(rows))
        for request, after, notice in rows:
            with self.subTest(request=request):
                outcome = change(room, affiliations(request), Rules())
                self.assertEqual((affiliations(after), affiliations(notice)), (outcome.members, outcome.changes))
