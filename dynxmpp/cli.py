"""`dynxmpp`: the operator's console command. Speaks to the REST API in the dialect of 5.0, prints tables or JSON.

Exit status: 0 done, 1 refused (with the server's reason) or not confirmed, 2 wrong usage, 3 not found, 4 there
already, 5 the server cannot be reached, 6 the server failed, 7 the credentials were refused, 130 interrupted, 141
nobody reads the output.
"""

import base64
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import click

if TYPE_CHECKING:
    from dynxmpp.jid import JID

DEFAULT_URL: Final = "http://localhost:8088/api"
#: Seconds until a connection is there, and for the answer to one request: removing a large domain takes its time.
CONNECT_TIMEOUT_S: Final = 10
TIMEOUT_S: Final = 300
PAGE: Final = 1000

REFUSED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, FAILED, CREDENTIALS = 1, 2, 3, 4, 5, 6, 7
#: 128 and the number of the signal, as shells have it: SIGINT, SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141
_STATUSES: Final = {401: CREDENTIALS, 404: NOT_FOUND, 409: CONFLICT}


class Console(click.Group):
    """The command itself: how it ends. Wrong usage is told as JSON too; an interruption needs no words."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        run: Callable[[], Any] = functools.partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:  # a locale without a name's letters is no reason to fail
            reconfigure(errors="backslashreplace")
        given = sys.argv[1:] if args is None else list(args)
        try:
            status = run()
        except click.ClickException as problem:
            if _wants_json(given):
                _tell(problem.format_message(), problem.exit_code, as_json=True)
            else:
                problem.show()
            status = problem.exit_code
        except click.Abort as abort:
            status = REFUSED
            if isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt):
                status = INTERRUPTED
            else:
                _tell("not confirmed, nothing was done", status, as_json=_wants_json(given))
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:
            # What is buffered still would raise again while the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(BROKEN_PIPE) from None


def _wants_json(arguments: list[str]) -> bool:
    """For errors that come before the options are known."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _tell(text: str, status: int, *, as_json: bool) -> None:
    """Says what went wrong: an object on stdout, or a line on stderr."""
    if as_json:
        click.echo(json.dumps({"error": text, "status": status}))
    else:
        click.echo(f"dynxmpp: {_line(text)}", err=True)


