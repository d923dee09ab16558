"""Stream headers: RFC 6120 4.2, 4.7, 4.8, 4.9."""

from twisted.trial.unittest import TestCase

from dynxmpp.wire.ns import NS_CLIENT, NS_STREAMS, NS_XML
from tests.fixtures.c2s import NOTHING, C2SServer, Client, plain

LANG = (NS_XML, "lang")


class HeaderCase(TestCase):
    def setUp(self) -> None:
        self.server = C2SServer()

    def refused(self, condition: str, sent: str | bytes, server: C2SServer | None = None) -> Client:
        """What is sent instead of a good header ends the stream with this error; who else is there goes on."""
        server = server or self.server
        bystander = server.connects("192.0.2.9")
        bystander.header()
        client = server.connects()
        client.sends(sent)
        self.assertEqual(condition, client.stream_error(), sent)
        self.assertEqual(1, len(client.headers), "an error needs a header of ours, and one only")
        self.assertEqual("1.0", client.response["version"])
        self.assertTrue(bystander.is_open)
        bystander.loses()
        self.assertEqual(NOTHING, server.balance)
        return client

    def refused_attributes(self, condition: str, sender: str, **attributes: str | None) -> None:
        """A header with these attributes is refused, by a header from `sender`."""
        bystander = self.server.connects("192.0.2.9")
        bystander.header()
        client = self.server.connects()
        client.header(**attributes)  # type: ignore[arg-type]
        self.assertEqual(condition, client.stream_error(), attributes)
        self.assertEqual(sender, client.response["from"], attributes)
        self.assertTrue(bystander.is_open)

    def accepted(self, **attributes: str | None) -> Client:
        client = self.server.connects()
        client.header(**attributes)  # type: ignore[arg-type]
        client.receives("features")
        self.assertTrue(client.is_open)
        return client


class Namespaces(HeaderCase):
    def test_wrong_stream_namespace(self) -> None:
        sent = f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='urn:wrong' to='a.example' version='1.0'>"
        client = self.refused("invalid-namespace", sent)
        self.assertEqual("main.example", client.response["from"])

    def test_no_stream_namespace(self) -> None:
        self.refused("invalid-namespace", "<stream to='a.example' version='1.0'>")

    def test_wrong_content_namespace(self) -> None:
        for uri in ("jabber:server", "urn:wrong"):
            self.refused(
                "invalid-namespace",
                f"<stream:stream xmlns='{uri}' xmlns:stream='{NS_STREAMS}' to='a.example' version='1.0'>",
            )

    def test_no_content_namespace(self) -> None:
        sent = f"<stream:stream xmlns:stream='{NS_STREAMS}' to='a.example' version='1.0'>"
        self.refused("invalid-namespace", sent)

    def test_the_root_is_no_stream(self) -> None:
        sent = f"<stream:flow xmlns='{NS_CLIENT}' xmlns:stream='{NS_STREAMS}' to='a.example' version='1.0'>"
        self.refused("bad-format", sent)

    def test_an_undeclared_prefix(self) -> None:
        self.refused("bad-namespace-prefix", f"<stream:stream xmlns='{NS_CLIENT}' to='a.example' version='1.0'>")

    async def test_any_prefix_will_do(self) -> None:
        client = self.server.connects()
        head = f"<s:stream xmlns='{NS_CLIENT}' xmlns:s='{NS_STREAMS}' to='a.example' version='1.0'>"
        client.sends(head)
        client.receives("features")
        client.sends(plain("ann"))
        client.receives("success")
        client._expect_header()
        client.sends(head)
        client.receives("features")
        self.assertEqual("result", client.binds("phone")["type"])
        client.sends("<message to='ann@a.example/phone' id='m'/></s:stream>")
        self.assertEqual("m", client.receives("message")["id"])
        self.assertTrue(client.transport.disconnecting)

    def test_the_stream_namespace_as_default(self) -> None:
        """RFC 6120 4.8.5 allows it, and then every stanza declares its own; nobody does, and content is no stanza."""
        self.refused("invalid-namespace", f"<stream xmlns='{NS_STREAMS}' to='a.example' version='1.0'>")


