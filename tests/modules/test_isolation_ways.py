"""mod_domain_isolation on every way that a stanza can take: the walls from both sides, from inside, from outside."""

from typing import ClassVar

from twisted.words.xish import domish

from dynxmpp.module import JID, Stanza
from dynxmpp.modules.isolation import TEXT
from dynxmpp.modules.presence import Presence
from tests.fixtures.dialogue import TestSession
from tests.modules.walls import (
    BENVOLIO,
    CAPULET,
    FIXED,
    HALL,
    JULIET,
    LOBBY,
    MERCUTIO,
    MONTAGUE,
    MUC,
    ROMEO,
    ROSALINE,
    TYBALT,
    Layout,
    Verona,
    wall_text,
)

#: Where something could be in another domain, or nothing.
ADDRESSES = (
    JULIET,
    f"{JULIET}/balcony",
    f"{JULIET}/gone",
    TYBALT,
    f"{TYBALT}/gone",
    f"nobody@{CAPULET}",
    f"nobody@{CAPULET}/x",
    CAPULET,
    f"{CAPULET}/x",
    f"muclight.{CAPULET}",
    HALL,
    f"{HALL}/{JULIET}",
    f"nothing@muclight.{CAPULET}",
    FIXED,
    f"someone@{FIXED}",
)
MESSAGE_TYPES = ("normal", "chat", "groupchat", "headline", "unheard-of")
#: (type, payload)
REQUESTS = (
    ("get", "<ping xmlns='urn:xmpp:ping'/>"),
    ("get", "<query xmlns='jabber:iq:last'/>"),
    ("get", "<query xmlns='jabber:iq:version'/>"),
    ("get", "<time xmlns='urn:xmpp:time'/>"),
    ("get", "<vCard xmlns='vcard-temp'/>"),
    ("set", "<vCard xmlns='vcard-temp'><FN>secret</FN></vCard>"),
    ("get", "<query xmlns='jabber:iq:roster'/>"),
    ("set", f"<query xmlns='jabber:iq:roster'><item jid='{ROMEO}' name='secret'/></query>"),
    ("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
    ("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
    ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
    ("set", "<query xmlns='urn:xmpp:mam:2'/>"),
    ("get", "<metadata xmlns='urn:xmpp:mam:2'/>"),
    ("set", "<enable xmlns='urn:xmpp:carbons:2'/>"),
    ("set", f"<query xmlns='{MUC}#create'/>"),
    ("get", f"<query xmlns='{MUC}#info'/>"),
    ("set", f"<query xmlns='{MUC}#affiliations'><user affiliation='member'>{ROMEO}</user></query>"),
    ("set", f"<query xmlns='{MUC}#destroy'/>"),
    ("get", "<what xmlns='urn:example:unheard-of'/>"),
)
#: What carries something and is never answered.
ANSWERS = (
    "<message type='error' id='1' to='{0}'><body>secret</body><error type='cancel'/></message>",
    "<presence type='error' id='1' to='{0}'><status>secret</status><error type='cancel'/></presence>",
    "<iq type='error' id='1' to='{0}'><x xmlns='urn:example:x'>secret</x><error type='cancel'/></iq>",
    "<iq type='result' id='1' to='{0}'><x xmlns='urn:example:x'>secret</x></iq>",
)


def bare(address: str) -> str:
    return JID.parse(address).bare


class IsolatedTogether(Verona):
    """Two isolated domains of one host type. Those below have the same tests with other walls."""

    layout: ClassVar[Layout] = {"isolated": (True, (MONTAGUE, CAPULET))}

    async def test_messages(self) -> None:
        for to in ADDRESSES:
            for type_ in MESSAGE_TYPES:
                body = "<body>secret</body><no-copy xmlns='urn:xmpp:hints'/>"
                xml = f"<message type='{type_}' id='1' to='{to}'>{body}</message>"
                error = await self.assert_refused(self.romeo, xml, to)
                self.assertEqual(("error", "1", "secret"), (error["type"], error["id"], str(error.body)))
        self.assertEqual([], await self.stored(CAPULET, "secret"))
        self.assertEqual([], self.plaza.got)

    async def test_presence(self) -> None:
        for to in ADDRESSES:
            for type_ in ("", "type='unavailable'", "type='probe'"):
                xml = f"<presence id='1' to='{to}' {type_}><status>secret</status></presence>"
                error = await self.assert_refused(self.romeo, xml, to)
                self.assertEqual(("error", "secret"), (error["type"], str(error.status)))
        self.assertEqual([], self.plaza.got)

    async def test_requests(self) -> None:
        for to in ADDRESSES:
            for type_, payload in REQUESTS:
                await self.assert_refused(self.romeo, f"<iq type='{type_}' id='1' to='{to}'>{payload}</iq>", to)
        self.assertEqual([], await self.stored(CAPULET, "secret"))
        self.assertEqual([], self.plaza.got)

    async def test_answers_end_in_silence(self) -> None:
        for to in ADDRESSES:
            for xml in ANSWERS:
                self.assertEqual({}, await self.hears(self.romeo, xml.format(to)), to)
        self.assertEqual([], self.plaza.got)

    # -- subscriptions

    async def test_requests_for_presence(self) -> None:
        for to in ADDRESSES:
            xml = f"<presence type='subscribe' id='1' to='{to}'><status>secret</status></presence>"
            await self.assert_refused(self.romeo, xml, to)
        await self.nothing_in_rosters()

    async def test_approval_of_what_was_not_asked(self) -> None:
        for to in ADDRESSES:
            await self.assert_refused(self.romeo, f"<presence type='subscribed' to='{to}'/>", to)
        await self.nothing_in_rosters()

    async def test_ends_of_subscriptions_that_there_are_not(self) -> None:
        for to in ADDRESSES:
            await self.assert_refused(self.romeo, f"<presence type='unsubscribe' to='{to}'/>", bare(to))
            self.assertEqual({}, await self.hears(self.romeo, f"<presence type='unsubscribed' to='{to}'/>"))
        await self.nothing_in_rosters()

    async def test_a_contact_without_a_subscription(self) -> None:
        """A name in a roster is the business of who has it there; its end is told to nobody."""
        item = f"<query xmlns='jabber:iq:roster'><item jid='{JULIET}' name='J'{{0}}/></query>"
        for extra in ("", " subscription='remove'"):
            heard = await self.hears(self.romeo, f"<iq type='set' id='1'>{item.format(extra)}</iq>")
            self.assertEqual({self.romeo.jid.full, self.phone.jid.full}, set(heard))
        self.assertEqual({}, await self.contacts(ROMEO))

    async def test_directed_presence_is_not_remembered(self) -> None:
        """Nobody over there has seen it, and nobody is told when the session ends."""
        await self.assert_refused(self.romeo, f"<presence to='{JULIET}'/>", JULIET)
        self.assertNotIn(Presence, self.romeo.slots)
        self.romeo.leaves()
        self.assertEqual([self.phone.jid.full], list(await self.heard()))

    # -- what the sender keeps, and the recipient does not get

    async def test_copies(self) -> None:
        """The sender's other resource sees what was sent, and that it came back."""
        heard = await self.hears(self.romeo, f"<message type='chat' id='1' to='{JULIET}'><body>secret</body></message>")
        self.assertEqual({self.romeo.jid.full, self.phone.jid.full}, set(heard))
        sent, received = heard[self.phone.jid.full]
        self.assertEqual(("chat", JULIET), (sent.sent.forwarded.message["type"], sent.sent.forwarded.message["to"]))
        self.assertEqual(TEXT, wall_text(received.received.forwarded.message))

    async def test_archives(self) -> None:
        for to in (JULIET, f"{JULIET}/balcony", TYBALT):
            self.romeo.sends(f"<message type='chat' id='1' to='{to}'><body>secret</body></message>")
        await self.written()
        self.assertEqual(
            3, len([1 for _, row in await self.rows(MONTAGUE, "mam_message") if "secret" in row["stanza"]])
        )
        self.assertEqual(["mam_message"], await self.stored(MONTAGUE, "secret"))
        self.assertEqual([], await self.rows(CAPULET, "mam_archive", "mam_message"))

    async def test_nothing_is_kept_for_later(self) -> None:
        for type_ in ("chat", "normal"):
            self.romeo.sends(f"<message type='{type_}' to='{TYBALT}'><body>secret</body></message>")
        await self.written()
        self.assertEqual([], await self.rows(CAPULET, "offline_message"))
        self.forget()
        tybalt = self.online(f"{TYBALT}/alley")
        heard = await self.heard()
        self.assertEqual([tybalt.jid.full], list(heard))
        self.assertEqual({"iq", "presence"}, {element.name for element in heard[tybalt.jid.full]})

    async def test_what_came_back_is_not_delivered_again(self) -> None:
        """The session ends before its client has the error."""
        taken = self.keeps(self.romeo)
        self.romeo.sends(f"<message type='chat' to='{JULIET}'><body>secret</body></message>")
        self.mercutio.sends(f"<message type='chat' to='{ROMEO}/orchard'><body>of ours</body></message>")
        await self.host.settle()
        self.assertEqual(["error", "chat"], [stanza.attributes["type"] for stanza in taken])
        self.romeo.leaves()
        await self.heard()
        for stanza in taken:
            self.host.router.redeliver(stanza, self.romeo.jid, self.host.type_of(MONTAGUE), 1.0)
        heard = await self.heard()
        bodies = {to: [str(element.body) for element in elements] for to, elements in heard.items()}
        self.assertEqual({self.phone.jid.full: ["of ours"]}, bodies)

    # -- who knew each other before

    async def old_friends(self) -> tuple[TestSession, TestSession]:
        """Benvolio and Rosaline come online."""
        benvolio, rosaline = self.online(f"{BENVOLIO}/b"), self.online(f"{ROSALINE}/r")
        heard = await self.heard()
        self.assert_of(heard[benvolio.jid.full], MONTAGUE)
        self.assert_of(heard[rosaline.jid.full], CAPULET)
        return benvolio, rosaline

    def assert_of(self, elements: list[domish.Element], domain: str) -> None:
        """Nothing but what came from accounts of a domain, or its server."""
        senders = {JID.parse(e["from"]).domain for e in elements if e.hasAttribute("from")}
        self.assertLessEqual(senders, {domain})

    async def test_friends_of_old(self) -> None:
        """Presence does not pass any more; nothing comes of it to anybody but who sends it."""
        benvolio, _ = await self.old_friends()
        for xml in ("<presence><show>away</show></presence>", "<presence type='unavailable'/>", "<presence/>"):
            heard = await self.hears(benvolio, xml)
            self.assertEqual([benvolio.jid.full], list(heard))
            self.assert_of(heard[benvolio.jid.full], MONTAGUE)
        benvolio.leaves()
        self.assertEqual({}, await self.heard())

    async def test_old_friends_can_be_given_up(self) -> None:
        benvolio, _ = await self.old_friends()
        for type_ in ("unsubscribe", "unsubscribed"):
            heard = await self.hears(benvolio, f"<presence type='{type_}' to='{ROSALINE}'/>")
            self.assertEqual([benvolio.jid.full], list(heard))
            self.assertEqual([TEXT], [wall_text(e) for e in heard[benvolio.jid.full] if e["type"] == "error"])
        self.assertEqual({ROSALINE: ("none", "false")}, await self.contacts(BENVOLIO))
        removal = f"<query xmlns='jabber:iq:roster'><item jid='{ROSALINE}' subscription='remove'/></query>"
        self.assertEqual([benvolio.jid.full], list(await self.hears(benvolio, f"<iq type='set' id='1'>{removal}</iq>")))
        self.assertEqual({}, await self.contacts(BENVOLIO))
        self.assertEqual({BENVOLIO: ("both", "false")}, await self.contacts(ROSALINE))

    # -- blocking

    async def test_who_is_blocked(self) -> None:
        await self.juliet.asks(
            f"<iq type='set' id='1'><block xmlns='urn:xmpp:blocking'><item jid='{ROMEO}'/></block></iq>"
        )
        for kind in ("message", "presence type='subscribe'", "iq type='get' id='1'"):
            payload = "<ping xmlns='urn:xmpp:ping'/>" if kind.startswith("iq") else ""
            xml = f"<{kind} to='{JULIET}'>{payload}</{kind.split()[0]}>"
            self.assertLessEqual(set(await self.hears(self.romeo, xml)), {self.romeo.jid.full, self.phone.jid.full})
        self.assertEqual({}, await self.contacts(JULIET))

    async def test_blocking_and_unblocking_old_friends(self) -> None:
        benvolio, _ = await self.old_friends()
        for name in ("block", "unblock"):
            request = f"<{name} xmlns='urn:xmpp:blocking'><item jid='{ROSALINE}'/></{name}>"
            heard = await self.hears(benvolio, f"<iq type='set' id='1'>{request}</iq>")
            self.assertEqual([benvolio.jid.full], list(heard))
            self.assert_of(heard[benvolio.jid.full], MONTAGUE)

    # -- rooms

    async def test_a_member_of_an_isolated_domain(self) -> None:
        """Nobody notices: the others get what they would get without that member, who gets nothing."""
        without = await self.life_of_a_room()
        with_juliet = await self.life_of_a_room(JULIET)
        self.assertEqual(without, with_juliet)
        everybody = {self.romeo.jid.full, self.phone.jid.full, self.mercutio.jid.full}
        self.assertEqual(everybody, set().union(*with_juliet))

    async def life_of_a_room(self, *others: str) -> list[dict[str, list[str]]]:
        """Names and types of what everybody gets, by what is done."""
        users = "".join(f"<user affiliation='member'>{user}</user>" for user in (MERCUTIO, *others))
        leaves, comes = (f"<user affiliation='{kind}'>{MERCUTIO}</user>" for kind in ("none", "member"))
        steps = (
            f"iq set {MUC}#create <occupants>{users}</occupants>",
            f"iq set {MUC}#configuration <roomname>secret</roomname>",
            f"iq set {MUC}#affiliations {leaves}",
            f"iq set {MUC}#affiliations {comes}",
            f"iq get {MUC}#info",
            "message",
            f"iq set {MUC}#destroy",
        )
        told = []
        for step in steps:
            name, _, request = step.partition(" ")
            if name == "message":
                xml = f"<message type='groupchat' id='1' to='{LOBBY}'><body>secret</body></message>"
            else:
                type_, namespace, content = (*request.split(" ", 2), "")[:3]
                xml = f"<iq type='{type_}' id='1' to='{LOBBY}'><query xmlns='{namespace}'>{content}</query></iq>"
            heard = await self.hears(self.romeo, xml)
            told.append({to: [f"{e.name} {e['type']}" for e in elements] for to, elements in heard.items()})
        return told

    async def test_the_archive_of_a_room(self) -> None:
        await self.create(self.romeo, LOBBY)
        await self.was_member(LOBBY, JULIET)
        self.romeo.sends(f"<message type='groupchat' id='1' to='{LOBBY}'><body>secret</body></message>")
        await self.written()
        query = "<query xmlns='urn:xmpp:mam:2'/>"
        heard = await self.hears(self.romeo, f"<iq type='set' id='1' to='{LOBBY}'>{query}</iq>")
        self.assertIn("secret", "".join(element.toXml() for element in heard[self.romeo.jid.full]))
        await self.assert_refused(self.juliet, f"<iq type='set' id='1' to='{LOBBY}'>{query}</iq>", LOBBY)
        self.assertEqual([], await self.stored(CAPULET, "secret"))

    async def test_a_member_who_writes_to_a_room_behind_the_wall(self) -> None:
        await self.create(self.juliet, HALL)
        await self.was_member(HALL, ROMEO)
        for request in (
            f"<message type='groupchat' id='1' to='{HALL}'><body>secret</body></message>",
            f"<iq type='get' id='1' to='{HALL}'><query xmlns='{MUC}#info'/></iq>",
            f"<iq type='set' id='1' to='{HALL}'><query xmlns='{MUC}#configuration'><subject>s</subject></query></iq>",
        ):
            await self.assert_refused(self.romeo, request, HALL)
        await self.written()
        self.assertEqual([], await self.stored(CAPULET, "secret"))

    # -- the fixed name

    async def test_a_service_of_no_domain_reaches_nobody_behind_a_wall(self) -> None:
        message = Stanza(
            "message", {"from": f"x@{FIXED}", "to": JULIET}, b"<body>secret</body>", ("jabber:client body",)
        )
        self.plaza.send(message)
        self.assertEqual(({}, []), (await self.heard(), self.plaza.got))
        await self.assert_refused(self.juliet, f"<message to='{FIXED}'/>", FIXED)


class IsolatedApart(IsolatedTogether):
    """Two isolated domains of two host types."""

    layout: ClassVar[Layout] = {"left": (True, (MONTAGUE,)), "right": (True, (CAPULET,))}
