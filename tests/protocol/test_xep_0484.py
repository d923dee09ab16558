"""XEP-0484 Fast Authentication Streamlining Tokens."""

import hashlib
import hmac
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred
from twisted.words.xish import domish

from dynxmpp.c2s import negotiation
from dynxmpp.c2s.context import accounts_of
from dynxmpp.db.pool import DatabaseUnavailable
from dynxmpp.jid import JID
from dynxmpp.modules.bind2 import Bind2
from dynxmpp.modules.fast_auth_token import MAX_CLIENTS, FastAuthToken, FastAuthTokenConfig, Period, ValidityPeriod
from dynxmpp.modules.sasl2 import Sasl2
from dynxmpp.protocol.timestamps import parse_utc
from tests.config.support import ConfigTestCase
from tests.fixtures.c2s import Client, auth
from tests.fixtures.postgres import DatabaseTestCase
from tests.protocol.sasl2_dialogues import (
    AGENT,
    OTHER_AGENT,
    Sasl2Dialogues,
    additional_data,
    authenticate,
    bind2,
    child,
    identifier,
    plain2,
    response2,
)
from tests.protocol.support import HOSTILE_LOCALPARTS

NS_FAST = "urn:xmpp:fast:0"
NONE, ENDP, EXPR = "HT-SHA-256-NONE", "HT-SHA-256-ENDP", "HT-SHA-256-EXPR"
DAY = 86_400
ANN = JID.parse("ann@a.example")
#: Each token is one that any client fits.
ANY = lambda token: True  # noqa: E731


def request_token(mechanism: str = NONE) -> str:
    return f"<request-token xmlns='{NS_FAST}' mechanism='{mechanism}'/>"


def fast(**attributes: str) -> str:
    return f"<fast xmlns='{NS_FAST}'{''.join(f' {name}={value!r}' for name, value in attributes.items())}/>"


def hashed(token: str, username: str = "ann", binding: bytes = b"") -> bytes:
    """The client's message, computed independently of the server."""
    return username.encode() + b"\0" + hmac.new(token.encode(), b"Initiator" + binding, hashlib.sha256).digest()


def by_token(
    token: str,
    inner: str = fast(),
    *,
    username: str = "ann",
    mechanism: str = NONE,
    agent: str | None = AGENT,
    binding: bytes = b"",
) -> str:
    """<authenticate/> of a client that has a token."""
    return authenticate(mechanism, hashed(token, username, binding), inner, agent)


class TokenCase(DatabaseTestCase, Sasl2Dialogues):
    modules = (Sasl2, Bind2, FastAuthToken)
    migrations = FastAuthToken.migrations

    async def setUp(self) -> None:  # type: ignore[override]
        await DatabaseTestCase.setUp(self)
        await Sasl2Dialogues.setUp(self)

    async def serve(self, **options: Any) -> None:
        await super().serve(**options)
        for host_type in self.server.host.host_types:
            module: Any = host_type.modules.get("mod_fast_auth_token")
            if module is not None:
                module.database = self.db

    @property
    def tokens(self) -> Any:
        return self.server.type_of("a.example").modules["mod_fast_auth_token"]

    def bind_channels(self, **bindings: bytes) -> None:
        """From now on connections have these channel bindings."""
        found = {name.replace("_", "-"): data for name, data in bindings.items()}
        self.patch(negotiation, "channel_bindings", lambda transport: found)

    async def issued(self, mechanism: str = NONE, **options: Any) -> str:
        """A token, got by password."""
        success = await self.succeeds(self.client(), plain2(inner=request_token(mechanism), **options))
        return self.token_of(success)

    def token_of(self, success: domish.Element) -> str:
        token = child(success, "token")
        self.assertEqual(NS_FAST, token.uri)
        return str(token["token"])

    async def logs_in(self, token: str, inner: str = fast(), **options: Any) -> domish.Element:
        return await self.succeeds(self.client(), by_token(token, inner, **options))

    async def is_refused(
        self, token: str, inner: str = fast(), expected: str = "not-authorized", **options: Any
    ) -> None:
        await self.fails(expected, self.client(), by_token(token, inner, **options))

    def no_token(self, success: domish.Element) -> None:
        self.assertNotIn("token", [e.name for e in success.elements()])

    async def rows(self) -> int:
        return int((await self.db.query("SELECT count(*) FROM fast_token"))[0][0])