def _line(text: str) -> str:
    """`text` on one line. What a stranger chose, such as a resource, moves no cursor and feigns no other lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Api:
    """The REST API at `url`; what it refuses ends the program with a line on stderr (or a JSON object on stdout)."""

    def __init__(self, url: str, credentials: str | None, as_json: bool) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if credentials is not None:
            # The server compares bytes of UTF-8 (RFC 7617 2.1); urllib3 would take Latin-1.
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
        self.as_json = as_json

    @functools.cached_property
    def _pool(self) -> Any:
        import urllib3

        # A request that changes something is not repeated behind the operator's back, nor sent elsewhere.
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=TIMEOUT_S)
        return urllib3.PoolManager(retries=False, timeout=timeout)

    def call(self, method: str, *path: str, body: Mapping[str, object] | None = None, **query: object) -> Any:
        """The JSON of the answer, None for an empty one."""
        from urllib3.exceptions import HTTPError

        headers, data = self._headers, None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = json.dumps(body).encode()
        url = "/".join([self._url, *(_segment(part) for part in path)])
        fields = urlencode({key: str(value) for key, value in query.items() if value is not None})
        try:
            answer = self._pool.request(
                method, f"{url}?{fields}" if fields else url, body=data, headers=headers, redirect=False
            )
        except HTTPError as problem:
            raise self._unanswered(problem) from None
        if answer.status >= 300:
            raise self.failure(*self._refusal(answer.status, answer.data))
        try:
            return json.loads(answer.data) if answer.data else None
        except ValueError:
            raise self._nonsense() from None

    def _unanswered(self, problem: Exception) -> SystemExit:
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError

        reached = not isinstance(problem, ConnectTimeoutError | NewConnectionError | SSLError)
        what = "no answer from" if reached else "cannot reach"
        return self.failure(UNREACHABLE, f"{what} {self._url}: {_reason(problem)}")

    def _nonsense(self) -> SystemExit:
        return self.failure(FAILED, f"what {self._url} answered is not from the REST API")

    def _refusal(self, status: int, data: bytes) -> tuple[int, str]:
        try:
            parsed = json.loads(data)
            text = str(parsed["what"] if isinstance(parsed, dict) else parsed)
        except (ValueError, KeyError):
            if status == 404:  # of the API itself a missing thing has a reason: this is a path that nothing serves
                return UNREACHABLE, f"no REST API at {self._url}"
            text = "credentials missing or wrong" if status == 401 else f"HTTP status {status}"
        if status == 403 and text.startswith("basic auth "):
            return CREDENTIALS, text
        return _STATUSES.get(status, FAILED if status >= 500 else REFUSED), text

    def failure(self, status: int, text: str) -> SystemExit:
        """Says what went wrong; what is returned is to be raised."""
        _tell(text, status, as_json=self.as_json)
        return SystemExit(status)

    def ask(self, *path: str) -> dict[str, Any]:
        """The object that is at a path."""
        answer = self.call("GET", *path)
        if not isinstance(answer, dict):
            raise self._nonsense()
        return answer

    def pages(self, *path: str, key: str, entry: type, limit: int | None, **query: Any) -> Iterator[Any]:
        """The entries of a list, each an `entry`, over as many requests as it takes."""
        return islice(self._pages(*path, key=key, entry=entry, limit=limit, **query), limit)

    def _pages(self, *path: str, key: str, entry: type, limit: int | None, **query: Any) -> Iterator[Any]:
        after: str | None = None
        left = limit
        while left is None or left > 0:
            answer = self.call("GET", *path, after=after, limit=PAGE if left is None else min(PAGE, left), **query)
            match answer:
                case {"next": None | str() as following} if isinstance(answer.get(key), list):
                    entries: list[Any] = answer[key]
                case _:
                    raise self._nonsense()
            # A page that leads to itself would be asked for for ever.
            if not all(isinstance(one, entry) for one in entries) or (following is not None and following == after):
                raise self._nonsense()
            yield from entries
            after = following
            if after is None:
                return
            left = None if left is None else left - len(entries)

    def done(self, text: str, **fields: object) -> None:
        """Says that something was done."""
        click.echo(json.dumps(fields) if self.as_json else text)

    def table(self, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """Shows rows: JSON, a table for a terminal, or columns with tabs for a pipe."""
        if self.as_json:
            click.echo(json.dumps(list(rows)))
        elif not sys.stdout.isatty():
            for row in rows:
                click.echo("\t".join(_shown(row.get(column)) for column in columns))
        else:
            from rich.console import Console as Terminal
            from rich.table import Table
            from rich.text import Text

            table = Table()
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:  # as Text: brackets in a name are no markup
                table.add_row(*(Text(_shown(row.get(column))) for column in columns))
            Terminal(highlight=False).print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else _line(str(value))


def _segment(part: str) -> str:
    """A name as a segment of a path. The names `.` and `..` would be taken for steps in it (RFC 3986 5.2.4)."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _reason(problem: Exception) -> str:
    """The innermost cause, without the object of urllib3 that it happened to."""
    return re.sub(r"^(?:<[^>]*>|\w+\(host=[^)]*\)): ", "", str(getattr(problem, "reason", problem)))


def _jid(value: str) -> "JID":
    from dynxmpp.jid import JID, InvalidJID

    try:
        return JID.parse(value)
    except InvalidJID as problem:
        raise click.BadParameter(str(problem)) from None


def _account(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, str]:
    """An argument that is a bare JID: (domain, localpart)."""
    jid = _jid(value)
    if jid.local is None or jid.resource is not None:
        raise click.BadParameter("not of the form user@domain")
    return jid.domain, jid.local


def _full_jid(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, str, str]:
    """An argument that is a full JID: (domain, localpart, resource)."""
    jid = _jid(value)
    if jid.local is None or jid.resource is None:
        raise click.BadParameter("not of the form user@domain/resource")
    return jid.domain, jid.local, jid.resource


