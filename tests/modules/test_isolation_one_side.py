"""mod_domain_isolation where only one of two domains has a wall: the side that receives decides."""

from typing import ClassVar

from dynxmpp.module import JID
from dynxmpp.modules.isolation import TEXT
from tests.modules.test_isolation_ways import ADDRESSES, ANSWERS, MESSAGE_TYPES, REQUESTS
from tests.modules.walls import (
    BENVOLIO,
    CAPULET,
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

SECRET = "<body>secret</body>"
NO_COPY = "<no-copy xmlns='urn:xmpp:hints'/>"


class IntoIsolation(Verona):
    """Juliet's domain is isolated, Romeo's is not."""

    layout: ClassVar[Layout] = {"open": (False, (MONTAGUE,)), "isolated": (True, (CAPULET,))}

    async def test_everything_comes_back(self) -> None:
        for to in ADDRESSES:
            for type_ in MESSAGE_TYPES:
                xml = f"<message type='{type_}' id='1' to='{to}'>{SECRET}{NO_COPY}</message>"
                await self.assert_refused(self.romeo, xml, to)
            for type_ in ("", "type='unavailable'", "type='probe'"):
                await self.assert_refused(
                    self.romeo, f"<presence {type_} to='{to}'><status>secret</status></presence>", to
                )
            for type_, payload in REQUESTS:
                await self.assert_refused(self.romeo, f"<iq type='{type_}' id='1' to='{to}'>{payload}</iq>", to)
            for xml in ANSWERS:
                self.assertEqual({}, await self.hears(self.romeo, xml.format(to)), to)
        await self.written()
        self.assertEqual(([], []), (await self.stored(CAPULET, "secret"), self.plaza.got))

    async def test_a_request_for_presence(self) -> None:
        """It waits at the sender's for an answer that cannot come, as for one of any server, until it is taken back."""
        heard = await self.hears(self.romeo, f"<presence type='subscribe' to='{JULIET}'/>")
        self.assertEqual({self.romeo.jid.full, self.phone.jid.full}, set(heard))
        self.assertEqual([TEXT], [wall_text(e) for e in heard[self.romeo.jid.full] if e.name == "presence"])
        self.assertEqual({JULIET: ("none", "true")}, await self.contacts(ROMEO))
        removal = f"<query xmlns='jabber:iq:roster'><item jid='{JULIET}' subscription='remove'/></query>"
        await self.hears(self.romeo, f"<iq type='set' id='1'>{removal}</iq>")
        self.assertEqual({}, await self.contacts(ROMEO))
        await self.nothing_in_rosters(JULIET)

    async def test_a_room_with_an_isolated_member(self) -> None:
        await self.create(self.romeo, LOBBY, MERCUTIO)
        await self.was_member(LOBBY, JULIET)
        for xml in (
            f"<message type='groupchat' to='{LOBBY}'>{SECRET}</message>",
            f"<iq type='set' id='1' to='{LOBBY}'>"
            f"<query xmlns='{MUC}#configuration'><subject>secret</subject></query></iq>",
            f"<iq type='set' id='1' to='{LOBBY}'><query xmlns='{MUC}#destroy'/></iq>",
        ):
            heard = await self.hears(self.romeo, xml)
            self.assertEqual({s.jid.full for s in (self.romeo, self.phone, self.mercutio)}, set(heard))
            self.assertNotIn("error", [element["type"] for elements in heard.values() for element in elements])
        self.assertEqual([], await self.stored(CAPULET, "secret"))

    async def test_an_isolated_member_speaks_and_hears_nothing(self) -> None:
        await self.create(self.romeo, LOBBY)
        await self.was_member(LOBBY, JULIET)
        heard = await self.hears(self.juliet, f"<message type='groupchat' to='{LOBBY}'>{SECRET}</message>")
        self.assertEqual({self.romeo.jid.full, self.phone.jid.full}, set(heard))

    async def test_nothing_is_kept_for_later(self) -> None:
        await self.assert_refused(self.romeo, f"<message type='chat' to='{TYBALT}'>{SECRET}{NO_COPY}</message>", TYBALT)
        await self.written()
        self.assertEqual([], await self.rows(CAPULET, "offline_message", "mam_archive", "mam_message"))

    async def test_friends_of_old(self) -> None:
        """Presence comes back as an error to who sends it."""
        benvolio, rosaline = self.online(f"{BENVOLIO}/b"), self.online(f"{ROSALINE}/r")
        await self.heard()
        heard = await self.hears(benvolio, "<presence><show>away</show></presence>")
        self.assertEqual([benvolio.jid.full], list(heard))
        heard = await self.hears(rosaline, "<presence><show>away</show></presence>")
        self.assertEqual({benvolio.jid.full, rosaline.jid.full}, set(heard))


class OutOfIsolation(Verona):
    """Romeo's domain is isolated, Juliet's is not: he can write to her, and is not answered."""

    layout: ClassVar[Layout] = {"isolated": (True, (MONTAGUE,)), "open": (False, (CAPULET,))}

    async def test_messages(self) -> None:
        heard = await self.hears(self.romeo, f"<message type='chat' to='{JULIET}'>{SECRET}{NO_COPY}</message>")
        self.assertEqual({self.juliet.jid.full, self.tablet.jid.full}, set(heard))
        await self.assert_refused(self.juliet, f"<message type='chat' to='{ROMEO}'>{SECRET}{NO_COPY}</message>", ROMEO)

    async def test_archives(self) -> None:
        for session, to, text in ((self.romeo, JULIET, "question"), (self.juliet, ROMEO, "answer")):
            session.sends(f"<message type='chat' to='{to}'><body>{text}</body></message>")
        await self.written()
        for domain, texts in ((MONTAGUE, ["question"]), (CAPULET, ["question", "answer"])):
            self.assertEqual(texts, [t for t in ("question", "answer") if await self.stored(domain, t)])

    async def test_what_is_kept_for_later(self) -> None:
        self.romeo.sends(f"<message type='chat' to='{TYBALT}'>{SECRET}</message>")
        await self.written()
        self.assertEqual(["mam_message", "offline_message"], await self.stored(CAPULET, "secret"))

    async def test_answers_of_the_server(self) -> None:
        """What a domain or an account over there would say does not arrive."""
        for to in (CAPULET, JULIET, f"muclight.{CAPULET}"):
            for payload in ("<query xmlns='http://jabber.org/protocol/disco#info'/>", "<ping xmlns='urn:xmpp:ping'/>"):
                heard = await self.hears(self.romeo, f"<iq type='get' id='1' to='{to}'>{payload}</iq>")
                answers = [(to, e["type"]) for to, elements in heard.items() for e in elements]
                self.assertIn(answers, ([], [(self.romeo.jid.full, "error")]))

    async def test_answers_of_clients(self) -> None:
        request = "<iq type='{}' id='1' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>"
        heard = await self.hears(self.romeo, request.format("get", self.juliet.jid.full))
        self.assertEqual([self.juliet.jid.full], list(heard))
        for xml in ANSWERS:
            self.assertEqual({}, await self.hears(self.juliet, xml.format(self.romeo.jid.full)))

    async def test_a_request_that_its_recipient_never_got(self) -> None:
        """The error, made when the session had ended, is an answer from over there."""
        taken = self.keeps(self.juliet)
        self.romeo.sends(f"<iq type='get' id='1' to='{self.juliet.jid.full}'><ping xmlns='urn:xmpp:ping'/></iq>")
        self.juliet.leaves()
        await self.heard()
        self.host.router.redeliver(taken[0], self.juliet.jid, self.host.type_of(CAPULET), 1.0)
        self.assertEqual({}, await self.heard())

    async def test_a_request_for_presence_and_its_approval(self) -> None:
        heard = await self.hears(self.romeo, f"<presence type='subscribe' to='{JULIET}'/>")
        self.assertEqual({s.jid.full for s in (self.romeo, self.phone, self.juliet, self.tablet)}, set(heard))
        heard = await self.hears(self.juliet, f"<presence type='subscribed' to='{ROMEO}'/>")
        self.assertEqual({self.juliet.jid.full, self.tablet.jid.full}, set(heard))
        self.assertIn(TEXT, [wall_text(e) for e in heard[self.juliet.jid.full] if e.getAttribute("type") == "error"])
        self.assertEqual({JULIET: ("none", "true")}, await self.contacts(ROMEO))

    async def test_a_room_over_there(self) -> None:
        """He speaks and hears nothing: neither what is said, nor of changes."""
        await self.create(self.juliet, HALL)
        await self.was_member(HALL, ROMEO)
        heard = await self.hears(self.romeo, f"<message type='groupchat' to='{HALL}'>{SECRET}</message>")
        self.assertEqual({self.juliet.jid.full, self.tablet.jid.full}, set(heard))
        for xml in (
            f"<message type='groupchat' to='{HALL}'>{SECRET}</message>",
            f"<iq type='set' id='1' to='{HALL}'><query xmlns='{MUC}#configuration'><subject>s</subject></query></iq>",
        ):
            heard = await self.hears(self.juliet, xml)
            self.assertEqual({self.juliet.jid.full, self.tablet.jid.full}, set(heard))
            self.assertNotIn("error", [element["type"] for elements in heard.values() for element in elements])
        request = f"<iq type='get' id='1' to='{HALL}'><query xmlns='{MUC}#info'/></iq>"
        self.assertEqual({}, await self.hears(self.romeo, request))

    async def test_a_room_with_a_member_over_there(self) -> None:
        await self.create(self.romeo, LOBBY, JULIET)
        heard = await self.hears(self.romeo, f"<message type='groupchat' to='{LOBBY}'>{SECRET}</message>")
        everybody = {s.jid.full for s in (self.romeo, self.phone, self.juliet, self.tablet)}
        self.assertEqual(everybody, set(heard))
        await self.assert_refused(self.juliet, f"<message type='groupchat' to='{LOBBY}'>{SECRET}</message>", LOBBY)

    async def test_friends_of_old(self) -> None:
        benvolio, rosaline = self.online(f"{BENVOLIO}/b"), self.online(f"{ROSALINE}/r")
        heard = await self.heard()
        senders = {JID.parse(e["from"]).domain for e in heard[benvolio.jid.full] if e.hasAttribute("from")}
        self.assertEqual({MONTAGUE}, senders)
        heard = await self.hears(benvolio, "<presence><show>away</show></presence>")
        self.assertEqual({benvolio.jid.full, rosaline.jid.full}, set(heard))
        heard = await self.hears(rosaline, "<presence><show>away</show></presence>")
        self.assertEqual([rosaline.jid.full], list(heard))