class Features(TokenCase):
    def mechanisms(self) -> list[str] | None:
        client = self.server.connects()
        client.header()
        offered = child(client.receives("features"), "authentication")
        inline = child(offered, "inline")
        found = [e for e in inline.elements() if e.uri == NS_FAST]
        self.assertNotIn(NONE, [str(e) for e in offered.elements() if e.name == "mechanism"])
        self.assertTrue(all("tls-0rtt" not in e.attributes for e in found))
        return [str(e) for e in found[0].elements()] if found else None

    def test_as_channel_bindings_allow(self) -> None:
        self.assertEqual([NONE], self.mechanisms())
        self.bind_channels(tls_exporter=b"x", tls_server_end_point=b"y")
        self.assertEqual([EXPR, ENDP, NONE], self.mechanisms())

    async def test_over_tls_only(self) -> None:
        await self.serve()
        self.assertIsNone(self.mechanisms())
        success = await self.succeeds(self.client(), plain2(inner=request_token()))
        self.no_token(success)
        await self.fails("invalid-mechanism", self.client(), by_token("x"))


class Tokens(TokenCase):
    async def test_a_client_comes_back(self) -> None:
        token = await self.issued()
        success = await self.logs_in(token)
        self.assertEqual("ann@a.example", identifier(success))
        self.no_token(success)

    async def test_the_server_proves_that_it_knows_the_token(self) -> None:
        token = await self.issued()
        proof = hmac.new(token.encode(), b"Responder", hashlib.sha256).digest()
        self.assertEqual(proof, additional_data(await self.logs_in(token)))

    async def test_its_end(self) -> None:
        success = await self.succeeds(self.client(), plain2(inner=request_token()))
        expiry = parse_utc(child(success, "token")["expiry"]).timestamp()
        self.assertEqual(int(self.server.clock.seconds()) + 3 * DAY, expiry)

    async def test_one_round_trip(self) -> None:
        token = await self.issued()
        client = self.client()
        client.sends(by_token(token, fast() + bind2()) + "<presence/>")
        await self.settle()
        self.assertEqual(["success", "features"], [e.name for e in client.received()])
        self.assertEqual(["presence"], [stanza.name for stanza in self.server.observer().seen])

    async def test_without_an_initial_response(self) -> None:
        token = await self.issued()
        client = self.client()
        self.assertEqual("challenge", (await self.asks(client, authenticate(NONE, None, fast()))).name)
        await self.succeeds(client, response2(hashed(token)))

    async def test_each_is_another(self) -> None:
        first, second = await self.issued(), await self.issued(agent=OTHER_AGENT)
        self.assertNotEqual(first, second)
        await self.logs_in(first)
        await self.logs_in(second, agent=OTHER_AGENT)

    async def test_an_agent_in_another_spelling(self) -> None:
        await self.logs_in(await self.issued(agent=AGENT.upper()))

    async def test_bound_to_the_connection(self) -> None:
        self.bind_channels(tls_exporter=b"first", tls_server_end_point=b"certificate")
        for mechanism, binding in ((EXPR, b"first"), (ENDP, b"certificate")):
            token = await self.issued(mechanism)
            await self.is_refused(token, mechanism=mechanism, binding=b"other")
            await self.is_refused(token, mechanism=mechanism)
            proof = hmac.new(token.encode(), b"Responder" + binding, hashlib.sha256).digest()
            success = await self.logs_in(token, mechanism=mechanism, binding=binding)
            self.assertEqual(proof, additional_data(success))
        self.bind_channels(tls_exporter=b"second")
        await self.is_refused(await self.issued(EXPR), mechanism=EXPR, binding=b"first")

    async def test_a_mechanism_that_is_not_offered_gets_no_token(self) -> None:
        for mechanism in (EXPR, "HT-SHA-512-NONE", "PLAIN", ""):
            self.no_token(await self.succeeds(self.client(), plain2(inner=request_token(mechanism))))
        self.assertEqual(0, await self.rows())

    async def test_nobody_who_failed_gets_one(self) -> None:
        await self.fails("not-authorized", self.client(), plain2(inner=request_token(), password="wrong"))
        self.assertEqual(0, await self.rows())