def _domain(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from dynxmpp.jid import InvalidJID, prepare_domain

    try:
        return prepare_domain(value)
    except InvalidJID as problem:
        raise click.BadParameter(str(problem)) from None


def _text(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An argument that goes to the server as it is. Bytes that are no text arrive here as lone surrogates."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.BadParameter("not in the encoding of the locale") from None
    return value


def _credentials(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and ":" not in value:
        raise click.BadParameter("not of the form name:password")
    return _text(context, parameter, value)


def _base_url(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no IPv6 address, no port
        usable = False
    if not usable or parts.query or parts.fragment or not value.isprintable() or " " in value:
        raise click.BadParameter("not of the form http://host:port/path or https://host:port/path")
    if "@" in parts.netloc:  # it would be shown with each error
        raise click.BadParameter("credentials are given by --user")
    return value


def _commands(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that all have, and the API that they describe as its first argument."""

    @functools.wraps(function)
    def command(url: str, user: str | None, as_json: bool, **arguments: Any) -> None:
        function(Api(url, user, as_json), **arguments)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--user",
            envvar="DYNXMPP_USER",
            metavar="NAME:PASSWORD",
            callback=_credentials,
            help="Credentials of the REST API.",
        ),
        click.option(
            "--url",
            envvar="DYNXMPP_URL",
            default=DEFAULT_URL,
            callback=_base_url,
            help="The REST API.",
            show_default=True,
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Console, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dynxmpp")
def main() -> None:
    """Administers a dynxmpp server over its REST API."""


# -- domains


@main.group()
def domain() -> None:
    """Dynamic domains."""


@domain.command("add")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
@click.argument("host_type", callback=_text)
def domain_add(api: Api, name: str, host_type: str) -> None:
    """Create a domain; it can be used at once."""
    api.call("PUT", "domains", name, body={"host_type": host_type})
    api.done(f"{name}: added", domain=name, host_type=host_type)


@domain.command("show")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def domain_show(api: Api, name: str) -> None:
    """Show a domain's host type and whether it is enabled."""
    found = api.ask("domains", name)
    api.table(("domain", "host_type", "enabled"), [{"domain": name, **found}])


@domain.command("list")
@_commands
@click.option("--host-type", callback=_text, help="Only domains of this host type.")
@click.option("--prefix", callback=_text, help="Only names that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def domain_list(api: Api, host_type: str | None, prefix: str | None, limit: int | None) -> None:
    """List domains by name."""
    rows = api.pages("domains", key="domains", entry=dict, limit=limit, host_type=host_type, prefix=prefix)
    api.table(("domain", "host_type", "enabled"), rows)


def _switch(api: Api, name: str, enabled: bool) -> None:
    api.call("PATCH", "domains", name, body={"enabled": enabled})
    api.done(f"{name}: {'enabled' if enabled else 'disabled'}", domain=name, enabled=enabled)


@domain.command("enable")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def domain_enable(api: Api, name: str) -> None:
    """Serve a domain again."""
    _switch(api, name, True)


@domain.command("disable")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def domain_disable(api: Api, name: str) -> None:
    """Stop serving a domain and end its sessions; its data stay."""
    _switch(api, name, False)


@domain.command("remove")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
@click.argument("host_type", callback=_text)
@click.option("--yes", is_flag=True, help="Do not ask.")
def domain_remove(api: Api, name: str, host_type: str, yes: bool) -> None:
    """Remove a domain with all its accounts and data. HOST_TYPE must be the domain's: a safeguard."""
    if not yes:
        click.confirm(f"Remove {name} and everything that is stored of it?", abort=True, err=True)
    api.call("DELETE", "domains", name, body={"host_type": host_type})
    api.done(f"{name}: removed", domain=name)


# -- accounts


@main.group()
def account() -> None:
    """Accounts of domains."""


def _password(given: str | None, from_stdin: bool) -> str:
    """The password by whichever way it comes. Raises click.UsageError."""
    if from_stdin and given is not None:
        raise click.UsageError("--password and --password-stdin exclude each other")
    if from_stdin:
        try:
            given = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise click.UsageError("the password on standard input is not UTF-8") from None
    if given is None:
        given = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if not given:
        raise click.UsageError("the password is empty")
    return given


_password_options = (
    click.option("--password", callback=_text, help="The password; it is asked for when neither option is given."),
    click.option("--password-stdin", is_flag=True, help="Read the password from a line of standard input."),
)


@account.command("register")
@_commands
@click.argument("jid", callback=_account)
@_password_options[0]
@_password_options[1]
def account_register(api: Api, jid: tuple[str, str], password: str | None, password_stdin: bool) -> None:
    """Create an account."""
    domain_name, username = jid
    body = {"username": username, "password": _password(password, password_stdin)}
    api.call("POST", "users", domain_name, body=body)
    api.done(f"{username}@{domain_name}: registered", jid=f"{username}@{domain_name}")


@account.command("passwd")
@_commands
@click.argument("jid", callback=_account)
@_password_options[0]
@_password_options[1]
def account_passwd(api: Api, jid: tuple[str, str], password: str | None, password_stdin: bool) -> None:
    """Set an account's password."""
    domain_name, username = jid
    api.call("PUT", "users", domain_name, username, body={"password": _password(password, password_stdin)})
    api.done(f"{username}@{domain_name}: password set", jid=f"{username}@{domain_name}")


@account.command("unregister")
@_commands
@click.argument("jid", callback=_account)
@click.option("--yes", is_flag=True, help="Do not ask.")
def account_unregister(api: Api, jid: tuple[str, str], yes: bool) -> None:
    """Remove an account with all its data, and end its sessions."""
    domain_name, username = jid
    if not yes:
        click.confirm(f"Remove {username}@{domain_name} and everything that is stored of it?", abort=True, err=True)
    api.call("DELETE", "users", domain_name, username)
    api.done(f"{username}@{domain_name}: removed", jid=f"{username}@{domain_name}")


@account.command("list")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
@click.option("--prefix", callback=_text, help="Only names that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def account_list(api: Api, name: str, prefix: str | None, limit: int | None) -> None:
    """List the accounts of a domain by name."""
    names = api.pages("users", name, key="users", entry=str, limit=limit, prefix=prefix)
    api.table(("jid",), ({"jid": f"{username}@{name}"} for username in names))


# -- sessions


@main.group()
def session() -> None:
    """Sessions: who is connected."""


@session.command("list")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def session_list(api: Api, name: str) -> None:
    """List the sessions of a domain on the process that answers."""
    rows = api.pages("sessions", name, key="sessions", entry=dict, limit=None)
    api.table(("jid", "available", "priority", "since", "address"), rows)


@session.command("end")
@_commands
@click.argument("address", metavar="FULL_JID", callback=_full_jid)
def session_end(api: Api, address: tuple[str, str, str]) -> None:
    """End a session, given by its full JID."""
    domain_name, username, resource = address
    api.call("DELETE", "sessions", domain_name, username, resource)
    jid = f"{username}@{domain_name}/{resource}"
    api.done(f"{jid}: ended", jid=jid)


# -- configuration


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(config: Path, as_json: bool) -> None:
    """Say whether a configuration file is valid: each mistake on a line, and exit status 1."""
    from dynxmpp.config.loader import load_config
    from dynxmpp.config.report import ConfigErrors
    from dynxmpp.module_loader import NotAModule, config_models, discover

    problems: list[str] = []
    warnings: list[str] = []
    try:
        warnings = list(load_config(config, config_models(discover())).warnings)
    except ConfigErrors as errors:
        problems = [str(problem) for problem in errors.problems]
    except (NotAModule, ImportError) as problem:  # a distribution that offers modules is broken
        problems = [f"{config}: {problem}"]
    if as_json:
        click.echo(json.dumps({"valid": not problems, "problems": problems, "warnings": warnings}))
    else:
        for line in problems:
            click.echo(_line(line), err=True)
        for line in warnings:
            click.echo(_line(f"{config}: warning: {line}"), err=True)
        if not problems:
            click.echo(_line(f"{config}: valid"))
    sys.exit(REFUSED if problems else 0)
