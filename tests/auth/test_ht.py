"""Hashed Token mechanisms (draft-schmaus-kitten-sasl-ht)."""

import hashlib
import hmac

from twisted.trial.unittest import TestCase

from dynxmpp.auth.ht import Claim, HtSyntaxError, answer, mechanisms, proves, read

TOKEN = b"secret-token"
HASH = bytes(range(32))


class Messages(TestCase):
    def test_a_message(self) -> None:
        self.assertEqual(Claim("ann", HASH), read(b"ann\0" + HASH))

    def test_the_hash_may_contain_anything(self) -> None:
        for hashed in (bytes(32), b"\0" + HASH[1:], HASH[:31] + b"\0"):
            self.assertEqual(Claim("änn", hashed), read("änn".encode() + b"\0" + hashed))

    def test_malformed(self) -> None:
        for message in (
            b"",
            b"ann",
            b"\0" + HASH,
            b"ann\0",
            b"ann\0" + HASH[1:],
            b"ann\0" + HASH + b"x",
            b"\xff\0" + HASH,
        ):
            with self.subTest(message=message), self.assertRaises(HtSyntaxError):
                read(message)


class Proofs(TestCase):
    def test_of_the_client(self) -> None:
        """By another way of computing it."""
        for binding in (b"", b"exported"):
            hashed = hmac.new(TOKEN, b"Initiator" + binding, hashlib.sha256).digest()
            self.assertTrue(proves(hashed, TOKEN, binding))
            self.assertFalse(proves(hashed, TOKEN + b"x", binding))
            self.assertFalse(proves(hashed, TOKEN, binding + b"x"))
            self.assertFalse(proves(hashed[:31] + bytes([hashed[31] ^ 1]), TOKEN, binding))

    def test_of_the_server_is_another(self) -> None:
        for binding in (b"", b"exported"):
            self.assertEqual(hmac.new(TOKEN, b"Responder" + binding, hashlib.sha256).digest(), answer(TOKEN, binding))
            self.assertFalse(proves(answer(TOKEN, binding), TOKEN, binding))


class Offers(TestCase):
    def test_what_the_connection_can_do(self) -> None:
        none, endp, expr = "HT-SHA-256-NONE", "HT-SHA-256-ENDP", "HT-SHA-256-EXPR"
        for bindings, expected in (
            ({}, (none,)),
            ({"tls-server-end-point": b"x"}, (endp, none)),
            ({"tls-exporter": b"x"}, (expr, none)),
            ({"tls-server-end-point": b"x", "tls-exporter": b"x", "tls-unique": b"x"}, (expr, endp, none)),
        ):
            self.assertEqual(expected, mechanisms(bindings))