class Refusals(TokenCase):
    async def test_of_what_is_no_token_of_this_client(self) -> None:
        token = await self.issued()
        await self.is_refused(token[:-1])
        await self.is_refused("")
        await self.is_refused(token, agent=OTHER_AGENT)
        for username in ("bob", "nobody", "", "a@b"):
            expected = "not-authorized" if username else "malformed-request"
            await self.is_refused(token, username=username, expected=expected)
        client = self.client("b.example")
        await self.fails("not-authorized", client, by_token(token))
        await self.logs_in(token)

    async def test_with_another_mechanism(self) -> None:
        self.bind_channels(tls_exporter=b"x")
        token = await self.issued(EXPR)
        await self.is_refused(token, mechanism=NONE)
        await self.is_refused(token, mechanism=ENDP, expected="invalid-mechanism")
        await self.logs_in(token, mechanism=EXPR, binding=b"x")

    async def test_of_requests_without_an_id(self) -> None:
        token = await self.issued()
        await self.fails("malformed-request", self.client(), plain2(inner=request_token(), agent=None))
        await self.is_refused(token, agent=None, expected="malformed-request")

    async def test_a_token_needs_fast_and_fast_a_token(self) -> None:
        token = await self.issued()
        await self.is_refused(token, "", expected="malformed-request")
        await self.fails("malformed-request", self.client(), plain2(inner=fast()))

    async def test_of_malformed_requests(self) -> None:
        token = await self.issued()
        for inner in (
            fast(count="-1"),
            fast(count=""),
            fast(count="1.0"),
            fast(count="2147483648"),
            fast(count="9" * 5000),
            fast(count="\N{SUPERSCRIPT TWO}"),
            fast(invalidate="yes"),
            fast(invalidate=""),
            fast() + fast(),
            fast() + request_token() * 2,
        ):
            await self.is_refused(token, inner, "malformed-request")
        for data in (b"", b"ann", b"ann\0", b"ann\0x", hashed(token) + b"x", b"\xff\0" + bytes(32)):
            await self.fails("malformed-request", self.client(), authenticate(NONE, data, fast()))
        await self.logs_in(token)

    async def test_in_the_profile_of_old(self) -> None:
        token = await self.issued()
        client = self.client()
        failure = await self.asks(client, auth(NONE, hashed(token)))
        self.assertEqual(["invalid-mechanism", "text"], [e.name for e in failure.elements()])

    async def test_failures_are_counted(self) -> None:
        await self.serve(tls="tls", auth_attempts=2)
        client = self.client()
        await self.fails("not-authorized", client, by_token("x"))
        self.assertEqual("failure", (await self.asks(client, by_token("x"))).name)
        self.assertEqual("policy-violation", client.stream_error())

    async def test_the_database_is_away(self) -> None:
        token = await self.issued()
        await self.db.stop()
        await self.is_refused(token, expected="temporary-auth-failure")
        await self.fails("temporary-auth-failure", self.client(), plain2(inner=bind2() + request_token()))
        self.assertEqual([], self.server.observer().bound)
        await self.succeeds(self.client(), plain2())

    async def test_names_that_look_like_sql(self) -> None:
        for username in HOSTILE_LOCALPARTS:
            self.server.method.passwords["a.example", username] = "pencil"
            await self.logs_in(await self.issued(username=username), username=username)


