"""XEP-0077 In-Band Registration."""

from random import SystemRandom
from types import SimpleNamespace
from typing import Any, ClassVar, cast
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.words.xish import domish

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.rdbms import RdbmsAuth
from dynxmpp.config.acl import Access, AccessClause, AclPattern
from dynxmpp.config.model import Mistake
from dynxmpp.core.interfaces import AccountRemover, Registration
from dynxmpp.domains.remover import DomainRemover, Place
from dynxmpp.module import StanzaError
from dynxmpp.modules.private import Private
from dynxmpp.modules.register import IPRule, Register, RegisterConfig, WelcomeMessage, entropy, network, source_of
from tests.fixtures.dialogue import Host, TestSession, parse
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.support import HOSTILE, condition

HERE = "192.0.2.1"


def query(inner: str) -> domish.Element:
    return next(parse(f"<iq type='set' id='reg2'><query xmlns='jabber:iq:register'>{inner}</query></iq>").elements())


def fields(username: str, password: str) -> domish.Element:
    return query(f"<username>{escape(username)}</username><password>{escape(password)}</password>")


class RegisterTestCase(DatabaseTestCase):
    config: ClassVar[RegisterConfig] = RegisterConfig()
    access: ClassVar[Access] = Access()
    timeout: ClassVar[float] = float("inf")
    domains = ("shakespeare.lit", "other.example")

    async def setUp(self) -> None:  # type: ignore[override]
        type(self).migrations = [*RdbmsAuth.migrations, *Private.migrations]
        await super().setUp()
        method = RdbmsAuth(
            self.db, secret=b"x", random=SystemRandom(), hashes=["sha1"], iterations=1, max_users_per_domain=20
        )
        self.accounts = Accounts([method], secret=b"x")
        modules: list[Any] = [(Register, self.config), Private]
        self.host = Host(modules, database=self.db, domains=self.domains, accounts=cast(Any, self.accounts))
        (self.host_type,) = self.host.host_types
        general = SimpleNamespace(registration_timeout=self.timeout)
        self.host_type.config = cast(Any, SimpleNamespace(general=general, access=self.access))
        remover = DomainRemover(
            cast(Any, None),
            settings_database=self.db,
            places=[Place(self.db, stored) for stored in Private.stored],
            forgetful=cast(Any, list(self.host_type)),
        )
        self.host_type.provide(AccountRemover, remover)
        await self.host.start()
        self.registration = self.host_type.require(Registration)
        self.addCleanup(self.host.settle)

    async def register(
        self, username: str, password: str, address: str = HERE, domain: str = "shakespeare.lit"
    ) -> None:
        await self.registration.register(domain, fields(username, password), address)

    async def refused(self, request: domish.Element, address: str = HERE) -> str:
        attempt: Deferred[Any] = Deferred.fromCoroutine(self.registration.register("shakespeare.lit", request, address))
        self.assertFailure(attempt, StanzaError)
        error: Any = await attempt
        return str(error.condition)

    def session(self, jid: str) -> TestSession:
        return self.host.session(jid, account=False)

    async def bill(self) -> TestSession:
        """A registered account with a session."""
        await self.register("bill", "Calliope")
        return self.session("bill@shakespeare.lit/globe")