class Domains(HeaderCase):
    def test_no_to(self) -> None:
        self.refused_attributes("improper-addressing", "main.example", to=None)

    def test_a_malformed_to(self) -> None:
        for to in ("", "a b.example", "ann@", "a..example", "ann@a.example", "a.example/x", "x" * 1024, "[::1", "."):
            self.refused_attributes("improper-addressing", "main.example", to=to)

    def test_nobody_else_serves_it(self) -> None:
        for to in ("nowhere.example", "main.example", "muclight.a.example", "x.a.example", "example", "basic"):
            self.refused_attributes("host-unknown", "main.example", to=to)

    def test_a_subdomain_that_answers_stanzas_has_no_streams(self) -> None:
        host_type = self.server.type_of("a.example")
        self.server.domains.register_subdomain("basic", host_type, "rooms.@HOST@")
        self.assertIsNotNone(self.server.domains.find_subdomain("rooms.a.example"))
        self.refused_attributes("host-unknown", "main.example", to="rooms.a.example")

    def test_a_disabled_domain(self) -> None:
        self.accepted(to="b.example")
        self.server.domains.delete("b.example")
        self.refused_attributes("host-unknown", "main.example", to="b.example")
        self.accepted(to="a.example")

    def test_other_spellings_of_a_domain(self) -> None:
        for to in ("A.Example", "a.example.", "\N{FULLWIDTH LATIN SMALL LETTER A}.example"):
            client = self.accepted(to=to)
            self.assertEqual("a.example", client.response["from"])


class Versions(HeaderCase):
    def test_accepted(self) -> None:
        for version in ("1.0", "1.1", "1.00", "01.0", "2.0", "10.23"):
            client = self.accepted(version=version)
            self.assertEqual("1.0", client.response["version"], version)

    def test_refused(self) -> None:
        for version in (
            None, "", "0.9", "0.0", "1", "1.", ".0", "one", "1.x", "-1.0", "+1.0", " 1.0", "1_0.0", "1.0.0",
            "\N{ARABIC-INDIC DIGIT ONE}.0", "9" * 5000,
        ):  # fmt: skip
            self.refused_attributes("unsupported-version", "a.example", version=version)


class Answers(HeaderCase):
    def test_each_stream_has_an_id_of_its_own(self) -> None:
        ids = {self.accepted().response["id"] for _ in range(10)}
        self.assertEqual(10, len(ids))
        self.assertTrue(all(len(i) >= 24 for i in ids))

    def test_a_restart_has_a_new_id(self) -> None:
        client = self.server.connects()
        client.authenticated()
        first, second = (h["id"] for h in client.headers)
        self.assertNotEqual(first, second)

    def test_from_comes_back_bare(self) -> None:
        for sender in ("ann@a.example", "Ann@A.example/phone"):
            client = self.accepted(**{"from": sender})
            self.assertEqual("ann@a.example", client.response["to"])

    def test_a_from_that_is_no_address_is_not_echoed(self) -> None:
        for sender in ("", "@", "a b@c", "x" * 4000, "&apos;/&gt;&lt;evil/&gt;"):
            client = self.accepted(**{"from": sender})
            self.assertFalse(client.response.hasAttribute("to"), sender)

    def test_without_from_there_is_no_to(self) -> None:
        self.assertFalse(self.accepted().response.hasAttribute("to"))

    def test_language(self) -> None:
        self.assertEqual("en", self.accepted().response[LANG])
        self.assertEqual("en", self.accepted(xml__lang="de").response[LANG])

    async def test_the_language_of_the_stream_goes_with_stanzas_that_name_none(self) -> None:
        """RFC 6120 4.7.4."""
        ann = self.server.connects()
        ann.header()
        ann.receives("features")
        ann.authenticates("ann")
        ann.header(xml__lang="de")
        ann.receives("features")
        ann.binds("phone")
        bob = await self.server.logged_in("bob@a.example/x")
        ann.sends("<message to='bob@a.example/x'/><message to='bob@a.example/x' xml:lang='fr'/>")
        self.assertEqual(["de", "fr"], [m.getAttribute(LANG) for m in bob.received()])
        bob.sends("<message to='ann@a.example/phone'/>")
        self.assertIsNone(ann.receives("message").getAttribute(LANG))


