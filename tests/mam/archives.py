"""Archives with known contents, and what clients are told of them."""

from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.words.xish import domish

from dynxmpp.config.acl import Access, AccessClause
from dynxmpp.config.shaper import Shaper
from dynxmpp.modules.mam import Mam
from dynxmpp.modules.mam.config import MamConfig, PmArchive
from dynxmpp.modules.mam.ids import to_text
from dynxmpp.modules.mam.schema import ACCOUNT
from tests.fixtures.dialogue import Accounts, Host, TestSession
from tests.fixtures.postgres import DatabaseTestCase

NS_MAM = "urn:xmpp:mam:2"
NS_RSM = "http://jabber.org/protocol/rsm"
#: 2022-06-08T09:00:00Z, in seconds; message n was sent n seconds later.
START_S = 1_654_678_800
ROMEO, JULIET, NURSE = "romeo@montague.example", "juliet@capulet.example", "nurse@capulet.example"

_INSERT = """
INSERT INTO mam_message (archive, id, remote, resource, outgoing, groupchat, source, stanza)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::boolean[], %s::boolean[], %s::text[], %s::text[])
"""


def id_of(number: float) -> int:
    """The archive id of message `number`."""
    return int((START_S + number) * 1_000_000) << 8


def text_id(number: float) -> str:
    """As clients see it."""
    return to_text(id_of(number))


def stored(number: float, source: str, to: str = ROMEO, body: str | None = None, type_: str = "chat") -> str:
    """Message `number` as it stands in the table."""
    text = f"message {number}" if body is None else body
    return (
        f"<message xmlns='jabber:client' from='{source}' to='{to}' type='{type_}' id='m{number}'>"
        f"<body>{text}</body></message>"
    )


class Page:
    """What a query was answered with: the numbers of the messages in the order sent, and what <fin/> says."""

    def __init__(self, messages: list[domish.Element], reply: domish.Element) -> None:
        assert reply["type"] == "result", reply.toXml()
        self.messages = messages
        self.fin = next(reply.elements())
        self.result_set = next(self.fin.elements(NS_RSM, "set"))
        self.complete = self.fin.getAttribute("complete")

    @property
    def results(self) -> list[domish.Element]:
        return [next(message.elements()) for message in self.messages]

    @property
    def ids(self) -> list[str]:
        return [result["id"] for result in self.results]

    @property
    def numbers(self) -> list[int]:
        return [int(forwarded(result)["id"][1:]) for result in self.results]

    @property
    def bodies(self) -> list[str]:
        return [str(forwarded(result).body) for result in self.results]

    def text(self, name: str) -> str | None:
        element = next(self.result_set.elements(NS_RSM, name), None)
        return None if element is None else str(element)

    @property
    def index(self) -> int | None:
        first = next(self.result_set.elements(NS_RSM, "first"), None)
        return None if first is None or "index" not in first.attributes else int(first["index"])

    @property
    def count(self) -> int | None:
        text = self.text("count")
        return None if text is None else int(text)


def forwarded(result: domish.Element) -> domish.Element:
    """The message in a <result/>."""
    return next(next(result.elements("urn:xmpp:forward:0", "forwarded")).elements("jabber:client", "message"))


def field(name: str, *values: str) -> str:
    return f"<field var='{name}'>{''.join(f'<value>{value}</value>' for value in values)}</field>"


class Configured:
    """What a host type needs to know of the configuration here."""

    def __init__(self, rules: dict[str, str], shapers: dict[str, int] | None = None) -> None:
        clauses = {name: (AccessClause(acl="all", value=value),) for name, value in rules.items()}
        self.access = Access({}, clauses)
        self.shapers = {name: Shaper(max_rate=rate) for name, rate in (shapers or {}).items()}

    def shaper(self, name: str, **_: Any) -> Shaper | None:
        return self.shapers.get(name)


class Archived(DatabaseTestCase):
    """Romeo's archive on a host type with the archive only."""

    migrations = Mam.migrations
    options: ClassVar[dict[str, Any]] = {}

    async def setUp(self) -> None:
        await super().setUp()
        self.clock = Clock()
        self.clock.advance(START_S + 100_000)
        config = MamConfig(pm=PmArchive(**self.options))
        accounts = Accounts([ROMEO, JULIET, NURSE])
        self.host = Host([(Mam, config)], database=self.db, accounts=accounts, clock=self.clock)
        await self.host.start()
        self.addCleanup(self.host.settle)
        self.romeo = self.host.session(f"{ROMEO}/orchard")
        self._requests = 0

    @property
    def module(self) -> Any:
        return self.host.host_types[0].modules["mod_mam_meta"]

    async def archive(self, owner: str = ROMEO) -> int:
        """The number of an account's archive, made if need be."""
        name, _, domain = owner.partition("@")
        return int(await self.module.owners.get(domain, ACCOUNT, name))

    async def fill(
        self,
        numbers: Any,
        *,
        owner: str = ROMEO,
        remote: str = JULIET,
        resource: str = "balcony",
        groupchat: bool = False,
        bodies: dict[int, str] | None = None,
    ) -> None:
        """Messages with these numbers, all from `remote/resource`."""
        numbers, archive = list(numbers), await self.archive(owner)
        source = f"{remote}/{resource}"
        count = len(numbers)
        stanzas = [stored(n, source, owner, (bodies or {}).get(n)) for n in numbers]
        columns = ([id_of(n) for n in numbers], [remote] * count, [resource] * count, [False] * count)
        await self.db.execute(_INSERT, (archive, *columns, [groupchat] * count, [source] * count, stanzas))

    def query_xml(self, form: str = "", page: str = "", extra: str = "", namespace: str = NS_MAM) -> str:
        """An IQ with the fields of a form and the content of a <set/>."""
        self._requests += 1
        fields = f"<x xmlns='jabber:x:data' type='submit'>{field('FORM_TYPE', namespace)}{form}</x>" if form else ""
        result_set = f"<set xmlns='{NS_RSM}'>{page}</set>" if page else ""
        return (
            f"<iq type='set' id='q{self._requests}'>"
            f"<query xmlns='{namespace}' queryid='f27'>{fields}{result_set}{extra}</query></iq>"
        )

    async def ask(self, form: str = "", page: str = "", *, extra: str = "", session: TestSession | None = None) -> Page:
        """Asks an archive of one's own; everything that comes before the answer is a result."""
        session = session or self.romeo
        reply = await session.asks(self.query_xml(form, page, extra))
        messages = list(session.received)
        session.received.clear()
        return Page(messages, reply)

    async def refusal(self, form: str = "", page: str = "", extra: str = "") -> domish.Element:
        """The <error/> that answers a query; no result was sent."""
        reply = await self.romeo.asks(self.query_xml(form, page, extra))
        self.assertEqual("error", reply["type"], reply.toXml())
        self.assertFalse(self.romeo.received)
        return reply.error

    def assert_error(self, error: domish.Element, type_: str, condition: str, text: str | None = None) -> None:
        self.assertEqual((type_, condition), (error["type"], next(error.elements()).name), error.toXml())
        texts = [str(child) for child in error.elements() if child.name == "text"]
        self.assertEqual([] if text is None else [text], texts)
