"""mod_domain_isolation: is there a way round? Whatever clients do in whatever order, nothing foreign comes in.

Each stanza that a client sends has a mark in all its parts. What reaches a session of an isolated domain, and what is
stored below that domain, has marks of its own clients only. Contacts of each other and members of rooms across the
walls are there from the start, as if the walls had been built later.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.words.xish import domish

from dynxmpp.module import JID, Stanza
from dynxmpp.module_loader import stop_modules
from tests.fixtures.dialogue import TestSession
from tests.modules.walls import CAPULET, FIXED, MONTAGUE, MUC, Layout, WallTestCase

OPEN = "verona.example"
ISOLATED = (MONTAGUE, CAPULET)
DOMAINS = (MONTAGUE, CAPULET, OPEN)
ACCOUNTS = tuple(f"{name}@{domain}" for domain in DOMAINS for name in ("ann", "ben"))
#: Ann has two clients, Ben one; a third account of each domain is never online.
SESSIONS = tuple(f"{account}/{n}" for account in ACCOUNTS for n in ((1, 2) if account.startswith("ann") else (1,)))
AWAY = tuple(f"cat@{domain}" for domain in DOMAINS)
SERVICES = tuple(f"muclight.{domain}" for domain in DOMAINS)
ROOMS = tuple(f"room@{service}" for service in SERVICES)
ADDRESSES = (
    *ACCOUNTS,
    *ACCOUNTS,
    *SESSIONS,
    *SESSIONS,
    *AWAY,
    *DOMAINS,
    *SERVICES,
    *ROOMS,
    *ROOMS,
    FIXED,
    f"{ROOMS[0]}/x",
)

MARK = re.compile("mark([0-9]+)z")
NS = "xmlns='urn:example:marked'"
DISCO = "http://jabber.org/protocol/disco"

#: `{m}` the mark, `{to}` any address, `{who}` any account, `{room}` any room, `{home}` the one of the sender's domain.
STANZAS = (
    *(
        f"<message type='{t}' id='{{m}}' to='{{to}}'><body>{{m}}</body></message>"
        for t in ("chat", "normal", "headline")
    ),
    *2 * ("<message type='groupchat' id='{m}' to='{room}'><body>{m}</body></message>",),
    "<message type='groupchat' id='{m}' to='{to}'><body>{m}</body></message>",
    "<message type='error' id='{m}' to='{to}'><body>{m}</body><error type='cancel'/></message>",
    "<message id='{m}' to='{to}'><received xmlns='urn:xmpp:receipts' id='{m}'/></message>",
    "<message type='chat' id='{m}' to='{to}'><retract xmlns='urn:xmpp:message-retract:1' id='{m}'/></message>",
    *(
        f"<presence id='{{m}}' to='{{to}}' {t}><status>{{m}}</status></presence>"
        for t in ("", "type='unavailable'", "type='probe'", "type='error'")
    ),
    *(
        f"<presence id='{{m}}' to='{{who}}' type='{t}'><status>{{m}}</status></presence>"
        for t in ("subscribe", "subscribed", "unsubscribe", "unsubscribed")
    ),
    "<presence id='{m}'><status>{m}</status></presence>",
    "<presence id='{m}'><priority>-1</priority><status>{m}</status></presence>",
    "<presence id='{m}' type='unavailable'><status>{m}</status></presence>",
    f"<iq type='get' id='{{m}}' to='{{to}}'><x {NS}>{{m}}</x></iq>",
    f"<iq type='set' id='{{m}}' to='{{to}}'><x {NS}>{{m}}</x></iq>",
    f"<iq type='result' id='{{m}}' to='{{to}}'><x {NS}>{{m}}</x></iq>",
    f"<iq type='error' id='{{m}}' to='{{to}}'><x {NS}>{{m}}</x><error type='cancel'/></iq>",
    *(
        f"<iq type='get' id='{{m}}' to='{{to}}'>{payload}</iq>"
        for payload in (
            "<vCard xmlns='vcard-temp'/>",
            "<query xmlns='jabber:iq:last'/>",
            f"<query xmlns='{DISCO}#info'/>",
            f"<query xmlns='{DISCO}#items'/>",
            "<query xmlns='jabber:iq:roster'/>",
            "<blocklist xmlns='urn:xmpp:blocking'/>",
            f"<query xmlns='{MUC}#info'/>",
            f"<query xmlns='{MUC}#blocking'/>",
            "<metadata xmlns='urn:xmpp:mam:2'/>",
        )
    ),
    "<iq type='set' id='{m}' to='{who}'><query xmlns='urn:xmpp:mam:2' queryid='{m}'/></iq>",
    *2 * ("<iq type='set' id='{m}' to='{room}'><query xmlns='urn:xmpp:mam:2' queryid='{m}'/></iq>",),
    "<iq type='get' id='{m}'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq type='set' id='{m}'><query xmlns='urn:xmpp:mam:2' queryid='{m}'/></iq>",
    "<iq type='set' id='{m}'><vCard xmlns='vcard-temp'><FN>{m}</FN></vCard></iq>",
    f"<iq type='set' id='{{m}}'><query xmlns='jabber:iq:private'><x {NS}>{{m}}</x></query></iq>",
    "<iq type='set' id='{m}'><query xmlns='jabber:iq:roster'><item jid='{who}' name='{m}'/></query></iq>",
    "<iq type='set' id='{m}'><query xmlns='jabber:iq:roster'><item jid='{who}' subscription='remove'/></query></iq>",
    "<iq type='set' id='{m}'><block xmlns='urn:xmpp:blocking'><item jid='{who}'/></block></iq>",
    "<iq type='set' id='{m}'><unblock xmlns='urn:xmpp:blocking'/></iq>",
    "<iq type='set' id='{m}'><disable xmlns='urn:xmpp:carbons:2'/></iq>",
    "<iq type='set' id='{m}'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
    *(
        f"<iq type='set' id='{{m}}' to='{{room}}'><query xmlns='{MUC}#{name}'>{content}</query></iq>"
        for name, content in (
            ("create", "<configuration><roomname>{m}</roomname></configuration>"),
            ("configuration", "<subject>{m}</subject>"),
            ("affiliations", "<user affiliation='member'>{who}</user>"),
            ("affiliations", "<user affiliation='none'>{who}</user>"),
            ("destroy", ""),
        )
    ),
)
#: What a client does besides sending a stanza of these.
ACTS = ("answer", "answer", "leave", "settle")

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(STANZAS), st.sampled_from(ACTS)),
        st.integers(0, len(SESSIONS) - 1),
        st.integers(0, 10_000),
    ),
    min_size=10,
    max_size=60,
)


def sequences(count: int) -> list[list[Step]]:
    """Sequences to run outside of hypothesis, which cannot wait for a database."""
    found: list[list[Step]] = []

    @given(STEPS)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def collect(steps: list[Step]) -> None:
        found.append(steps)

    collect()
    return found


def domain_of(address: str) -> str:
    """The domain that a name belongs to."""
    return JID.parse(address).domain.removeprefix("muclight.")


@dataclass
class Town:
    """The clients of one run, and what they have sent and been sent."""

    test: WallTestCase
    #: The domain of who sent the mark of this number.
    marks: list[str] = field(default_factory=list)
    clients: dict[str, TestSession] = field(default_factory=dict)
    #: All sessions, also those that have ended, with the last stanzas that they were given.
    taken: list[tuple[TestSession, list[Stanza]]] = field(default_factory=list)

    def comes(self, jid: str) -> None:
        session = self.clients[jid] = self.test.online(jid)
        taken: list[Stanza] = []

        def gate(stanza: Stanza, data: bytes) -> bool:
            taken.append(stanza)
            return False

        session.gate = gate
        self.taken.append((session, taken))

    def sends(self, jid: str, xml: str, choice: int = 0) -> None:
        session = self.clients[jid]
        mark = f"mark{len(self.marks)}z"
        self.marks.append(session.jid.domain)
        home = f"room@muclight.{session.jid.domain}"
        chosen = {"to": ADDRESSES, "who": (*ACCOUNTS, *AWAY), "room": ROOMS, "home": (home,)}
        session.sends(xml.format(m=mark, **{name: among[choice % len(among)] for name, among in chosen.items()}))

    async def acts(self, step: Step) -> None:
        what, who, choice = step
        jid = SESSIONS[who]
        if what == "answer":
            self.answers(jid, choice)
        elif what == "leave":
            self.leaves(jid, choice)
        elif what == "settle":
            await self.test.host.settle()
        else:
            self.sends(jid, what, choice)

    def answers(self, jid: str, choice: int) -> None:
        """As a client does with what it was sent: it approves, returns a result, replies, or says that it cannot."""
        received = self.clients[jid].received
        if not received:
            return
        stanza = received[-1 - choice % min(len(received), 5)]
        to, type_ = stanza.getAttribute("from", jid), stanza.getAttribute("type", "")
        if stanza.name == "presence":
            answer = "subscribed" if type_ == "subscribe" else "subscribe"
            self.sends(jid, f"<presence type='{answer}' id='{{m}}' to='{to}'><status>{{m}}</status></presence>")
        elif stanza.name == "message":
            kind = ("chat", "groupchat", "error")[choice % 3]
            self.sends(jid, f"<message type='{kind}' id='{{m}}' to='{to}'><body>{{m}}</body></message>")
        elif type_ in ("get", "set"):
            self.sends(jid, f"<iq type='result' id='{stanza['id']}' to='{to}'><x {NS}>{{m}}</x></iq>")

    def leaves(self, jid: str, unread: int) -> None:
        """The session ends without having acknowledged its last stanzas, and the client comes back."""
        session = self.clients[jid]
        taken = next(taken for other, taken in self.taken if other is session)
        host = self.test.host
        session.leaves()
        for stanza in taken[-1 - unread % 5 :]:
            host.router.redeliver(stanza, session.jid, host.type_of(session.jid.domain), host.clock.seconds())
        self.comes(jid)

    def foreign_marks(self, text: str, domain: str) -> list[int]:
        return [int(n) for n in MARK.findall(text) if self.marks[int(n)] != domain]

    def wrongs(self) -> list[str]:
        """What sessions of isolated domains should not have been sent."""
        return [
            f"{session.jid.full} got {element.toXml()}"
            for session, _ in self.taken
            if session.jid.domain in ISOLATED
            for element in session.received
            if self.is_wrong(element, session.jid.domain)
        ]

    def is_wrong(self, element: domish.Element, domain: str) -> bool:
        """Is anything in it of another domain? Or does it come from there, and is no error about what was sent?"""
        text = element.toXml()
        if self.foreign_marks(text, domain):
            return True
        is_own = domain_of(element.getAttribute("from", domain)) == domain
        return not is_own and not (element.getAttribute("type") == "error" and MARK.search(text))


class BehindOneWall(WallTestCase):
    """The two isolated domains have one host type."""

    layout: ClassVar[Layout] = {"isolated": (True, ISOLATED), "open": (False, (OPEN,))}
    maxDiff = None

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        rows = await self.db.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        self.tables = ", ".join(name for (name,) in rows if name != "schema_migrations")

    async def test_nothing_foreign_comes_in(self) -> None:
        for steps in sequences(50):
            wrongs = await self.run_steps(steps)
            if wrongs:
                self.fail("\n".join(["", *wrongs[:5], "because of", *map(str, await self.shortened(steps))]))

    async def run_steps(self, steps: Sequence[Step]) -> list[str]:
        """What is wrong at the end of a sequence that begins with everybody online."""
        await self.db.execute(f"TRUNCATE {self.tables}")
        for one, other in ((0, 2), (0, 4), (2, 4), (1, 2), (3, 5), (0, 1), (2, 3)):
            await self.befriend(ACCOUNTS[one], ACCOUNTS[other])
        self.host = await self.new_host((*ACCOUNTS, *AWAY))
        town = Town(self)
        try:
            for jid in SESSIONS:
                town.comes(jid)
            await self.host.settle()
            members = "".join(f"<user affiliation='member'>{account}</user>" for account in ACCOUNTS)
            for account, room in zip(ACCOUNTS[1::2], ROOMS, strict=True):
                others = members.replace(f"<user affiliation='member'>{account}</user>", "")
                content = f"<configuration><roomname>{{m}}</roomname></configuration><occupants>{others}</occupants>"
                xml = f"<iq type='set' id='{{m}}' to='{room}'><query xmlns='{MUC}#create'>{content}</query></iq>"
                town.sends(f"{account}/1", xml)
            await self.host.settle()
            for step in steps:
                await town.acts(step)
            await self.written()
            stored = [
                f"below {domain} in {table}: {row}"
                for domain in ISOLATED
                for table, row in await self.rows(domain)
                if town.foreign_marks(" ".join(row.values()), domain)
            ]
            return [*town.wrongs(), *stored]
        finally:
            await self.host.settle()
            await stop_modules(self.host.host_types)

    async def shortened(self, steps: list[Step]) -> list[Step]:
        """As few of the steps as still go wrong, going through them once."""
        for step in reversed(steps):
            fewer = [other for other in steps if other is not step]
            if await self.run_steps(fewer):
                steps = fewer
        return steps


class BehindTwoWalls(BehindOneWall):
    """Each isolated domain has a host type of its own."""

    layout: ClassVar[Layout] = {
        "left": (True, (MONTAGUE,)),
        "right": (True, (CAPULET,)),
        "open": (False, (OPEN,)),
    }
