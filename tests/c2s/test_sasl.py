"""SASL mechanisms as a stream meets them: RFC 6120 section 6, RFC 4616, RFC 5802."""

import base64
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from dynxmpp.auth.accounts import Accounts
from dynxmpp.auth.scram import HASHES, ScramRecord, derive
from dynxmpp.c2s.sasl import (
    CONFIG_MECHANISMS,
    MAX_MESSAGE_BYTES,
    TLS_EXPORTER,
    TLS_SERVER_END_POINT,
    Challenge,
    Mechanism,
    SaslFailure,
    Success,
    channel_binding_feature,
    create,
    decode_initial,
    decode_response,
    encode,
    offered_mechanisms,
)
from dynxmpp.db.pool import DatabaseUnavailable
from tests.auth.memory import ITERATIONS, SALT, MemoryAuth

DOMAIN = "example.org"
BINDINGS = {TLS_EXPORTER: b"exported", TLS_SERVER_END_POINT: b"certificate"}
ALL = tuple(CONFIG_MECHANISMS.values())
RECORDS = {name: derive("pencil", name, SALT, ITERATIONS) for name in HASHES}


class QuickAuth(MemoryAuth):
    """One account with derived records at hand."""

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        return RECORDS[hash_name] if (domain, username) in self.passwords else None


class AwayAuth(MemoryAuth):
    async def check_password(self, domain: str, username: str, password: str) -> bool:
        raise DatabaseUnavailable("away")

    async def scram_record(self, domain: str, username: str, hash_name: str) -> ScramRecord | None:
        raise DatabaseUnavailable("away")


class WaitingAuth(MemoryAuth):
    """Answers when `answer` is fired."""

    def __init__(self, **passwords: str) -> None:
        super().__init__(**passwords)
        self.answer: Deferred[None] = Deferred()

    async def check_password(self, domain: str, username: str, password: str) -> bool:
        await self.answer
        return await super().check_password(domain, username, password)


def accounts_of(method: MemoryAuth) -> Accounts:
    return Accounts([method], secret=b"secret", iterations=ITERATIONS)


class MechanismTestCase(TestCase):
    def setUp(self) -> None:
        self.accounts = accounts_of(QuickAuth(user="pencil", jürgen="Straße"))

    def create(
        self, name: str, *, bindings: Mapping[str, bytes] = BINDINGS, offered: tuple[str, ...] = ALL, **options: Any
    ) -> Mechanism:
        options = {"domain": DOMAIN, "accounts": self.accounts, "random": Random(1), **options}
        return create(name, channel_bindings=bindings, offered=offered, **options)

    def step(self, mechanism: Mechanism, data: bytes | None) -> Challenge | Success:
        return self.successResultOf(Deferred.fromCoroutine(mechanism.step(data)))

    def assert_failure(self, condition: str, mechanism: Mechanism, data: bytes | None) -> SaslFailure:
        failure = self.failureResultOf(Deferred.fromCoroutine(mechanism.step(data)), SaslFailure).value
        self.assertEqual(failure.condition, condition, f"{failure} for {data!r}")
        return failure

    def challenge(self, mechanism: Mechanism, data: bytes) -> bytes:
        outcome = self.step(mechanism, data)
        assert isinstance(outcome, Challenge)
        return outcome.data