class Junk(HeaderCase):
    def test_http(self) -> None:
        client = self.refused("not-well-formed", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertEqual("main.example", client.response["from"])

    def test_a_tls_client_hello(self) -> None:
        self.refused("not-well-formed", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)))

    def test_a_tag_that_never_ends(self) -> None:
        self.refused("policy-violation", b"<stream:stream " + b"x" * 300_000)

    def test_other_encodings(self) -> None:
        self.refused("unsupported-encoding", "<?xml version='1.0'?><stream:stream".encode("utf-16"))
        self.refused("unsupported-encoding", b"<?xml version='1.0' encoding='iso-8859-1'?><stream:stream>")

    def test_restricted_xml(self) -> None:
        for sent in (
            "<!DOCTYPE x><stream:stream",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><stream:stream",
            "<?php ?><stream:stream",
            "<!-- hello --><stream:stream",
        ):
            self.refused("restricted-xml", sent)

    def test_a_header_and_its_end(self) -> None:
        client = self.server.connects()
        client.header()
        client.sends("</stream:stream>")
        client.receives("features")
        self.assertTrue(client.closed)
        self.assertFalse(client.transport.connected)
        self.assertEqual(NOTHING, self.server.balance)

    def test_a_header_that_is_its_own_end(self) -> None:
        client = self.server.connects()
        client.sends(f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='{NS_STREAMS}' to='a.example' version='1.0'/>")
        client.receives("features")
        self.assertTrue(client.closed)
        self.assertEqual(NOTHING, self.server.balance)

    def test_a_byte_at_a_time(self) -> None:
        client = self.server.connects()
        for byte in f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='{NS_STREAMS}' to='a.example' version='1.0'>":
            client.sends(byte)
        client.receives("features")


class HiddenName(HeaderCase):
    def setUp(self) -> None:
        self.server = C2SServer(hide_service_name=True)

    def silent(self, sent: str | bytes) -> None:
        client = self.server.connects()
        client.sends(sent)
        self.assertEqual(b"", bytes(client.transport.sent), sent)
        self.assertFalse(client.transport.connected)
        self.assertEqual(NOTHING, self.server.balance)

    def test_garbage_gets_no_answer(self) -> None:
        for sent in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"<!DOCTYPE x>",
            b"<html>",
            f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='urn:wrong' to='a.example' version='1.0'>".encode(),
            b"<stream:stream " + b"x" * 300_000,
        ):
            self.silent(sent)

    def test_what_follows_garbage_is_not_looked_at(self) -> None:
        for then in ("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", plain("ann"), "<message/>"):
            self.silent(f"<stream:stream xmlns='{NS_CLIENT}' xmlns:stream='urn:wrong'>{then}")

    def test_silence_gets_no_answer(self) -> None:
        client = self.server.connects()
        self.server.clock.advance(30)
        self.assertEqual(b"", bytes(client.transport.sent))
        self.assertFalse(client.transport.connected)

    def test_an_unknown_domain_does(self) -> None:
        self.refused_attributes("host-unknown", "main.example", to="nowhere.example")

    def test_garbage_after_a_good_header_does(self) -> None:
        client = self.accepted()
        client.sends("<a><b></a>")
        self.assertEqual("not-well-formed", client.stream_error())