class Password(TokenCase):
    """A token is worth as much as the password that it was issued under."""

    async def test_a_new_one(self) -> None:
        token = await self.issued()
        # As MemoryAuth has one salt for all: another password makes another record.
        self.server.method.passwords["a.example", "ann"] = "another"
        await self.is_refused(token, expected="credentials-expired")
        await self.logs_in(await self.issued(password="another"))

    async def test_an_account_that_is_removed(self) -> None:
        token = await self.issued()
        del self.server.method.passwords["a.example", "ann"]
        await self.is_refused(token, expected="credentials-expired")

    async def test_an_account_of_a_method_that_this_listener_does_not_let_in(self) -> None:
        token = await self.issued()
        await self.serve(tls="tls", allowed_auth_methods=("rdbms",))
        client = self.server.connects()
        client.header()
        self.assertEqual([], list(client.receives("features").elements()))
        client.sends(by_token(token))
        await self.settle()
        self.assertEqual("failure", client.receives().name)

    async def test_without_scram(self) -> None:
        """Then nothing is known of the password, but whether there is an account."""
        self.server.method.mechanisms = frozenset({"PLAIN"})
        token = await self.issued()
        await self.logs_in(token)
        await accounts_of(self.server.type_of("a.example")).remove("a.example", "ann")
        await self.is_refused(token, expected="credentials-expired")


class Life(TokenCase):
    async def test_until_its_end(self) -> None:
        token = await self.issued()
        self.server.clock.advance(3 * DAY - 1)
        client = self.client()
        await self.succeeds(client, by_token(token))
        self.server.clock.advance(1)
        await self.is_refused(token, expected="credentials-expired")

    async def test_a_new_one_before_the_end(self) -> None:
        token = await self.issued()
        self.server.clock.advance(3 * DAY - 6 * 3600)
        self.no_token(await self.logs_in(token))
        self.server.clock.advance(1)
        newer = self.token_of(await self.logs_in(token))
        # Nobody knows whether it has arrived: both are valid, until the new one is used.
        await self.logs_in(token)
        newest = self.token_of(await self.logs_in(token))
        await self.is_refused(newer)
        self.no_token(await self.logs_in(newest))
        await self.is_refused(token)
        self.server.clock.advance(3 * DAY - 60)
        await self.logs_in(newest)

    async def test_rotation_keeps_the_mechanism(self) -> None:
        self.bind_channels(tls_exporter=b"x")
        token = await self.issued(EXPR)
        self.server.clock.advance(3 * DAY - 3600)
        newer = self.token_of(await self.logs_in(token, mechanism=EXPR, binding=b"x"))
        await self.is_refused(newer, mechanism=NONE)
        await self.logs_in(newer, mechanism=EXPR, binding=b"x")

    async def test_asked_for_by_a_client_that_has_one(self) -> None:
        token = await self.issued()
        newer = self.token_of(await self.logs_in(token, fast() + request_token()))
        await self.logs_in(token)
        await self.logs_in(newer)
        await self.is_refused(token)

    async def test_one_for_another_mechanism_replaces_the_old(self) -> None:
        self.bind_channels(tls_exporter=b"x")
        token = await self.issued()
        await self.logs_in(token)
        newer = await self.issued(EXPR)
        await self.logs_in(token)
        await self.logs_in(newer, mechanism=EXPR, binding=b"x")
        await self.is_refused(token)

    async def test_periods_of_the_configuration(self) -> None:
        periods = ValidityPeriod(
            access=Period(value=2, unit="minutes"), rotate_before_expire=Period(value=0, unit="days")
        )
        module = FastAuthToken(self.tokens.context, FastAuthTokenConfig(validity_period=periods))
        module.database = self.db
        issued = await module.issue(ANN, AGENT, NONE, b"c")
        self.server.clock.advance(119)
        self.assertFalse((await module.redeem(ANN, AGENT, NONE, ANY, b"c")).is_due)
        self.assertEqual(120, issued.expires - int(self.server.clock.seconds()) + 119)

    async def test_what_has_expired_goes(self) -> None:
        await self.issued()
        await self.issued(agent=OTHER_AGENT)
        self.assertEqual(2, await self.rows())
        self.server.clock.advance(3 * DAY)
        await self.issued()
        self.assertEqual(1, await self.rows())

    async def test_clients_of_an_account_are_bounded(self) -> None:
        for number in range(MAX_CLIENTS + 2):
            await self.tokens.issue(ANN, AGENT[:-4] + f"{number:04}", NONE, b"c")
            self.server.clock.advance(1)
        await self.tokens.issue(JID.parse("bob@a.example"), AGENT, NONE, b"c")
        left = await self.db.query("SELECT agent::text FROM fast_token WHERE username = 'ann' ORDER BY agent")
        self.assertEqual([AGENT[:-4] + f"{number:04}" for number in range(2, MAX_CLIENTS + 2)], [a for (a,) in left])
        self.assertEqual(MAX_CLIENTS + 1, await self.rows())

    async def test_of_clients_that_come_at_once_the_last_has_its_token(self) -> None:
        for number in range(MAX_CLIENTS + 5):
            agent = AGENT[:-4] + f"{number:04}"
            await self.tokens.issue(ANN, agent, NONE, b"c")
            await self.tokens.redeem(ANN, agent, NONE, ANY, b"c")
        self.assertEqual(MAX_CLIENTS, await self.rows())


