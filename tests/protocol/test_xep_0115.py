"""XEP-0115 Entity Capabilities."""

import base64
import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.modules.caps import Caps
from dynxmpp.modules.disco import Disco, DiscoConfig, ServerInfo
from dynxmpp.modules.ping import Ping
from dynxmpp.protocol.disco_info import (
    CAPS_NODE,
    NS_CAPS,
    NS_DISCO_INFO,
    DiscoInfo,
    Identity,
    IllFormedInfo,
    InfoForm,
    parse_info,
    supported_hash,
)
from tests.fixtures.dialogue import parse
from tests.protocol.support import Dialogues

#: Section 5.2.
EXODUS = DiscoInfo(
    (Identity("client", "pc", name="Exodus 0.9.1"),),
    (
        "http://jabber.org/protocol/muc",
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
        "http://jabber.org/protocol/caps",
    ),
)

EXODUS_TEXT = (
    "client/pc//Exodus 0.9.1<http://jabber.org/protocol/caps<http://jabber.org/protocol/disco#info<"
    "http://jabber.org/protocol/disco#items<http://jabber.org/protocol/muc<"
)

#: Section 5.3.
PSI = """
<iq from='benvolio@capulet.lit/230193' id='disco1' to='juliet@capulet.lit/chamber' type='result'>
  <query xmlns='http://jabber.org/protocol/disco#info'
         node='http://psi-im.org#q07IKJEyjvHSyhy//CH0CxmKi8w='>
    <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
    <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
    <feature var='http://jabber.org/protocol/caps'/>
    <feature var='http://jabber.org/protocol/disco#info'/>
    <feature var='http://jabber.org/protocol/disco#items'/>
    <feature var='http://jabber.org/protocol/muc'/>
    <x xmlns='jabber:x:data' type='result'>
      <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
      <field var='ip_version' type='text-multi'><value>ipv4</value><value>ipv6</value></field>
      <field var='os'><value>Mac</value></field>
      <field var='os_version'><value>10.5.1</value></field>
      <field var='software'><value>Psi</value></field>
      <field var='software_version'><value>0.11</value></field>
    </x>
  </query>
</iq>
"""


def query(inner: str) -> Any:
    return parse(f"<iq type='result'><query xmlns='{NS_DISCO_INFO}'>{inner}</query></iq>").query


class Vectors(TestCase):
    def test_simple(self) -> None:
        self.assertEqual("QgayPKawpkPSDYmwT/WM94uAlu0=", EXODUS.verification_string())
        self.assertEqual(EXODUS_TEXT, EXODUS.verification_text())

    def test_complex(self) -> None:
        info = parse_info(parse(PSI).query)
        self.assertEqual("q07IKJEyjvHSyhy//CH0CxmKi8w=", info.verification_string())
        self.assertTrue(
            info.verification_text().endswith(
                "urn:xmpp:dataforms:softwareinfo<ip_version<ipv4<ipv6<os<Mac<os_version<10.5.1<software<Psi<"
                "software_version<0.11<"
            )
        )

    def test_other_hashes(self) -> None:
        self.assertEqual([True, True, False], [supported_hash(name) for name in ("sha-1", "sha-256", "md2")])
        digest = hashlib.sha256(EXODUS_TEXT.encode()).digest()
        self.assertEqual(base64.b64encode(digest).decode(), EXODUS.verification_string("sha-256"))
        self.assertRaises(KeyError, EXODUS.verification_string, "md2")

    def test_order_is_that_of_octets(self) -> None:
        # U+E000 comes before U+10000 in UTF-8, after it in UTF-16.
        info = DiscoInfo((), ("\U00010000", "\ue000", "b", "B"))
        self.assertEqual("B<b<\ue000<\U00010000<", info.verification_text())

    @given(st.randoms(use_true_random=False))
    def test_order_of_what_was_received_is_no_matter(self, random: Any) -> None:
        info = parse_info(parse(PSI).query)
        identities, features = list(info.identities), list(info.features)
        fields = [(name, tuple(random.sample(values, len(values)))) for name, values in info.forms[0].fields]
        for values in (identities, features, fields):
            random.shuffle(values)
        form = InfoForm(info.forms[0].form_type, tuple(fields))
        shuffled = DiscoInfo(tuple(identities), tuple(features), (form,))
        self.assertEqual("q07IKJEyjvHSyhy//CH0CxmKi8w=", shuffled.verification_string())