class Base64Tests(TestCase):
    def test_initial_response(self) -> None:
        self.assertIsNone(decode_initial(""))
        self.assertEqual(decode_initial("="), b"")
        self.assertEqual(decode_initial("AHVzZXIAcGVuY2ls"), b"\0user\0pencil")

    def test_response(self) -> None:
        self.assertEqual(decode_response(""), b"")
        self.assertEqual(decode_response("="), b"")
        self.assertEqual(decode_response("AA=="), b"\0")

    def test_incorrect_encodings(self) -> None:
        for text in (
            " AAAA",
            "AAAA\n",
            "AA AA",
            "A",
            "AA",
            "AA=",
            "AAA",
            "AAAA=",
            "AAAA====",
            "==",
            "=AAA",
            "AA==AAAA",
            "AB==",
            "AA-_",
            "AAÄA",
            "[moon]",
            "\ud800AAA",
        ):
            for decode in (decode_initial, decode_response):
                with self.assertRaises(SaslFailure, msg=ascii(text)) as caught:
                    decode(text)
                self.assertEqual(caught.exception.condition, "incorrect-encoding")

    def test_encoding(self) -> None:
        self.assertEqual(encode(b""), "=")
        self.assertEqual(encode(b"x" * 100), base64.b64encode(b"x" * 100).decode())

    @given(st.binary())
    def test_round_trip(self, data: bytes) -> None:
        self.assertEqual(decode_response(encode(data)), data)

    @given(st.text())
    def test_garbage(self, text: str) -> None:
        try:
            decoded = decode_response(text)
        except SaslFailure:
            return
        self.assertIn(text, ("", encode(decoded)))


class OfferTests(TestCase):
    ORDER = ("scram_sha512_plus", "scram_sha512", "scram_sha1_plus", "scram_sha1", "plain", "oauth", "external")
    ABLE = frozenset({"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-512"})

    def offer(self, able: frozenset[str] = ABLE, order: tuple[str, ...] = ORDER, **options: Any) -> tuple[str, ...]:
        options = {"plain_allowed": True, "channel_bindings": BINDINGS, **options}
        return offered_mechanisms(able, order, **options)

    def test_in_configured_order(self) -> None:
        self.assertEqual(
            self.offer(), ("SCRAM-SHA-512-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN")
        )
        self.assertEqual(self.offer(order=("plain", "scram_sha1", "plain")), ("PLAIN", "SCRAM-SHA-1"))

    def test_plus_needs_channel_binding(self) -> None:
        self.assertEqual(self.offer(channel_bindings={}), ("SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN"))

    def test_plain_not_allowed(self) -> None:
        self.assertNotIn("PLAIN", self.offer(plain_allowed=False))

    def test_only_what_the_accounts_can_do(self) -> None:
        self.assertEqual(self.offer(frozenset({"PLAIN"})), ("PLAIN",))
        self.assertEqual(self.offer(frozenset()), ())

    def test_names_of_the_configuration(self) -> None:
        self.assertEqual(CONFIG_MECHANISMS["scram_sha256_plus"], "SCRAM-SHA-256-PLUS")
        self.assertEqual(len(CONFIG_MECHANISMS), 11)

    def test_channel_binding_feature(self) -> None:
        feature = channel_binding_feature(self.offer(), BINDINGS)
        assert feature is not None
        self.assertEqual(
            feature.toXml(),
            "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>"
            "<channel-binding type='tls-server-end-point'/></sasl-channel-binding>",
        )

    def test_no_channel_binding_feature_without_plus(self) -> None:
        self.assertIsNone(channel_binding_feature(("PLAIN", "SCRAM-SHA-1"), BINDINGS))
        self.assertIsNone(channel_binding_feature(ALL, {}))


class CreateTests(MechanismTestCase):
    def test_only_what_was_offered(self) -> None:
        for name in ("SCRAM-SHA-1", "plain", "", "PLAIN ", "SCRAM-MD5", "EXTERNAL"):
            with self.assertRaises(SaslFailure) as caught:
                self.create(name, offered=("PLAIN", "SCRAM-SHA-1-PLUS"))
            self.assertEqual(caught.exception.condition, "invalid-mechanism")

    def test_client_speaks_first(self) -> None:
        for name in ALL:
            mechanism = self.create(name)
            self.assertEqual(self.step(mechanism, None), Challenge(b""))
            self.assert_failure("malformed-request", mechanism, None)

    def test_server_nonces_differ(self) -> None:
        random = Random(2)
        challenges = {
            self.challenge(self.create("SCRAM-SHA-1", random=random), b"n,,n=user,r=client") for _ in range(10)
        }
        self.assertEqual(len(challenges), 10)
        for challenge in challenges:
            self.assertRegex(challenge, rb"\Ar=client[A-Za-z0-9+/]{24},s=")


