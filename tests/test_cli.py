"""The console command against an HTTP server that answers what it is told: requests, output, exit statuses.

The server here stands in for the REST API; tests/interop/test_cli.py has the command and the API itself.
"""

import base64
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import TestCase

from dynxmpp.cli import main

DYNXMPP = str(Path(sys.executable).parent / "dynxmpp")


class StandIn(ThreadingHTTPServer):
    """Keeps the requests; gives the answers in their order, and 204 when there are no more."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[Any] = []
        self.answers: deque[tuple[int, bytes]] = deque()
        self.asked = threading.Event()
        #: Requests are answered once this is set.
        self.may_answer = threading.Event()
        self.may_answer.set()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, json.loads(content) if content else None))
        self.server.headers.append(self.headers)
        self.server.asked.set()
        self.server.may_answer.wait()
        status, body = self.server.answers.popleft() if self.server.answers else (204, b"")
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", "/api/elsewhere")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class CliTestCase(TestCase):
    def setUp(self) -> None:
        self.server = StandIn()
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.addCleanup(self.server.may_answer.set)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        self.environment = {"DYNXMPP_URL": self.url, "DYNXMPP_USER": None}

    def answers(self, *answers: tuple[int, Any]) -> None:
        self.server.answers.extend(
            (status, body if isinstance(body, bytes) else json.dumps(body).encode()) for status, body in answers
        )

    def run_cli(self, *arguments: str, stdin: str | bytes | None = None, **environment: str | None) -> Result:
        result = CliRunner().invoke(main, arguments, input=stdin, env={**self.environment, **environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def outcome(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        result = self.run_cli(*arguments, **options)
        return result.exit_code, result.stdout, result.stderr

    def process(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        environment = {"DYNXMPP_URL": self.url, "LC_ALL": "C.UTF-8", "PATH": os.defpath}
        return subprocess.Popen([DYNXMPP, *arguments], env=environment, stderr=subprocess.PIPE, **options)


class RequestTests(CliTestCase):
    def test_what_each_command_sends(self) -> None:
        for arguments, request in [
            ("domain add EXAMPLE.org basic", ("PUT", "/api/domains/example.org", {"host_type": "basic"})),
            ("domain enable example.org", ("PATCH", "/api/domains/example.org", {"enabled": True})),
            ("domain disable example.org", ("PATCH", "/api/domains/example.org", {"enabled": False})),
            ("domain remove example.org basic --yes", ("DELETE", "/api/domains/example.org", {"host_type": "basic"})),
            (
                "account register Alice@example.org --password pw",
                ("POST", "/api/users/example.org", {"username": "alice", "password": "pw"}),
            ),
            (
                "account passwd alice@example.org --password pw",
                ("PUT", "/api/users/example.org/alice", {"password": "pw"}),
            ),
            ("account unregister alice@example.org --yes", ("DELETE", "/api/users/example.org/alice", None)),
            ("session end alice@example.org/phone", ("DELETE", "/api/sessions/example.org/alice/phone", None)),
        ]:
            for flags in ((), ("--json",)):
                self.server.requests.clear()
                status, out, errors = self.outcome(*arguments.split(), *flags)
                self.assertEqual((0, ""), (status, errors), arguments)
                self.assertEqual([request], self.server.requests)
                if flags:
                    self.assertIsInstance(json.loads(out), dict)
        types = [(headers["Content-Type"], headers["Authorization"]) for headers in self.server.headers]
        self.assertEqual({("application/json", None), (None, None)}, set(types))

    def test_names_are_percent_encoded(self) -> None:
        for address, path in [
            ("zo\u00eb@b\u00fccher.example/a/b c?d#e%", "/b%C3%BCcher.example/zo%C3%AB/a%2Fb%20c%3Fd%23e%25"),
            # as they are these would be steps to another resource
            ("alice@example.org/..", "/example.org/alice/%2E%2E"),
            ("alice@example.org/.", "/example.org/alice/%2E"),
            ("..@example.org/x", "/example.org/%2E%2E/x"),
        ]:
            self.server.requests.clear()
            self.assertEqual(0, self.run_cli("session", "end", address).exit_code)
            self.assertEqual([("DELETE", f"/api/sessions{path}", None)], self.server.requests)

    def test_credentials_are_sent_in_utf_8(self) -> None:
        self.run_cli("domain", "enable", "example.org", "--user", "\u0142:a:\u00e9")
        self.run_cli("domain", "enable", "example.org", DYNXMPP_USER="admin:secret")
        sent = [base64.b64decode(headers["Authorization"].split()[1]).decode() for headers in self.server.headers]
        self.assertEqual(["\u0142:a:\u00e9", "admin:secret"], sent)

    def test_passwords(self) -> None:
        for name in ("register", "passwd"):
            for arguments, stdin in [
                (("--password-stdin",), "p\u00e4ss word\nsecond line\n"),
                (("--password-stdin",), "p\u00e4ss word\r\n"),
                (("--password-stdin",), "p\u00e4ss word"),
                ((), "p\u00e4ss word\np\u00e4ss word\n"),
            ]:
                self.server.requests.clear()
                result = self.run_cli("account", name, "a@example.org", *arguments, stdin=stdin)
                self.assertEqual(0, result.exit_code, result.stderr)
                self.assertEqual("p\u00e4ss word", self.server.requests[0][2]["password"])
                self.assertNotIn("word", result.output.replace("Password", "").replace("password", ""))

    def test_what_cannot_be_taken_back_is_asked_for(self) -> None:
        for arguments in (("domain", "remove", "example.org", "basic"), ("account", "unregister", "a@example.org")):
            for stdin in ("n\n", "\n", ""):
                status, out, errors = self.outcome(*arguments, stdin=stdin)
                self.assertEqual((1, ""), (status, out))
                self.assertIn("not confirmed", errors)
            result = self.run_cli(*arguments, "--json", stdin="n\n")
            self.assertEqual({"error": "not confirmed, nothing was done", "status": 1}, json.loads(result.stdout))
            self.assertEqual([], self.server.requests)
            self.assertEqual(0, self.run_cli(*arguments, stdin="y\n").exit_code)
            self.assertEqual(1, len(self.server.requests))
            self.server.requests.clear()


class ListTests(CliTestCase):
    def test_pages_are_followed(self) -> None:
        def row(name: str) -> dict[str, object]:
            return {"domain": name, "host_type": "basic", "enabled": name != "b.example"}

        rows = [row("a.example"), row("b.example"), row("c.example")]
        first = {"domains": rows[:2], "next": "b\u00fc&.example"}
        last = {"domains": rows[2:], "next": None}
        self.answers((200, first), (200, last))
        expected = (0, "a.example\tbasic\tyes\nb.example\tbasic\tno\nc.example\tbasic\tyes\n", "")
        self.assertEqual(expected, self.outcome("domain", "list", "--host-type", "a b", "--prefix", "x&"))
        query = "limit=1000&host_type=a+b&prefix=x%26"
        paths = [path for _, path, _ in self.server.requests]
        self.assertEqual([f"/api/domains?{query}", f"/api/domains?after=b%C3%BC%26.example&{query}"], paths)
        self.answers((200, first), (200, last))
        self.assertEqual(rows, json.loads(self.run_cli("domain", "list", "--json").stdout))

    def test_a_limit(self) -> None:
        self.answers((200, {"users": ["a", "b"], "next": "b"}), (200, {"users": ["c", "d"], "next": "d"}))
        self.assertEqual(
            (0, "a@x.example\nb@x.example\nc@x.example\n", ""),
            self.outcome("account", "list", "x.example", "--limit", "3"),
        )
        paths = [path for _, path, _ in self.server.requests]
        self.assertEqual(["/api/users/x.example?limit=3", "/api/users/x.example?after=b&limit=1"], paths)

    def test_names_move_no_cursor(self) -> None:
        session = {"jid": "a@x.example/\x1b[2J\n\tx", "available": True, "priority": -1, "since": "now"}
        self.answers((200, {"sessions": [session], "next": None}))
        expected = (0, "a@x.example/\\x1b[2J\\n\\tx\tyes\t-1\tnow\t-\n", "")
        self.assertEqual(expected, self.outcome("session", "list", "x.example"))

    def test_a_table_on_a_terminal(self) -> None:
        jid = "alice@x.example/[/red]" + "long" * 30
        self.answers((200, {"sessions": [{"jid": jid, "available": True}], "next": None}))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        process = self.process("session", "list", "x.example", stdout=theirs)
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # EIO: the other side is closed
            pass
        _, errors = process.communicate()
        self.assertEqual((0, b""), (process.returncode, errors))
        self.assertIn("since", shown.decode())
        self.assertIn("\u2502", shown.decode())
        cells = [line.split("\u2502")[1].strip() for line in shown.decode().splitlines() if line.startswith("\u2502")]
        self.assertEqual(jid, "".join(cells))

    def test_answers_of_something_else(self) -> None:
        for body in [
            b"<html>", b"[]", b"{}", b"\xff", b"", {"domains": {}, "next": None}, {"domains": [], "next": 1},
            {"domains": ["x"], "next": None}, {"domains": []},
        ]:  # fmt: skip
            self.answers((200, body))
            status, out, errors = self.outcome("domain", "list")
            self.assertEqual((6, "", 1), (status, out, len(errors.splitlines())), body)
        self.answers((200, b"[]"))
        self.assertEqual(6, self.run_cli("domain", "show", "x.example").exit_code)

    def test_a_page_that_leads_to_itself(self) -> None:
        self.answers(*[(200, {"users": ["a"], "next": "a"})] * 3)
        self.assertEqual(6, self.run_cli("account", "list", "x.example", "--json").exit_code)
        self.assertEqual(2, len(self.server.requests))


class EndTests(CliTestCase):
    def refused(self, status: int, reason: str, *arguments: str, **environment: str) -> None:
        """Neither kind of output differs in what it says."""
        waiting = list(self.server.answers)
        self.assertEqual((status, "", f"dynxmpp: {reason}\n"), self.outcome(*arguments, **environment))
        self.server.answers.extend(waiting)
        code, out, errors = self.outcome(*arguments, "--json", **environment)
        self.assertEqual((status, {"error": reason, "status": status}, ""), (code, json.loads(out), errors))

    def test_exit_statuses(self) -> None:
        for http, body, status, reason in [
            (400, {"what": "invalid domain name"}, 1, "invalid domain name"),
            (403, {"what": "domain is static"}, 1, "domain is static"),
            (403, {"what": "basic auth is required"}, 7, "basic auth is required"),
            (403, {"what": "basic auth provided, invalid password"}, 7, "basic auth provided, invalid password"),
            (401, b"", 7, "credentials missing or wrong"),
            (404, {"what": "domain not found"}, 3, "domain not found"),
            (404, "Given domain does not exist", 3, "Given domain does not exist"),
            (404, b"", 5, f"no REST API at {self.url}"),
            (409, {"what": "duplicate"}, 4, "duplicate"),
            (415, b"", 1, "HTTP status 415"),
            (500, {"what": "database error"}, 6, "database error"),
            (502, b"<html>", 6, "HTTP status 502"),
        ]:
            self.answers((http, body))
            self.refused(status, reason, "domain", "show", "example.org")

    def test_a_reason_is_one_line(self) -> None:
        self.answers((400, {"what": "a\nb\x1b[1m"}))
        self.assertEqual((1, "", "dynxmpp: a\\nb\\x1b[1m\n"), self.outcome("domain", "show", "example.org"))

    def test_requests_go_nowhere_else_and_once(self) -> None:
        self.answers((307, b""))
        arguments = ("domain", "add", "example.org", "basic", "--user", "a:b")
        self.assertEqual((1, "", "dynxmpp: HTTP status 307\n"), self.outcome(*arguments))
        self.answers((503, b""))
        self.assertEqual(6, self.run_cli(*arguments).exit_code)
        self.assertEqual(2, len(self.server.requests))

    def test_nobody_answers(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # and does not listen
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
            status, out, errors = self.outcome("domain", "list", "--url", url)
            self.assertEqual((5, ""), (status, out))
            self.assertRegex(errors, rf"\Adynxmpp: cannot reach {url}: .*refused\n\Z")
            self.assertNotIn("HTTPConnection", errors)
            out = self.run_cli("domain", "list", "--url", url, "--json").stdout
            self.assertEqual(5, json.loads(out)["status"])

    def test_a_connection_that_breaks(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"

            def break_off() -> None:
                connection, _ = listener.accept()
                connection.recv(1)
                connection.close()

            thread = threading.Thread(target=break_off)
            thread.start()
            status, _, errors = self.outcome("domain", "enable", "example.org", "--url", url)
            thread.join()
        self.assertEqual((5, 1), (status, len(errors.splitlines())))
        self.assertIn("no answer from", errors)  # it may have been done

    def test_wrong_usage(self) -> None:
        for arguments in [
            ("domain", "add", "a..b", "basic"),
            ("domain", "add", "example.org"),
            ("domain", "add", "example.org", "\udcff"),
            ("domain", "list", "--prefix", "\udcff"),
            ("domain", "list", "--limit", "0"),
            ("domain", "show", "\udcff"),
            ("domain", "nonsense"),
            ("nonsense",),
            ("account", "register", "example.org", "--password", "x"),
            ("account", "register", "a@example.org/x", "--password", "x"),
            ("account", "register", "a@example.org", "--password", ""),
            ("account", "register", "a@example.org", "--password", "x", "--password-stdin"),
            ("account", "register", "a@example.org", "--password-stdin"),
            ("session", "end", "a@example.org"),
            ("domain", "list", "--user", "nameonly"),
            *(
                ("domain", "list", "--url", url)
                for url in ("x", "ftp://x", "http://", "http://x:y", "http://x/?y", "http://[")
            ),
        ]:
            status, out, errors = self.outcome(*arguments)
            self.assertEqual((2, ""), (status, out), arguments)
            self.assertIn("Usage:", errors)
            status, out, errors = self.outcome(*arguments, "--json")
            self.assertEqual((2, 2, ""), (status, json.loads(out)["status"], errors), arguments)
        self.assertEqual([], self.server.requests)

    def test_a_password_that_is_no_text(self) -> None:
        result = self.run_cli("account", "passwd", "a@example.org", "--password-stdin", stdin=b"\xff\n")
        self.assertEqual(2, result.exit_code)
        self.assertEqual([], self.server.requests)

    def test_credentials_in_the_url_are_not_shown(self) -> None:
        result = self.run_cli("domain", "list", "--url", "http://admin:hunter2@localhost/api")
        self.assertEqual(2, result.exit_code)
        self.assertNotIn("hunter2", result.output)

    def test_json_behind_the_end_of_options_is_no_option(self) -> None:
        self.assertIn("Usage:", self.run_cli("session", "end", "--", "--json").stderr)

    def test_interrupted(self) -> None:
        self.server.may_answer.clear()
        process = self.process("domain", "enable", "example.org", stdout=subprocess.PIPE)
        self.assertTrue(self.server.asked.wait(60))
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
        self.assertEqual((130, b"", b""), (process.returncode, out, errors.strip()))

    def test_nobody_reads_the_output(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.answers((200, {"users": ["a"] * 1000, "next": None}))
        process = self.process("account", "list", "x.example", stdout=writer)
        os.close(writer)
        _, errors = process.communicate()
        self.assertEqual((141, b""), (process.returncode, errors))


class CheckTests(TestCase):
    def check(self, text: str, *arguments: str) -> tuple[int, str, str, str]:
        path = self.mktemp() + ".toml"
        Path(path).write_text(text)
        result = CliRunner().invoke(main, ["check", path, *arguments])
        return result.exit_code, result.stdout, result.stderr, path

    def test_a_valid_file(self) -> None:
        text = (
            '[general]\nhosts = ["example.org"]\ndefault_server_domain = "example.org"\n[auth]\nmethods = ["dummy"]\n'
        )
        status, out, errors, path = self.check(text)
        self.assertEqual((0, f"{path}: valid\n", ""), (status, out, errors))
        status, out, errors, _ = self.check(text, "--json")
        self.assertEqual((0, {"valid": True, "problems": [], "warnings": []}, ""), (status, json.loads(out), errors))

    def test_each_mistake_is_a_line(self) -> None:
        text = '[general]\nhost = ["x"]\n[listne]\n'
        status, out, errors, path = self.check(text)
        self.assertEqual((1, ""), (status, out))
        self.assertEqual(3, len(errors.splitlines()))
        self.assertTrue(all(line.startswith(path) for line in errors.splitlines()))
        status, out, errors, _ = self.check(text, "--json")
        self.assertEqual(
            (1, False, 3, ""), (status, json.loads(out)["valid"], len(json.loads(out)["problems"]), errors)
        )

    def test_no_file(self) -> None:
        result = CliRunner().invoke(main, ["check", "/nonexistent.toml"])
        self.assertEqual((1, ""), (result.exit_code, result.stdout))
        self.assertEqual("/nonexistent.toml: cannot be read: No such file or directory\n", result.stderr)


class ImportTests(TestCase):
    def test_help_loads_little(self) -> None:
        heavy = ("urllib3", "rich", "psycopg2", "klein")
        code = f"import sys, dynxmpp.cli; print([name for name in {heavy} if name in sys.modules])"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual("[]\n", found.stdout)
