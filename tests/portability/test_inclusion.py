"""Documents in several files."""

from pathlib import Path

from twisted.trial.unittest import TestCase

from dynxmpp.portability import inclusion
from dynxmpp.portability.inclusion import pieces_of
from dynxmpp.portability.reader import DocumentError

ROOT = "<server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'>{}</server-data>"
HOST = "<host xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude' jid='{}'>{}</host>"
USER = "<user xmlns='urn:xmpp:pie:0' name='{}'>{}</user>"
DECLARATION = "<?xml version='1.0' encoding='UTF-8'?>\n<!-- made by hand -->\n"


class Inclusion(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "files"
        (self.folder / "sub").mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def joined(self, path: Path) -> str:
        return b"".join(pieces_of(path)).decode()

    def test_without_any(self) -> None:
        text = DECLARATION + ROOT.format(HOST.format("a", USER.format("u", "&lt;xi:include href='x'/>")))
        self.assertEqual(text, self.joined(self.write("main.xml", text)))

    def test_hosts_and_users(self) -> None:
        user = USER.format("u", "")
        self.write("sub/u v.xml", DECLARATION + user)
        host = HOST.format("a.example", "<xi:include href='sub/u%20v.xml'/>")
        self.write("a.xml", DECLARATION + host)
        self.write("b.xml", HOST.format("b", ""))
        main = self.write(
            "main.xml", DECLARATION + ROOT.format("<xi:include href='a.xml'/> <xi:include href='b.xml'> </xi:include>")
        )
        expected = DECLARATION + ROOT.format(HOST.format("a.example", user) + " " + HOST.format("b", ""))
        for size in (1, 2, 7, 65_536):
            self.patch(inclusion, "PIECE", size)
            self.assertEqual(expected, self.joined(main))

    def test_what_users_have_stored_is_theirs(self) -> None:
        inner = "<vCard xmlns='vcard-temp'><xi:include href='/etc/hostname'/></vCard>"
        text = ROOT.format(HOST.format("a", USER.format("u", inner)))
        self.assertEqual(text, self.joined(self.write("main.xml", text)))

    def test_files_elsewhere(self) -> None:
        self.write("../outside.xml", HOST.format("a", ""))
        (self.folder / "link.xml").symlink_to(self.folder.parent / "outside.xml")
        for href in ("../outside.xml", "link.xml", "/etc/hostname", "file:///etc/hostname", "", "none.xml", "sub"):
            main = self.write("main.xml", ROOT.format(f"<xi:include href='{href}'/>"))
            with self.assertRaisesRegex(DocumentError, "cannot include"):
                self.joined(main)

    def test_what_is_not_followed(self) -> None:
        for attribute in ("parse='text'", "xpointer='x'"):
            main = self.write("main.xml", ROOT.format(f"<xi:include href='main.xml' {attribute}/>"))
            with self.assertRaisesRegex(DocumentError, "parse or xpointer"):
                self.joined(main)

    def test_files_that_include_each_other(self) -> None:
        """Each goes one element deeper, and at the fourth an include is a user's own."""
        self.write("a.xml", HOST.format("a", "<xi:include href='a.xml'/>"))
        text = self.joined(self.write("main.xml", ROOT.format("<xi:include href='a.xml'/>")))
        self.assertEqual(3, text.count("<host"))

    def test_a_broken_file(self) -> None:
        main = self.write("main.xml", ROOT.format("<xi:include href='a.xml'/>"))
        for text in ("<host>", "<host></user>", "", "<!DOCTYPE a []><a/>"):
            self.write("a.xml", text)
            with self.assertRaisesRegex(DocumentError, "a.xml: (line 1: not well-formed|a DTD is not accepted)"):
                self.joined(main)