class PlainTests(MechanismTestCase):
    def assert_refused(self, condition: str, data: bytes) -> SaslFailure:
        return self.assert_failure(condition, self.create("PLAIN"), data)

    def test_success(self) -> None:
        self.assertEqual(self.step(self.create("PLAIN"), b"\0user\0pencil"), Success("user", None))

    def test_after_the_empty_challenge(self) -> None:
        mechanism = self.create("PLAIN")
        self.step(mechanism, None)
        self.assertEqual(self.step(mechanism, b"\0user\0pencil"), Success("user", None))

    def test_user_name_is_prepared(self) -> None:
        self.assertEqual(self.step(self.create("PLAIN"), b"\0USER\0pencil"), Success("user", None))
        self.assertEqual(self.step(self.create("PLAIN"), "\0JÜRGEN\0Straße".encode()), Success("jürgen", None))

    def test_wrong_password_and_unknown_account_look_the_same(self) -> None:
        wrong = self.assert_refused("not-authorized", b"\0user\0pen")
        unknown = self.assert_refused("not-authorized", b"\0nobody\0pencil")
        impossible = self.assert_refused("not-authorized", b"\0us er\0pencil")
        self.assertEqual({str(wrong)}, {str(unknown), str(impossible)})

    def test_names_that_nobody_has(self) -> None:
        for name in (b"user@example.org", b"user/phone", b"us er", b"<user>", b"x" * 1024, "\u0221\u0007".encode()):
            self.assert_refused("not-authorized", b"\0" + name + b"\0pencil")

    def test_authorization_identity_of_the_account(self) -> None:
        for authzid in (b"user@example.org", b"USER@EXAMPLE.ORG"):
            self.assertEqual(self.step(self.create("PLAIN"), authzid + b"\0user\0pencil"), Success("user", None))

    def test_authorization_identity_of_anybody_else(self) -> None:
        for authzid in (
            b"other@example.org",
            b"user@example.com",
            b"user@example.org/phone",
            b"example.org",
            b"user",
            b"@example.org",
            b"user@@example.org",
            b" ",
        ):
            self.assert_refused("invalid-authzid", authzid + b"\0user\0pencil")

    def test_malformed(self) -> None:
        for data in (
            b"",
            b"\0",
            b"\0\0",
            b"\0user",
            b"\0user\0",
            b"\0\0pencil",
            b"user\0pencil",
            b"\0user\0pencil\0",
            b"\0us\0er\0pencil",
            b"\0\0\0",
            b"\0user\0pen\xffcil",
            b"\xff\0user\0pencil",
            b"\0user\0\xed\xa0\x80",
            b"\0user\0" + b"x" * MAX_MESSAGE_BYTES,
        ):
            self.assert_refused("malformed-request", data)

    def test_database_away(self) -> None:
        mechanism = self.create("PLAIN", accounts=accounts_of(AwayAuth(user="pencil")))
        self.assert_failure("temporary-auth-failure", mechanism, b"\0user\0pencil")

    def test_nothing_after_the_end(self) -> None:
        for first in (b"\0user\0pencil", b"\0user\0wrong"):
            mechanism = self.create("PLAIN")
            Deferred.fromCoroutine(mechanism.step(first)).addErrback(lambda failure: failure.trap(SaslFailure))
            self.assert_failure("malformed-request", mechanism, b"\0user\0pencil")

    def test_nothing_while_the_answer_is_awaited(self) -> None:
        method = WaitingAuth(user="pencil")
        mechanism = self.create("PLAIN", accounts=accounts_of(method))
        outcome = Deferred.fromCoroutine(mechanism.step(b"\0user\0pencil"))
        self.assertNoResult(outcome)
        self.assert_failure("malformed-request", mechanism, b"\0user\0pencil")
        method.answer.callback(None)
        self.assertEqual(self.successResultOf(outcome), Success("user", None))


