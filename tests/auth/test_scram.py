"""SCRAM: the vectors of RFC 5802 and RFC 7677, stored texts, and everything a client may get wrong."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.trial.unittest import TestCase

from dynxmpp.auth.scram import (
    CONFIG_HASHES,
    HASHES,
    MECHANISM_HASHES,
    SALT_BYTES,
    InvalidScramRecord,
    ScramError,
    ScramRecord,
    ScramRefused,
    ScramServer,
    ScramSyntaxError,
    derive,
    derive_all,
    fake_record,
    matches,
    parse_records,
    serialise_records,
    stable_salt,
)

PADTHAI = (
    "==MULTI_SCRAM==,4096,"
    "===SHA1===QClQsw/sfPEnwj4AEp6E1w==|ys1104hRhqMoRputBY5sLHKXoSw=|EJvxXWM42tO7BgW21lNZyBc1dD0=,"
    "==SHA224==dk0ImXFVPoUfqD5FveV7YA==|G0ibQ/YYuCtoun4I+1IF2zJ7Q8x2T23ETnq5Gg==|EvE2EkZcUb3k4CooeOcVFy95P32t+NDX0x"
    "bQUA==,"
    "==SHA256==M7BYKSo04XbzBr4C7b056g==|A779MC05nSGQln5no0hKTGHFSaQ7oguKBZgORW3s+es=|XhtGFf6NDWsnVSCO4xkzPD3qc046fP"
    "L0pATZi7RmaWo=,"
    "==SHA384==Ryu0fA29gbwgqFOBk5Mczw==|k3QwC0Lb1y1/V/31byC5KML5t3mH4JTPjFyeAz7lV2l4SPfzi3JHvLEdoNB5K/VY|kR+LMI/E0Q"
    "BG3oF405/MTAT6NAlCOfPrFOaWH3WBVGM0Viu9Brk6kGwVwXjSP8v0,"
    "==SHA512==SLNuVNcWiNBmnYZNIdj+zg==|3ey3gzSsmbxcLnoc1VKCR/739uKX6uuPCyAzn6x8o87ibcjOdUaU8qhL5X4MUI9UPTt667GagNpV"
    "TmAWTFNsjA==|jUUDbuQ9ae4UnAWS6RV6W4yifX3La3ESjfZjGol+TBROIb/ihR8UawPHrSHkp4yyDJXtRhR9RlHCHy4bcCm1Yg=="
)
"""The example of MongooseIM's page about its format; the password is `padthai`."""

RECORDS = {name: derive("pencil", name, b"saltsaltsaltsalt", 4096) for name in HASHES}


def server(
    hash_name: str = "sha1",
    *,
    nonce: str = "server",
    plus: bool = False,
    plus_offered: bool = False,
    channel_bindings: Mapping[str, bytes] | None = None,
) -> ScramServer:
    return ScramServer(
        hash_name, nonce=nonce, plus=plus, plus_offered=plus_offered, channel_bindings=channel_bindings or {}
    )


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def proof(record: ScramRecord, password: str, signed: bytes) -> bytes:
    """The proof of a client that knows `password`, written down from RFC 5802 section 3."""
    salted = hashlib.pbkdf2_hmac(record.hash_name, password.encode(), record.salt, record.iterations)
    client_key = hmac.digest(salted, b"Client Key", record.hash_name)
    stored_key = hashlib.new(record.hash_name, client_key).digest()
    signature = hmac.digest(stored_key, signed, record.hash_name)
    return b64(bytes(x ^ y for x, y in zip(client_key, signature, strict=True)))