class IllFormed(TestCase):
    """Section 5.4."""

    def test_what_must_not_be_trusted(self) -> None:
        for inner in [
            "<identity category='a' type='b' name='c'/><identity category='a' type='b' name='c'/>",
            "<feature var='a'/><feature var='a'/>",
            2 * "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>t</value></field></x>",
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>t</value><value>u</value></field>"
            "</x>",
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'/></x>",
            "<feature var='a&lt;b'/>",
            "<identity category='a' type='b' name='c&lt;d'/>",
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>t</value></field>"
            "<field var='v'><value>a&lt;b</value></field></x>",
        ]:
            self.assertRaises(IllFormedInfo, parse_info, query(inner))

    def test_what_is_passed_over(self) -> None:
        info = parse_info(
            query(
                "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>t</value></field></x>"
                "<x xmlns='jabber:x:data'><field var='other'><value>t</value></field></x>"
                "<x xmlns='urn:other'/><feature xmlns='urn:other' var='no'/><feature var='yes'/>"
                "<identity category='a' type='b' xml:lang='en'/><identity category='a' type='b' xml:lang='de'/>"
            )
        )
        self.assertEqual((("yes",), (), 2), (info.features, info.forms, len(info.identities)))

    @given(
        st.lists(st.tuples(*[st.text("ab/é", max_size=3)] * 4), unique=True, max_size=4),
        st.lists(st.text("ab&'é", min_size=1, max_size=3), unique=True, max_size=4),
        st.lists(st.tuples(st.text("v", min_size=1, max_size=3), st.lists(st.text("w&", max_size=2))), max_size=3),
    )
    def test_what_we_print_we_read(self, identities: Any, features: Any, fields: Any) -> None:
        form = InfoForm("t", tuple((name, tuple(values)) for name, values in fields))
        info = DiscoInfo(tuple(Identity(*parts) for parts in identities), tuple(features), (form,))
        printed = parse(f"<iq type='result'>{info.to_element().toXml()}</iq>")
        self.assertEqual(info.verification_text(), parse_info(printed.query).verification_text())


class OwnCapabilities(Dialogues):
    modules = [
        Caps,
        (Disco, DiscoConfig(server_info=(ServerInfo(name="abuse-addresses", urls=("mailto:a@b",)),))),
        Ping,
    ]

    async def test_what_the_stream_announces_is_what_disco_answers(self) -> None:
        (feature,) = self.module("mod_caps").stream_features
        c = parse(feature.decode())
        self.assertEqual(("c", NS_CAPS, "sha-1", CAPS_NODE), (c.name, c.uri, c["hash"], c["node"]))
        romeo = self.host.session("romeo@montague.example/orchard")
        node = f"{c['node']}#{c['ver']}"
        for domain in ("montague.example", "capulet.example"):
            for asked in ("", f"node='{node}'"):
                xml = f"<iq type='get' id='1' to='{domain}'><query xmlns='{NS_DISCO_INFO}' {asked}/></iq>"
                reply = await romeo.asks(xml)
                self.assertEqual(c["ver"], parse_info(reply.query).verification_string())
                self.assertEqual(node if asked else None, reply.query.getAttribute("node"))
        self.assertIn(NS_CAPS, [e["var"] for e in reply.query.elements() if e.name == "feature"])


class WithoutDisco(Dialogues):
    modules = [Caps]

    async def test_there_is_nothing_to_announce(self) -> None:
        self.assertEqual((), self.module("mod_caps").stream_features)


class WithoutCaps(Dialogues):
    modules = [Disco]

    async def test_nobody_knows_the_node(self) -> None:
        romeo = self.host.session("romeo@montague.example/orchard")
        node = self.module("mod_disco").domain_info().caps_node()
        xml = f"<iq type='get' id='1' to='montague.example'><query xmlns='{NS_DISCO_INFO}' node='{node}'/></iq>"
        self.assertEqual("item-not-found", await self.refusal(romeo, xml))
