"""XEP-0059 Result Set Management: what a <set/> asks for, and what one says."""

from twisted.trial.unittest import TestCase

from dynxmpp.protocol.rsm import FIRST_PAGE, LARGEST, InvalidSet, PageRequest, page_element, page_request
from tests.fixtures.dialogue import canonical, parse

NS_RSM = "http://jabber.org/protocol/rsm"


def read(content: str) -> PageRequest:
    """What a query with this content asks for."""
    query = parse(f"<iq type='set' id='1'><query xmlns='jabber:iq:search'>{content}</query></iq>")
    return page_request(next(iter(query.child_elements())))


def read_set(content: str) -> PageRequest:
    return read(f"<set xmlns='{NS_RSM}'>{content}</set>")


class Requests(TestCase):
    def test_examples(self) -> None:
        for content, expected in (
            ("<max>10</max>", PageRequest(maximum=10)),
            ("<max>10</max><after>peterpan@neverland.lit</after>", PageRequest(10, after="peterpan@neverland.lit")),
            ("<max>10</max><before>peter@pixyland.org</before>", PageRequest(10, before="peter@pixyland.org")),
            ("<max>10</max><before/>", PageRequest(10, before="")),
            ("<max>10</max><index>371</index>", PageRequest(10, index=371)),
            ("<max>0</max>", PageRequest(0)),
        ):
            self.assertEqual(expected, read_set(content), content)

    def test_none_is_the_first_page(self) -> None:
        self.assertEqual(FIRST_PAGE, read("<nick>Pete</nick>"))
        self.assertEqual(FIRST_PAGE, read_set(""))

    def test_an_empty_after_is_the_beginning(self) -> None:
        self.assertEqual(FIRST_PAGE, read_set("<after/>"))

    def test_white_space_around_values(self) -> None:
        self.assertEqual(PageRequest(5, after="a b"), read_set("\n<max> 5\n</max><after>\n a b </after>"))

    def test_the_old_name_of_max(self) -> None:
        self.assertEqual(PageRequest(7), read_set("<limit>7</limit>"))
        self.assertEqual(PageRequest(5), read_set("<limit>7</limit><max>5</max>"))

    def test_elements_of_other_namespaces(self) -> None:
        self.assertEqual(FIRST_PAGE, read("<set xmlns='urn:example:other'><max>5</max></set>"))
        self.assertEqual(FIRST_PAGE, read_set("<max xmlns='urn:example:other'>5</max>"))

    def test_the_first_of_each_counts(self) -> None:
        self.assertEqual(
            PageRequest(1, after="a"), read_set("<max>1</max><max>2</max><after>a</after><after>b</after>")
        )

    def test_more_than_there_can_be(self) -> None:
        for digits in ("9" * 19, "9" * 10_000):
            self.assertEqual(
                PageRequest(LARGEST, index=LARGEST), read_set(f"<max>{digits}</max><index>{digits}</index>")
            )
        self.assertEqual(999_999_999_999_999_999, read_set(f"<max>{'9' * 18}</max>").maximum)

    def test_what_is_no_number(self) -> None:
        for text in ("", "-1", "+1", "1.0", "ten", "1_000", "0x10", "١", "1 0"):
            for name in ("max", "limit", "index"):
                with self.assertRaises(InvalidSet, msg=f"{name} {text}"):
                    read_set(f"<{name}>{text}</{name}>")


class Answers(TestCase):
    def assert_printed(self, expected: str, printed: bytes) -> None:
        wanted = parse(f"<x><set xmlns='{NS_RSM}'>{expected}</set></x>").copy_tree()
        self.assertEqual(canonical(wanted), canonical(parse(f"<x>{printed.decode()}</x>").copy_tree()))

    def test_a_page(self) -> None:
        self.assert_printed(
            "<first index='0'>stpeter@jabber.org</first><last>peterpan@neverland.lit</last><count>800</count>",
            page_element(first="stpeter@jabber.org", last="peterpan@neverland.lit", index=0, count=800),
        )

    def test_an_empty_page(self) -> None:
        self.assert_printed("<count>790</count>", page_element(index=371, count=790))
        self.assert_printed("", page_element())

    def test_a_page_that_was_not_counted(self) -> None:
        self.assert_printed("<first>a</first><last>b</last>", page_element(first="a", last="b"))

    def test_ids_are_escaped(self) -> None:
        self.assert_printed("<first>&lt;&amp;</first><last>&gt;'</last>", page_element(first="<&", last=">'"))