class ScramTests(MechanismTestCase):
    def log_in(
        self,
        name: str,
        username: str = "user",
        password: str = "pencil",
        *,
        own: Mechanism | None = None,
        **options: Any,
    ) -> Success:
        """As scramp does it; `options` are those of its client."""
        client = ScramClient([name], username, password, **options)
        mechanism = own or self.create(name)
        client.set_server_first(self.challenge(mechanism, client.get_client_first().encode()).decode())
        outcome = self.step(mechanism, client.get_client_final().encode())
        assert isinstance(outcome, Success)
        assert outcome.data is not None
        client.set_server_final(outcome.data.decode())
        return outcome

    def final(self, mechanism: Mechanism, *, nonce: bytes | None = None, binding: bytes = b"biws") -> bytes:
        """A last message with a proof that is right in form only."""
        first = self.challenge(mechanism, b"n,,n=user,r=client")
        sent = first.split(b",")[0].removeprefix(b"r=")
        return b"c=" + binding + b",r=" + (sent if nonce is None else nonce) + b",p=" + base64.b64encode(b"x" * 20)

    def test_success(self) -> None:
        for name in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            self.assertEqual(self.log_in(name).username, "user")

    def test_success_with_channel_binding(self) -> None:
        binding = (TLS_SERVER_END_POINT, BINDINGS[TLS_SERVER_END_POINT])
        for name in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"):
            self.assertEqual(self.log_in(name, channel_binding=binding).username, "user")

    def test_channel_binding_of_another_connection(self) -> None:
        with self.assertRaises(self.failureException) as caught:
            self.log_in("SCRAM-SHA-1-PLUS", channel_binding=(TLS_SERVER_END_POINT, b"another certificate"))
        self.assertIn("channel binding does not match", str(caught.exception))

    def test_exporter_binding(self) -> None:
        header = b"p=tls-exporter,,"
        for data, text in ((b"exported", "Wrong user name or password"), (b"other", "channel binding does not match")):
            mechanism = self.create("SCRAM-SHA-1-PLUS")
            challenge = self.challenge(mechanism, header + b"n=user,r=client")
            nonce = challenge.split(b",")[0]
            final = b"c=" + base64.b64encode(header + data) + b"," + nonce + b",p=" + base64.b64encode(b"x" * 20)
            self.assertEqual(self.assert_failure("not-authorized", mechanism, final).text, text)

    def test_user_name_is_prepared(self) -> None:
        self.assertEqual(self.log_in("SCRAM-SHA-1", "USER").username, "user")

    def test_after_the_empty_challenge(self) -> None:
        mechanism = self.create("SCRAM-SHA-256")
        self.step(mechanism, None)
        self.assertEqual(self.log_in("SCRAM-SHA-256", own=mechanism).username, "user")

    def test_wrong_password_and_unknown_account_look_the_same(self) -> None:
        failures = set()
        for username in (b"user", b"nobody"):
            mechanism = self.create("SCRAM-SHA-1")
            challenge = self.challenge(mechanism, b"n,,n=" + username + b",r=client")
            self.assertRegex(challenge, rb"\Ar=client[^,]{24},s=[^,]{24},i=4096\Z")
            final = b"c=biws," + challenge.split(b",")[0] + b",p=" + base64.b64encode(b"x" * 20)
            failures.add(str(self.assert_failure("not-authorized", mechanism, final)))
        self.assertEqual(len(failures), 1)

    def test_salt_of_an_unknown_account_stays(self) -> None:
        challenges = [self.challenge(self.create("SCRAM-SHA-1"), b"n,,n=nobody,r=client") for _ in range(2)]
        self.assertEqual(challenges[0], challenges[1])

    def test_names_that_nobody_has(self) -> None:
        for name in (b"user@example.org", b"us er", b"x" * 1024):
            self.assert_failure("not-authorized", self.create("SCRAM-SHA-1"), b"n,,n=" + name + b",r=client")

    def test_authorization_identity(self) -> None:
        self.challenge(self.create("SCRAM-SHA-1"), b"n,a=user@example.org,n=user,r=client")
        for authzid in (b"other@example.org", b"user", b"user@example.org/phone", b"=2C@=3D"):
            self.assert_failure("invalid-authzid", self.create("SCRAM-SHA-1"), b"n,a=" + authzid + b",n=user,r=client")

    def test_downgrade(self) -> None:
        self.assert_failure("not-authorized", self.create("SCRAM-SHA-1"), b"y,,n=user,r=client")
        without_plus = self.create("SCRAM-SHA-1", bindings={}, offered=("SCRAM-SHA-1", "PLAIN"))
        self.challenge(without_plus, b"y,,n=user,r=client")

    def test_wrong_nonce(self) -> None:
        mechanism = self.create("SCRAM-SHA-1")
        failure = self.assert_failure("not-authorized", mechanism, self.final(mechanism, nonce=b"client"))
        self.assertEqual(failure.text, "wrong nonce")

    def test_malformed_first_messages(self) -> None:
        for data in (
            b"",
            b"\0user\0pencil",
            b"n,,n=user",
            b"n,,n=us\0er,r=client",
            b"n,,n=us=er,r=client",
            b"n,,n=user,r=client\0",
            b"n,,n=user,r=client\xff",
            b"n,,m=1,n=user,r=client",
            b"p=tls-exporter,,n=user,r=client",
            b"n,,n=user,r=" + b"x" * MAX_MESSAGE_BYTES,
        ):
            self.assert_failure("malformed-request", self.create("SCRAM-SHA-1"), data)
        for data in (b"n,,n=user,r=client", b"y,,n=user,r=client", b"p=tls-unique,,n=user,r=client"):
            self.assert_failure("malformed-request", self.create("SCRAM-SHA-1-PLUS"), data)

    def test_malformed_last_messages(self) -> None:
        for data in (b"", b"c=biws", b"c=b\0ws,r=client,p=AAAA", b"c=biws,r=client,p=\xff", b"n,,n=user,r=client"):
            mechanism = self.create("SCRAM-SHA-1")
            self.challenge(mechanism, b"n,,n=user,r=client")
            self.assert_failure("malformed-request", mechanism, data)

    def test_no_second_try(self) -> None:
        mechanism = self.create("SCRAM-SHA-1")
        final = self.final(mechanism)
        self.assert_failure("not-authorized", mechanism, final)
        self.assert_failure("malformed-request", mechanism, final)

    def test_database_away(self) -> None:
        mechanism = self.create("SCRAM-SHA-1", accounts=accounts_of(AwayAuth()))
        self.assert_failure("temporary-auth-failure", mechanism, b"n,,n=user,r=client")