class Counter(TokenCase):
    async def test_it_must_grow(self) -> None:
        token = await self.issued()
        await self.is_refused(token, fast(count="0"))
        await self.logs_in(token, fast(count="5"))
        for count in ("5", "4", "05", "0"):
            await self.is_refused(token, fast(count=count))
        await self.logs_in(token, fast(count="6"))
        await self.logs_in(token)  # only TLS 0-RTT needs one, which is not offered
        await self.is_refused(token, fast(count="6"))
        await self.logs_in(token, fast(count="2147483647"))

    async def test_it_begins_anew_with_a_new_token(self) -> None:
        token = await self.issued()
        await self.logs_in(token, fast(count="5"))
        newer = self.token_of(await self.logs_in(token, fast() + request_token()))
        await self.logs_in(newer, fast(count="1"))
        await self.is_refused(newer, fast(count="1"))

    async def test_of_two_at_once_one_is_refused(self) -> None:
        token = await self.issued()
        clients: list[Client] = [self.client() for _ in range(4)]
        for client in clients:
            client.sends(by_token(token, fast(count="1")))
        await self.settle()
        self.assertEqual(["failure"] * 3 + ["success"], sorted(client.receives().name for client in clients))

    async def test_two_that_use_a_new_token_at_once(self) -> None:
        token = await self.issued()
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.sends(by_token(token))
        await self.settle()
        self.assertEqual(["success"] * 4, [client.receives().name for client in clients])