class Unauthenticated(RegisterTestCase):
    async def test_stream_feature(self) -> None:
        element = parse(self.registration.stream_feature.decode())
        self.assertEqual(("register", "http://jabber.org/features/iq-register"), (element.name, element.uri))

    async def test_what_is_needed(self) -> None:
        form = self.registration.form()
        self.assertEqual(["instructions", "username", "password", "x"], [e.name for e in form.elements()])
        names = {field["var"]: field["type"] for field in form.x.elements() if field.name == "field"}
        self.assertEqual({"FORM_TYPE": "hidden", "username": "text-single", "password": "text-private"}, names)

    async def test_an_account_is_made(self) -> None:
        await self.register("Bill", "Calliope")
        self.assertTrue(await self.accounts.check_password("shakespeare.lit", "bill", "Calliope"))
        self.assertFalse(await self.accounts.exists("other.example", "bill"))

    async def test_by_a_form(self) -> None:
        form = """
        <username>ignored</username>
        <x xmlns='jabber:x:data' type='submit'>
          <field type='hidden' var='FORM_TYPE'><value>jabber:iq:register</value></field>
          <field type='text-single' var='username'><value>juliet</value></field>
          <field type='text-private' var='password'><value>R0m30</value></field>
        </x>
        """
        await self.registration.register("shakespeare.lit", query(form), HERE)
        self.assertTrue(await self.accounts.check_password("shakespeare.lit", "juliet", "R0m30"))
        self.assertFalse(await self.accounts.exists("shakespeare.lit", "ignored"))

    async def test_a_name_that_is_taken(self) -> None:
        await self.register("bill", "Calliope")
        self.assertEqual("conflict", await self.refused(fields("BILL", "m1cro$oft")))
        self.assertTrue(await self.accounts.check_password("shakespeare.lit", "bill", "Calliope"))
        await self.register("bill", "other", domain="other.example")

    async def test_incomplete_requests(self) -> None:
        for inner in (
            "",
            "<username>bill</username>",
            "<password>x</password>",
            "<username>bill</username><password/>",
            "<username/><password>x</password>",
            "<username xmlns='other'>bill</username><password>x</password>",
            "<x xmlns='jabber:x:data' type='cancel'/>",
            "<x xmlns='jabber:x:data' type='submit'><field var='username'/><field/></x>",
        ):
            self.assertEqual("not-acceptable", await self.refused(query(inner)), inner)
        self.assertEqual("unexpected-request", await self.refused(query("<remove/>")))

    async def test_names_that_are_none(self) -> None:
        for name in ("a@b", "a b", "a/b", "x" * 1024, "\u200e", "<a>", "'; DROP TABLE users; --"):
            self.assertEqual("jid-malformed", await self.refused(fields(name, "x")), name)

    async def test_passwords_that_are_none(self) -> None:
        for password in ("x" * 1024, "\u00ad", "a\u0007".replace("\u0007", "\u0085")):
            self.assertEqual("not-acceptable", await self.refused(fields("bill", password)))
        self.assertFalse(await self.accounts.exists("shakespeare.lit", "bill"))

    async def test_sql_in_passwords(self) -> None:
        for number, value in enumerate(value for value in HOSTILE if value.isprintable() and value.isascii()):
            await self.register(f"user{number}", value)
            self.assertTrue(await self.accounts.check_password("shakespeare.lit", f"user{number}", value))

    async def test_a_full_domain(self) -> None:
        for number in range(20):
            await self.register(f"user{number}", "x")
        self.assertEqual("not-allowed", await self.refused(fields("one-more", "x")))


class SourceAddresses(RegisterTestCase):
    timeout = 600

    async def test_one_address_registers_once_in_a_while(self) -> None:
        await self.register("a", "x")
        self.assertEqual("resource-constraint", await self.refused(fields("b", "x")))
        await self.register("b", "x", "192.0.2.2")
        self.host.clock.advance(599)
        self.assertEqual("resource-constraint", await self.refused(fields("c", "x"), f"::ffff:{HERE}"))
        self.host.clock.advance(1)
        await self.register("c", "x")

    async def test_what_failed_does_not_count(self) -> None:
        await self.register("taken", "x", "192.0.2.9")
        self.assertEqual("conflict", await self.refused(fields("taken", "x")))
        await self.register("free", "x")

    async def test_a_network_of_a_subscriber_is_one_source(self) -> None:
        await self.register("a", "x", "2001:db8:1:2::1")
        self.assertEqual("resource-constraint", await self.refused(fields("b", "x"), "2001:db8:1:2:ffff::9"))
        await self.register("b", "x", "2001:db8:1:3::1")


class AddressRules(RegisterTestCase):
    config = RegisterConfig(
        ip_access=(
            IPRule(address="192.0.2.7", policy="deny"),
            IPRule(address="192.0.2.0/24", policy="allow"),
            IPRule(address="2001:db8::/32", policy="allow"),
            IPRule(address="0.0.0.0/0", policy="deny"),
        )
    )

    async def test_the_first_rule_that_fits_decides(self) -> None:
        for number, (address, allowed) in enumerate(
            [
                ("192.0.2.7", False),
                ("::ffff:192.0.2.7", False),
                ("192.0.2.8", True),
                ("198.51.100.1", False),
                ("2001:db8::1", True),
                ("2001:db9::1", True),
                ("/run/socket", True),
            ]
        ):
            if allowed:
                await self.register(f"user{number}", "x", address)
            else:
                self.assertEqual("forbidden", await self.refused(fields(f"user{number}", "x"), address), address)


class AccessRule(RegisterTestCase):
    config = RegisterConfig(access="register")
    access = Access(
        {"reserved": (AclPattern(user_glob="admin*"),)},
        {"register": (AccessClause(acl="reserved", value="deny"), AccessClause(acl="all", value="allow"))},
    )

    async def test_names_that_the_rule_does_not_let_pass(self) -> None:
        for name in ("admin", "ADMINISTRATOR"):
            self.assertEqual("forbidden", await self.refused(fields(name, "x")))
        await self.register("bill", "x")

    async def test_it_holds_for_sessions_too(self) -> None:
        await self.accounts.create("shakespeare.lit", "admin", "old")
        admin = self.session("admin@shakespeare.lit/x")
        for inner in ("<username>admin</username><password>new</password>", "<remove/>"):
            xml = f"<iq type='set' id='1'><query xmlns='jabber:iq:register'>{inner}</query></iq>"
            self.assertEqual("not-allowed", condition(await admin.asks(xml)))
        self.assertTrue(await self.accounts.check_password("shakespeare.lit", "admin", "old"))