class VectorTests(TestCase):
    def test_rfc_5802_section_5(self) -> None:
        exchange = server(nonce="3rfcNHYJY1ZVvWVs7j")
        first = exchange.client_first(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
        self.assertEqual((first.username, first.authzid), ("user", None))
        record = derive("pencil", "sha1", base64.b64decode("QSXCR+Q6sek8bf92"), 4096)
        self.assertEqual(
            exchange.server_first(record),
            b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        )
        self.assertEqual(
            exchange.client_final(
                b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
            ),
            b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        )

    def test_rfc_7677_section_3(self) -> None:
        exchange = server("sha256", nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        exchange.client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        record = derive("pencil", "sha256", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
        self.assertEqual(
            exchange.server_first(record),
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        self.assertEqual(
            exchange.client_final(
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            ),
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        )


class SecondOpinionTests(TestCase):
    """The client of scramp, which shares no code with us, agrees."""

    def log_in(self, mechanism: str, password: str, **options: Any) -> None:
        hash_name = MECHANISM_HASHES[mechanism.removesuffix("-PLUS")]
        client = ScramClient([mechanism], "user", password, **options)
        bindings = dict([options["channel_binding"]]) if options else {}
        exchange = server(
            hash_name, plus=mechanism.endswith("-PLUS"), plus_offered=bool(bindings), channel_bindings=bindings
        )
        exchange.client_first(client.get_client_first().encode())
        client.set_server_first(exchange.server_first(RECORDS[hash_name]).decode())
        client.set_server_final(exchange.client_final(client.get_client_final().encode()).decode())

    def test_right_password(self) -> None:
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            self.log_in(mechanism, "pencil")

    def test_wrong_password(self) -> None:
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            with self.assertRaises(ScramRefused):
                self.log_in(mechanism, "pen")

    def test_channel_binding(self) -> None:
        for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS"):
            self.log_in(mechanism, "pencil", channel_binding=("tls-server-end-point", b"hash of the certificate"))


class ExchangeTestCase(TestCase):
    """Drives one exchange by hand."""

    bindings: Mapping[str, bytes] = {"tls-exporter": b"exported", "tls-server-end-point": b"certificate"}

    def finish(
        self,
        exchange: ScramServer,
        first: bytes,
        *,
        bound: bytes | None = None,
        nonce: bytes = b"clientserver",
        extensions: bytes = b"",
        password: str = "pencil",
        record: ScramRecord = RECORDS["sha1"],
    ) -> bytes:
        """From the first message to the last; `bound` is what the client puts into `c=`."""
        exchange.client_first(first)
        challenge = exchange.server_first(record)
        gs2_length = first.index(b",", first.index(b",") + 1) + 1
        without_proof = b"c=" + b64(first[:gs2_length] if bound is None else bound) + b",r=" + nonce + extensions
        signed = first[gs2_length:] + b"," + challenge + b"," + without_proof
        return exchange.client_final(without_proof + b",p=" + proof(record, password, signed))

    def assert_syntax_error(self, first: bytes, value: str = "other-error", **options: Any) -> None:
        with self.assertRaises(ScramSyntaxError, msg=repr(first)) as caught:
            server(**options).client_first(first)
        self.assertEqual(caught.exception.value, value, first)

    def assert_refused(self, value: str, *arguments: Any, **options: Any) -> None:
        with self.assertRaises(ScramRefused) as caught:
            self.finish(*arguments, **options)
        self.assertEqual(caught.exception.value, value)


class HeaderTests(ExchangeTestCase):
    def test_client_without_channel_binding(self) -> None:
        self.finish(server(), b"n,,n=user,r=client")
        self.finish(server(plus_offered=True, channel_bindings=self.bindings), b"n,,n=user,r=client")

    def test_client_that_thinks_we_cannot_and_is_right(self) -> None:
        self.finish(server(), b"y,,n=user,r=client")

    def test_client_that_thinks_we_cannot_was_lied_to(self) -> None:
        with self.assertRaises(ScramRefused) as caught:
            server(plus_offered=True, channel_bindings=self.bindings).client_first(b"y,,n=user,r=client")
        self.assertEqual(caught.exception.value, "server-does-support-channel-binding")

    def test_both_channel_binding_types(self) -> None:
        for name, data in self.bindings.items():
            header = b"p=" + name.encode() + b",,"
            exchange = server(plus=True, plus_offered=True, channel_bindings=self.bindings)
            self.finish(exchange, header + b"n=user,r=client", bound=header + data)

    def test_channel_binding_of_another_connection(self) -> None:
        header = b"p=tls-exporter,,"
        for bound in (
            header + b"exporteD",
            header,
            header + b"certificate",
            b"n,,",
            b"p=tls-server-end-point,,exported",
        ):
            exchange = server(plus=True, plus_offered=True, channel_bindings=self.bindings)
            self.assert_refused("channel-bindings-dont-match", exchange, header + b"n=user,r=client", bound=bound)

    def test_header_repeated_differently(self) -> None:
        self.assert_refused("channel-bindings-dont-match", server(), b"n,,n=user,r=client", bound=b"y,,")
        self.assert_refused("channel-bindings-dont-match", server(), b"n,a=user,n=user,r=client", bound=b"n,,")

    def test_flag_and_mechanism_disagree(self) -> None:
        plus: dict[str, Any] = {"plus": True, "plus_offered": True, "channel_bindings": self.bindings}
        self.assert_syntax_error(b"n,,n=user,r=client", **plus)
        self.assert_syntax_error(b"y,,n=user,r=client", **plus)
        self.assert_syntax_error(
            b"p=tls-exporter,,n=user,r=client",
            "channel-binding-not-supported",
            plus_offered=True,
            channel_bindings=self.bindings,
        )

    def test_unknown_channel_binding_type(self) -> None:
        self.assert_syntax_error(
            b"p=tls-unique,,n=user,r=client",
            "unsupported-channel-binding-type",
            plus=True,
            plus_offered=True,
            channel_bindings=self.bindings,
        )

    def test_malformed_channel_binding_type(self) -> None:
        for name in (b"", b"tls exporter", b"tls_exporter", "é".encode()):
            self.assert_syntax_error(b"p=" + name + b",,n=user,r=client", plus=True, channel_bindings=self.bindings)

    def test_malformed_headers(self) -> None:
        for first in (b"", b"n", b"n,", b",,n=user,r=c", b"x,,n=user,r=c", b"N,,n=user,r=c", b"nn,,n=user,r=c"):
            self.assert_syntax_error(first)
        for first in (b"n,b=user,n=user,r=c", b"n,a=,n=user,r=c", b"n,user,n=user,r=c", b"n,a=x=2c,n=user,r=c"):
            self.assert_syntax_error(first)

    def test_authorization_identity(self) -> None:
        first = server().client_first(b"n,a=a=3Db=2Cc@example.org,n=user,r=client")
        self.assertEqual(first.authzid, "a=b,c@example.org")
        self.finish(server(), b"n,a=user@example.org,n=user,r=client")


class FirstMessageTests(ExchangeTestCase):
    def test_user_name_is_unescaped(self) -> None:
        self.assertEqual(server().client_first(b"n,,n=a=2Cb=3Dc,r=client").username, "a,b=c")
        self.assertEqual(server().client_first(b"n,,n=a=3D2C,r=client").username, "a=2C")
        self.assertEqual(server().client_first("n,,n=jürgen,r=client".encode()).username, "jürgen")

    def test_malformed_user_names(self) -> None:
        for name in (b"", b"a=", b"a=2c", b"=3d", b"a=b", b"a\0b", b"==3D"):
            self.assert_syntax_error(b"n,,n=" + name + b",r=client", "invalid-username-encoding")

    def test_not_utf8(self) -> None:
        self.assert_syntax_error(b"n,,n=us\xffer,r=client", "invalid-encoding")

    def test_mandatory_extension(self) -> None:
        self.assert_syntax_error(b"n,,m=secret,n=user,r=client", "extensions-not-supported")
        self.assert_syntax_error(b"n,,n=user,r=client,m=secret", "extensions-not-supported")

    def test_optional_extensions_are_ignored_and_signed(self) -> None:
        self.finish(server(), b"n,,n=user,r=client,x=1,y==")

    def test_malformed_extensions(self) -> None:
        for extension in (b"", b"x", b"x=", b"xy=1", b"1=x", b"x=\0", b"n=other", b"r=other", b"p=other"):
            self.assert_syntax_error(b"n,,n=user,r=client," + extension)

    def test_attributes_missing_or_in_another_order(self) -> None:
        for bare in (b"", b"n=user", b"r=client", b"r=client,n=user", b"user,client", b"n=user,n=user,r=client"):
            self.assert_syntax_error(b"n,," + bare)

    def test_malformed_nonces(self) -> None:
        for nonce in (b"", b"a b", b"a\x7f", b"\t", "é".encode()):
            self.assert_syntax_error(b"n,,n=user,r=" + nonce)


class FinalMessageTests(ExchangeTestCase):
    def setUp(self) -> None:
        self.exchange = server()
        self.exchange.client_first(b"n,,n=user,r=client")
        self.exchange.server_first(RECORDS["sha1"])

    def test_before_the_challenge(self) -> None:
        with self.assertRaises(RuntimeError):
            server().client_final(b"c=biws,r=clientserver,p=AAAA")

    def test_wrong_nonces(self) -> None:
        for nonce in (b"client", b"server", b"clientserverx", b"clientserve", b"CLIENTSERVER"):
            self.assert_refused("other-error", server(), b"n,,n=user,r=client", nonce=nonce)

    def test_wrong_password(self) -> None:
        self.assert_refused("invalid-proof", server(), b"n,,n=user,r=client", password="pencil ")

    def test_proof_of_another_exchange(self) -> None:
        exchange = server(nonce="server2")
        exchange.client_first(b"n,,n=user,r=client")
        challenge = exchange.server_first(RECORDS["sha1"])
        stale = proof(RECORDS["sha1"], "pencil", b"n=user,r=client," + challenge.replace(b"server2", b"server"))
        with self.assertRaises(ScramRefused):
            exchange.client_final(b"c=biws,r=clientserver2,p=" + stale)

    def test_proof_of_another_length(self) -> None:
        for length in (0, 1, 19, 21, 32):
            with self.assertRaises(ScramRefused) as caught:
                self.exchange.client_final(b"c=biws,r=clientserver,p=" + b64(b"x" * length))
            self.assertEqual(caught.exception.value, "invalid-proof")

    def test_optional_extensions_are_ignored_and_signed(self) -> None:
        self.finish(server(), b"n,,n=user,r=client", extensions=b",x=1")

    def test_mandatory_extension(self) -> None:
        with self.assertRaises(ScramSyntaxError) as caught:
            self.exchange.client_final(b"c=biws,r=clientserver,m=x,p=" + b64(b"x" * 20))
        self.assertEqual(caught.exception.value, "extensions-not-supported")

    def test_malformed(self) -> None:
        good = b64(b"x" * 20)
        for message in (
            b"",
            b"c=biws",
            b"c=biws,r=clientserver",
            b"r=clientserver,c=biws,p=" + good,
            b"c=biws,p=" + good,
            b"c=biws,r=clientserver,p=" + good + b",x=1",
            b"c=biws,r=clientserver,p=" + good + b",p=" + good,
            b"c=biws,r=clientserver,x,p=" + good,
            b"c=bi ws,r=clientserver,p=" + good,
            b"c=biws=,r=clientserver,p=" + good,
            b"c=bix=,r=clientserver,p=" + good,
            b"c=biws,r=clientserver,p=" + good[:-1],
            b"c=biws,r=clientserver,p=" + good + b"\n",
            b"c=biws,r=clientserver,p=\xff",
            "c=biwß,r=clientserver,p=".encode() + good,
        ):
            with self.assertRaises(ScramSyntaxError, msg=repr(message)):
                self.exchange.client_final(message)

    @given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
    def test_garbage(self, message: bytes) -> None:
        with self.assertRaises(ScramError):
            self.exchange.client_final(message)


class RecordTests(TestCase):
    def test_text_of_another_server(self) -> None:
        records = parse_records(PADTHAI)
        self.assertEqual(list(records), list(HASHES))
        for record in records.values():
            self.assertTrue(matches(record, "padthai"))
            self.assertFalse(matches(record, "padthais"))
        self.assertEqual(serialise_records(records.values()), PADTHAI)

    def test_old_text_of_another_server(self) -> None:
        text = "==SCRAM==,tmi5IE+9pceRV/jkPLFHEaVY33c=,MiWNa8T3dniVDwmh77ufJ41fpAQ=,inKXODlSY5y5SCsLxibi0w==,4096"
        (record,) = parse_records(text).values()
        self.assertEqual((record.hash_name, record.iterations), ("sha1", 4096))
        self.assertTrue(matches(record, "misio"))

    def test_some_hashes_in_any_order(self) -> None:
        salts = {"sha512": b"0" * SALT_BYTES, "sha256": b"1" * SALT_BYTES}
        records = derive_all("pencil", salts, 1)
        parsed = parse_records(serialise_records(records))
        self.assertEqual(list(parsed), ["sha256", "sha512"])
        self.assertEqual(set(parsed.values()), set(records))

    def test_different_iterations_cannot_be_written(self) -> None:
        with self.assertRaises(InvalidScramRecord):
            serialise_records([RECORDS["sha1"], replace(RECORDS["sha256"], iterations=4097)])
        with self.assertRaises(InvalidScramRecord):
            serialise_records([])

    def test_broken_texts(self) -> None:
        sha1 = "===SHA1===QClQsw/sfPEnwj4AEp6E1w==|ys1104hRhqMoRputBY5sLHKXoSw=|EJvxXWM42tO7BgW21lNZyBc1dD0="
        parse_records(f"==MULTI_SCRAM==,4096,{sha1}")
        for text in (
            "",
            "secret",
            "==MULTI_SCRAM==",
            "==MULTI_SCRAM==,4096",
            f"==MULTI_SCRAM==,{sha1}",
            f"==MULTI_SCRAM==,0,{sha1}",
            f"==MULTI_SCRAM==,-1,{sha1}",
            f"==MULTI_SCRAM==,4_096,{sha1}",
            f"==MULTI_SCRAM==,4096,{sha1},",
            f"==MULTI_SCRAM==,4096,{sha1}|",
            f"==MULTI_SCRAM==,4096,{sha1}x",
            f"==MULTI_SCRAM==,4096,{sha1.replace('===SHA1===', '==SHA256==')}",
            f"==MULTI_SCRAM==,4096,{sha1.replace('===SHA1===', '===SHA2===')}",
            f"==MULTI_SCRAM==,4096,{sha1.replace('QClQsw/sfPEnwj4AEp6E1w==', '')}",
            "==SCRAM==,tmi5IE+9pceRV/jkPLFHEaVY33c=,MiWNa8T3dniVDwmh77ufJ41fpAQ=,4096",
        ):
            with self.assertRaises(InvalidScramRecord, msg=text):
                parse_records(text)

    @given(st.text())
    def test_garbage(self, text: str) -> None:
        for prefix in ("", "==MULTI_SCRAM==,", "==MULTI_SCRAM==,1,===SHA1===", "==SCRAM==,"):
            with self.assertRaises(InvalidScramRecord):
                parse_records(prefix + text)

    def test_configuration_names(self) -> None:
        self.assertEqual(set(CONFIG_HASHES.values()), set(HASHES))
        self.assertEqual(MECHANISM_HASHES["SCRAM-SHA-1"], "sha1")
        self.assertEqual(MECHANISM_HASHES["SCRAM-SHA-256"], "sha256")


class FakeRecordTests(ExchangeTestCase):
    def test_same_each_time(self) -> None:
        self.assertEqual(
            fake_record(b"secret", "example.org", "nobody", "sha1", 4096),
            fake_record(b"secret", "example.org", "nobody", "sha1", 4096),
        )

    def test_depends_on_everything(self) -> None:
        salts = {
            stable_salt(*arguments)
            for arguments in (
                (b"secret", "example.org", "nobody", "sha1"),
                (b"other", "example.org", "nobody", "sha1"),
                (b"secret", "example.com", "nobody", "sha1"),
                (b"secret", "example.org", "somebody", "sha1"),
                (b"secret", "example.org", "nobody", "sha256"),
            )
        }
        self.assertEqual(len(salts), 5)

    def test_looks_like_a_real_one(self) -> None:
        for name, real in RECORDS.items():
            fake = fake_record(b"secret", "example.org", "nobody", name, 4096)
            self.assertEqual(fake.hash_name, name)
            for field in ("salt", "stored_key", "server_key"):
                self.assertEqual(len(getattr(fake, field)), len(getattr(real, field)))
            self.assertNotEqual(fake.stored_key, fake.server_key)
            parse_records(serialise_records([fake]))

    def test_fails_like_a_wrong_password(self) -> None:
        fake = fake_record(b"secret", "example.org", "user", "sha1", 4096)
        self.assert_refused("invalid-proof", server(), b"n,,n=user,r=client", record=fake)