class Invalidation(TokenCase):
    async def test_at_the_clients_wish(self) -> None:
        for value in ("true", "1"):
            token = await self.issued()
            self.no_token(await self.logs_in(token, fast(invalidate=value)))
            await self.is_refused(token)
        self.assertEqual(0, await self.rows())

    async def test_not_without_it(self) -> None:
        token = await self.issued()
        for value in ("false", "0"):
            await self.logs_in(token, fast(invalidate=value))

    async def test_no_new_token_although_it_is_due(self) -> None:
        token = await self.issued()
        self.server.clock.advance(3 * DAY - 60)
        self.no_token(await self.logs_in(token, fast(invalidate="true")))

    async def test_unless_it_is_asked_for(self) -> None:
        token = await self.issued()
        newer = self.token_of(await self.logs_in(token, fast(invalidate="true") + request_token()))
        await self.is_refused(token)
        await self.logs_in(newer)

    async def test_a_token_that_may_not_have_arrived_goes_too(self) -> None:
        token = await self.issued()
        await self.logs_in(token)
        newer = self.token_of(await self.logs_in(token, fast() + request_token()))
        await self.logs_in(token, fast(invalidate="true"))
        await self.is_refused(newer)

    async def test_others_keep_theirs(self) -> None:
        token, other = await self.issued(), await self.issued(agent=OTHER_AGENT)
        namesake = await self.issued(username="bob")
        await self.logs_in(token, fast(invalidate="true"))
        await self.logs_in(other, agent=OTHER_AGENT)
        await self.logs_in(namesake, username="bob")

    async def test_by_who_has_not_the_token(self) -> None:
        token = await self.issued()
        await self.is_refused("wrong", fast(invalidate="true"))
        await self.logs_in(token)


class Options(ConfigTestCase):
    models: ClassVar[dict[str, Any]] = {"mod_fast_auth_token": FastAuthTokenConfig}

    def section(self, keys: dict[str, Any]) -> Any:
        return self.load(modules={"mod_fast_auth_token": keys}).host_types["basic"].modules["mod_fast_auth_token"]

    def test_an_empty_section_is_enough(self) -> None:
        self.assertEqual(FastAuthTokenConfig(), self.section({}))

    def test_periods(self) -> None:
        periods = self.section({"validity_period": {"access": {"value": 90, "unit": "minutes"}}}).validity_period
        self.assertEqual((5400, None), (periods.access.seconds, periods.rotate_before_expire))
        for unit, seconds in (("days", 172_800), ("hours", 7200), ("minutes", 120), ("seconds", 2)):
            self.assertEqual(seconds, Period(value=2, unit=cast(Any, unit)).seconds)

    def test_mistakes(self) -> None:
        for keys, line in (
            ({"backend": "mnesia"}, 'backend: unknown backend "mnesia" (allowed: rdbms)'),
            ({"validity_period": {"access": {"value": 1}}}, "validity_period.access.unit: is missing"),
            (
                {"validity_period": {"access": {"value": -1, "unit": "days"}}},
                "validity_period.access.value: must not be negative, but is -1",
            ),
        ):
            found = self.lines(modules={"mod_fast_auth_token": keys})
            self.assertEqual([f"modules.mod_fast_auth_token.{line}"], found)


class Waiting(TokenCase):
    async def test_a_domain_that_has_gone_meanwhile_gets_none(self) -> None:
        self.server.method.answer = Deferred()
        client = self.client("b.example")
        client.sends(plain2(inner=request_token()))
        self.server.domains.delete("b.example")
        self.server.method.answer.callback(None)
        await self.settle()
        self.assertEqual("host-gone", client.stream_error())
        self.assertEqual(0, await self.rows())

    async def test_the_client_goes_while_its_token_is_made(self) -> None:
        class Slow:
            """The database, when `answer` fires."""

            def __init__(self, database: Any) -> None:
                self.answer: Deferred[None] = Deferred()
                self.database = database

            async def transaction(self, work: Any) -> Any:
                await self.answer
                return await self.database.transaction(work)

        slow = self.tokens.database = Slow(self.db)
        client = self.client()
        client.sends(plain2(inner=bind2() + request_token()))
        client.loses()
        slow.answer.callback(None)
        await self.settle()
        self.assertEqual([], self.server.observer().bound)

    async def test_unavailable_is_not_a_refusal(self) -> None:
        async def away(*arguments: Any) -> Any:
            raise DatabaseUnavailable("away")

        token = await self.issued()
        self.patch(self.tokens, "database", type("Away", (), {"query": staticmethod(away)})())
        await self.is_refused(token, expected="temporary-auth-failure")