class UndefinedRule(RegisterTestCase):
    config = RegisterConfig(access="nowhere")

    async def test_nobody_is_let_in(self) -> None:
        self.assertEqual("forbidden", await self.refused(fields("bill", "x")))


class Strength(RegisterTestCase):
    config = RegisterConfig(password_strength=32)

    async def test_weak_passwords(self) -> None:
        for password in ("kotek", "abc123"):
            self.assertEqual("not-acceptable", await self.refused(fields("bill", password)))
        await self.register("bill", "L33tSp34k")
        bill = self.session("bill@shakespeare.lit/x")
        xml = (
            "<iq type='set' id='1'><query xmlns='jabber:iq:register'>"
            "<username>bill</username><password>abc123</password></query></iq>"
        )
        self.assertEqual("not-acceptable", condition(await bill.asks(xml)))


class Messages(RegisterTestCase):
    config = RegisterConfig(
        welcome_message=WelcomeMessage(subject="Hi & welcome", body="<Read> me"),
        registration_watchers=("watcher@other.example",),
    )

    async def test_watchers_are_told(self) -> None:
        watcher = self.session("watcher@other.example/x")
        watcher.available = True
        await self.register("bill", "x")
        message = await watcher.receives("message")
        self.assertEqual(("shakespeare.lit", "chat"), (message["from"], message["type"]))
        self.assertEqual(
            "The account bill@shakespeare.lit was registered from IP address 192.0.2.1.", str(message.body)
        )

    async def test_the_new_account_is_welcomed(self) -> None:
        bill = self.session("bill@shakespeare.lit/early")
        bill.available = True
        await self.register("bill", "x")
        message = await bill.receives("message")
        self.assertEqual(("Hi & welcome", "<Read> me"), (str(message.subject), str(message.body)))
        self.assertEqual(("shakespeare.lit", "bill@shakespeare.lit"), (message["from"], message["to"]))


class Bound(RegisterTestCase):
    """Sessions: section 3.2 and 3.3."""

    def change(self, username: str, password: str) -> str:
        return (
            "<iq type='set' to='shakespeare.lit' id='change1'><query xmlns='jabber:iq:register'>"
            f"<username>{username}</username><password>{password}</password></query></iq>"
        )

    async def test_who_is_registered_is_told_so(self) -> None:
        bill = await self.bill()
        for to in ("", "to='shakespeare.lit'", "to='bill@shakespeare.lit'"):
            reply = await bill.asks(f"<iq type='get' {to} id='reg1'><query xmlns='jabber:iq:register'/></iq>")
            found = {e.name: str(e) for e in reply.query.elements() if e.name != "instructions"}
            self.assertEqual({"registered": "", "username": "bill", "password": ""}, found)

    async def test_change_of_password(self) -> None:
        bill = await self.bill()
        for number, username in enumerate(("bill", "bill@shakespeare.lit")):
            reply = await bill.asks(self.change(username, f"new{number}"))
            self.assertEqual(("result", []), (reply["type"], list(reply.elements())))
            self.assertTrue(await self.accounts.check_password("shakespeare.lit", "bill", f"new{number}"))

    async def test_passwords_that_are_none(self) -> None:
        bill = await self.bill()
        for inner, expected in [
            ("<username>bill</username><password/>", "bad-request"),
            ("<username>bill</username>", "bad-request"),
            ("<password>x</password>", "bad-request"),
            ("", "bad-request"),
            ("<username>bill</username><password>\u00ad</password>", "not-acceptable"),
            ("<username>a b</username><password>x</password>", "jid-malformed"),
        ]:
            xml = f"<iq type='set' id='1'><query xmlns='jabber:iq:register'>{inner}</query></iq>"
            self.assertEqual(expected, condition(await bill.asks(xml)), inner)
        self.assertTrue(await self.accounts.check_password("shakespeare.lit", "bill", "Calliope"))

    async def test_somebody_elses_password(self) -> None:
        await self.register("juliet", "R0m30")
        await self.register("bill", "other", domain="other.example")
        bill = await self.bill()
        for username in ("juliet", "bill@other.example", "juliet@shakespeare.lit", "new"):
            self.assertEqual("not-allowed", condition(await bill.asks(self.change(username, "mine"))))
        for to in ("other.example", "juliet@shakespeare.lit", "bill@other.example"):
            for inner in ("<username>bill</username><password>mine</password>", "<remove/>"):
                xml = f"<iq type='set' id='1' to='{to}'><query xmlns='jabber:iq:register'>{inner}</query></iq>"
                self.assertEqual("not-allowed", condition(await bill.asks(xml)))
            xml = f"<iq type='get' id='1' to='{to}'><query xmlns='jabber:iq:register'/></iq>"
            self.assertEqual("not-allowed", condition(await bill.asks(xml)))
        for domain, username, password in [
            ("shakespeare.lit", "juliet", "R0m30"),
            ("other.example", "bill", "other"),
            ("shakespeare.lit", "bill", "Calliope"),
        ]:
            self.assertTrue(await self.accounts.check_password(domain, username, password))
        self.assertFalse(await self.accounts.exists("shakespeare.lit", "new"))


