"""`dynxmpp account data`: an answer in lines that comes piece by piece, and what becomes of one that breaks off."""

import json
import os
import stat
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.test_cli import CliTestCase as Base

LINES = b'{"module": "mod_vcard", "table": "vcard", "row": {"vcard": "gr\xc3\xbcn"}}\n' * 3
PATH = "/api/users/example.org/alice/personal-data"


class _Handler(BaseHTTPRequestHandler):
    """Answers in chunks, as the server does (RFC 9112 7.1); `whole` says whether the end comes too."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, None))
        self.server.headers.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Type", self.server.media_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self.server.pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if self.server.whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class DataTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp())

    def serve(self, *pieces: bytes, media_type: str = "application/jsonl", whole: bool = True) -> None:
        server: Any = self.server
        server.RequestHandlerClass = _Handler
        server.pieces, server.media_type, server.whole = pieces, media_type, whole

    def test_to_standard_output(self) -> None:
        for pieces in ((LINES,), (LINES[:10], LINES[10:]), ()):
            for flags in ((), ("--json",)):
                self.server.requests.clear()
                self.serve(*pieces)
                result = self.run_cli("account", "data", "Alice@example.org", *flags, DYNXMPP_USER="admin:secret")
                self.assertEqual((0, b"".join(pieces), ""), (result.exit_code, result.stdout_bytes, result.stderr))
                self.assertEqual([("GET", PATH, None)], self.server.requests)
        for headers in self.server.headers:
            self.assertEqual("application/jsonl", headers["Accept"])
            self.assertTrue(headers["Authorization"])

    def test_to_a_file(self) -> None:
        self.serve(LINES[:10], LINES[10:])
        arguments = ("account", "data", "alice@example.org", "--output", str(self.file))
        self.assertEqual((0, f"alice@example.org: written to {self.file}\n", ""), self.outcome(*arguments))
        self.assertEqual(LINES, self.file.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(self.file.stat().st_mode))
        self.serve(LINES)
        result = self.run_cli(*arguments, "--json")  # in the place of the one before
        self.assertEqual({"jid": "alice@example.org", "file": str(self.file)}, json.loads(result.stdout))
        self.assertEqual(LINES, self.file.read_bytes())

    def assert_no_file(self) -> None:
        self.assertEqual([], [path.name for path in self.file.parent.iterdir() if self.file.name in path.name])

    def test_an_answer_that_breaks_off(self) -> None:
        self.serve(LINES, whole=False)
        status, out, errors = self.outcome("account", "data", "alice@example.org")
        self.assertEqual((6, LINES.decode()), (status, out))
        self.assertRegex(errors, r"\Adynxmpp: what http://.* answered broke off and is not complete: .*\n\Z")
        status, out, errors = self.outcome("account", "data", "alice@example.org", "--output", str(self.file))
        self.assertEqual((6, ""), (status, out))
        self.assert_no_file()

    def test_one_that_breaks_off_leaves_what_was_there(self) -> None:
        self.file.write_bytes(b"before")
        self.serve(LINES, whole=False)
        self.assertEqual(6, self.run_cli("account", "data", "a@example.org", "--output", str(self.file)).exit_code)
        self.assertEqual(b"before", self.file.read_bytes())

    def test_refusals(self) -> None:
        for arguments in ((), ("--output", str(self.file))):
            self.answers((404, {"what": "user not found"}))
            outcome = self.outcome("account", "data", "alice@example.org", *arguments)
            self.assertEqual((3, "", "dynxmpp: user not found\n"), outcome)
        self.assert_no_file()

    def test_answers_of_something_else(self) -> None:
        self.serve(b"<html>", media_type="text/html")
        status, out, errors = self.outcome("account", "data", "alice@example.org")
        self.assertEqual((6, "", 1), (status, out, len(errors.splitlines())))

    def test_files_that_cannot_be_written(self) -> None:
        self.serve(LINES)
        missing = self.file / "x"
        status, out, errors = self.outcome("account", "data", "alice@example.org", "--output", str(missing))
        self.assertEqual((1, ""), (status, out))
        self.assertIn("No such file", errors)
        self.file.mkdir()
        self.assertEqual(2, self.run_cli("account", "data", "a@example.org", "--output", str(self.file)).exit_code)
        self.assertEqual([], self.server.requests)

    def test_a_pipe_stays_one(self) -> None:
        self.serve(LINES)
        os.mkfifo(self.file)
        reader = subprocess.Popen(["cat", str(self.file)], stdout=subprocess.PIPE)
        result = self.run_cli("account", "data", "a@example.org", "--output", str(self.file))
        out, _ = reader.communicate()
        self.assertEqual((0, LINES), (result.exit_code, out), result.output)
        self.assertTrue(self.file.is_fifo())

    def test_nobody_reads_the_output(self) -> None:
        self.serve(*[LINES * 1000] * 10)
        reader, writer = os.pipe()
        os.close(reader)
        process = self.process("account", "data", "a@x.example", stdout=writer)
        os.close(writer)
        _, errors = process.communicate()
        self.assertEqual((141, b""), (process.returncode, errors))