_PIECES = st.sampled_from(
    [
        b"",
        *b"n y p=tls-exporter p=tls-server-end-point a=user@example.org a= n=user n=x=2C n=\xc3\xbc r=client r=\0 m=x "
        b"x=1 c=biws c=eSws c== p=AAAA p= v=1 e=other-error \xff \0 \0user\0pencil \xed\xa0\x80 i=4096 s=AAAA".split(),
    ]
)
_MESSAGES = st.none() | st.binary() | st.lists(_PIECES, max_size=8).map(b",".join)


class GarbageTests(MechanismTestCase):
    @given(st.sampled_from(ALL), st.booleans(), st.lists(_MESSAGES, min_size=1, max_size=4))
    def test_only_sasl_failures_come_out(self, name: str, well_begun: bool, messages: list[bytes | None]) -> None:
        mechanism = self.create(name)
        if well_begun and name.startswith("SCRAM"):
            flag = b"p=tls-exporter" if name.endswith("-PLUS") else b"n"
            challenge = self.challenge(mechanism, flag + b",,n=user,r=client")
            nonce = challenge.split(b",")[0]
            messages = [message and message.replace(b"r=client", nonce) for message in messages]
        for message in messages:
            outcome = Deferred.fromCoroutine(mechanism.step(message))
            outcome.addErrback(lambda failure: failure.trap(SaslFailure))
            result = self.successResultOf(outcome)
            if isinstance(result, Success):
                self.assertEqual((name, message), ("PLAIN", b"\0user\0pencil"))
