"""XEP-0313 4.1.5 and 5: the form of queries, and the metadata of an archive."""

from typing import Any

from dynxmpp.jid import JID
from dynxmpp.modules.mam.reading import Owner
from tests.fixtures.dialogue import canonical, parse
from tests.mam.archives import NS_MAM, ROMEO, Archived, text_id

FULL_TEXT = "<field type='text-single' var='{urn:xmpp:fulltext:0}fulltext'/>"
FIELDS = (
    "<field type='jid-single' var='with'/><field type='text-single' var='start'/><field type='text-single' var='end'/>"
)
EXTENDED = """
    <field type='text-single' var='before-id'/>
    <field type='text-single' var='after-id'/>
    <field type='boolean' var='include-groupchat'/>
    <field type='list-multi' var='ids'>
      <validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate>
    </field>
"""


class Answered(Archived):
    async def check(self, request: str, expected: str) -> None:
        reply = await self.romeo.asks(request)
        answer = f"<iq type='result' id='1' from='{ROMEO}' to='{ROMEO}/orchard'>{expected}</iq>"
        self.assertEqual(canonical(parse(answer).copy_tree()), canonical(reply), reply.toXml())


class Form(Answered):
    def form(self, namespace: str, fields: str) -> str:
        return (
            f"<query xmlns='{namespace}'><x xmlns='jabber:x:data' type='form'>"
            f"<field type='hidden' var='FORM_TYPE'><value>{namespace}</value></field>{fields}</x></query>"
        )

    async def test_of_the_second_version(self) -> None:
        request = f"<iq type='get' id='1'><query xmlns='{NS_MAM}'/></iq>"
        await self.check(request, self.form(NS_MAM, FIELDS + EXTENDED + FULL_TEXT))

    async def test_of_the_first_version(self) -> None:
        request = f"<iq type='get' id='1' to='{ROMEO}'><query xmlns='urn:xmpp:mam:1'/></iq>"
        await self.check(request, self.form("urn:xmpp:mam:1", FIELDS + FULL_TEXT))


class FormWithoutSearch(Form):
    options = {"full_text_search": False}

    async def test_of_the_second_version(self) -> None:
        request = f"<iq type='get' id='1'><query xmlns='{NS_MAM}'/></iq>"
        await self.check(request, self.form(NS_MAM, FIELDS + EXTENDED))

    async def test_of_the_first_version(self) -> None:
        request = "<iq type='get' id='1'><query xmlns='urn:xmpp:mam:1'/></iq>"
        await self.check(request, self.form("urn:xmpp:mam:1", FIELDS))


class Metadata(Answered):
    request = f"<iq type='get' id='1'><metadata xmlns='{NS_MAM}'/></iq>"

    def metadata(self, first: Any, last: Any) -> str:
        ends = f"<start id='{text_id(first)}' timestamp='2022-06-08T09:00:{first:02}.000000Z'/>"
        ends += f"<end id='{text_id(last)}' timestamp='2022-06-08T09:00:{last:02}.000000Z'/>"
        return f"<metadata xmlns='{NS_MAM}'>{ends}</metadata>"

    async def test_of_no_archive_and_of_an_empty_one(self) -> None:
        await self.check(self.request, f"<metadata xmlns='{NS_MAM}'/>")
        await self.archive()
        await self.check(self.request, f"<metadata xmlns='{NS_MAM}'/>")

    async def test_of_one_message(self) -> None:
        await self.fill([7])
        await self.check(self.request, self.metadata(7, 7))

    async def test_of_many(self) -> None:
        await self.fill(range(3, 43))
        await self.check(self.request, self.metadata(3, 42))

    async def test_for_what_is_not_an_iq(self) -> None:
        """The same as bytes that declare their namespace."""
        await self.fill([3, 4])
        data = await self.module.reading.metadata(Owner.account(JID.parse(ROMEO)))
        found = parse(f"<x>{data.decode()}</x>").copy_tree()
        self.assertEqual(canonical(parse(f"<x>{self.metadata(3, 4)}</x>").copy_tree()), canonical(found))