class Cancellation(RegisterTestCase):
    REMOVE = "<iq type='set' id='unreg1'><query xmlns='jabber:iq:register'><remove/></query></iq>"
    STORE = "<iq type='set' id='p'><query xmlns='jabber:iq:private'><a xmlns='n'>x</a></query></iq>"

    async def pieces(self, domain: str = "shakespeare.lit") -> list[str]:
        rows = await self.db.query("SELECT username FROM private_storage WHERE server = %s ORDER BY 1", (domain,))
        return [username for (username,) in rows]

    async def test_the_account_its_sessions_and_its_data_go(self) -> None:
        bill = await self.bill()
        other = self.session("bill@shakespeare.lit/other")
        neighbours = [self.session("bill@other.example/x"), self.session("juliet@shakespeare.lit/x")]
        for session in (bill, *neighbours):
            self.assertEqual("result", (await session.asks(self.STORE))["type"])
        reply = await bill.asks(self.REMOVE)
        self.assertEqual(("result", []), (reply["type"], list(reply.elements())))
        self.assertIsNone(bill.ended)
        self.host.clock.advance(0)
        await self.host.settle()
        for session in (bill, other):
            assert session.ended is not None
            self.assertEqual("not-authorized", session.ended.condition)
        self.assertFalse(await self.accounts.exists("shakespeare.lit", "bill"))
        self.assertEqual((["juliet"], ["bill"]), (await self.pieces(), await self.pieces("other.example")))
        self.assertEqual([None, None], [session.ended for session in neighbours])

    async def test_what_it_stores_while_it_ends_goes_too(self) -> None:
        bill = await self.bill()
        bill.sends(self.REMOVE)
        await bill.receives("iq")
        self.assertEqual("result", (await bill.asks(self.STORE))["type"])
        self.assertEqual(["bill"], await self.pieces())
        self.host.clock.advance(0)
        await self.host.settle()
        self.assertEqual([], await self.pieces())

    async def test_remove_stands_alone(self) -> None:
        bill = await self.bill()
        xml = self.REMOVE.replace("<remove/>", "<remove/><username>bill</username>")
        self.assertEqual("bad-request", condition(await bill.asks(xml)))
        self.assertTrue(await self.accounts.exists("shakespeare.lit", "bill"))

    async def test_without_somebody_who_removes_the_data_nothing_is_removed(self) -> None:
        bill = await self.bill()
        del self.host_type.provided[AccountRemover]
        await cast(Any, self.host_type.modules["mod_register"]).start()
        self.assertEqual("not-allowed", condition(await bill.asks(self.REMOVE)))
        self.assertTrue(await self.accounts.exists("shakespeare.lit", "bill"))


class Figures(TestCase):
    def test_entropy_is_that_of_the_fields_documentation(self) -> None:
        for password, bits in [("", 0), ("kotek", 23.5), ("abc123", 30.8), ("L33tSp34k", 53.4), ("CamelCase", 51.3)]:
            self.assertEqual(bits, round(entropy(password), 1), password)
        self.assertEqual(78, round(entropy("lowUP1#❤")))

    def test_sources(self) -> None:
        self.assertEqual(
            ["192.0.2.1", "192.0.2.1", "2001:db8:1:2::/64", "/run/socket"],
            [source_of(a) for a in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8:1:2:3::4", "/run/socket")],
        )

    def test_networks_in_the_configuration(self) -> None:
        self.assertEqual(["10.0.0.0/8", "127.0.0.1/32"], [network(value) for value in ("10.1.2.3/8", "127.0.0.1")])
        for value in ("", "10.0.0.0/33", "localhost", "10.0.0"):
            self.assertRaises(Mistake, network, value)
