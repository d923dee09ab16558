"""`dynxmpp`: the operator's console command. Speaks to the REST API in the dialect of 5.0, prints tables or JSON.

Exit status: 0 done, 1 refused (with the server's reason), 2 wrong usage, 3 not found, 4 there already, 5 the server
cannot be reached, 6 the server failed, 7 the credentials were refused.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

DEFAULT_URL = "http://localhost:8088/api"
#: Seconds for one request; removing a large domain takes its time.
TIMEOUT_S = 300
PAGE = 1000

REFUSED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE, FAILED, CREDENTIALS = 1, 2, 3, 4, 5, 6, 7
_STATUSES = {401: CREDENTIALS, 404: NOT_FOUND, 409: CONFLICT}


class Api:
    """The REST API at `url`; what it refuses ends the program with a line on stderr (or a JSON object on stdout)."""

    def __init__(self, url: str, credentials: str | None, as_json: bool) -> None:
        self._url = url.rstrip("/")
        self._credentials = credentials
        self.as_json = as_json

    def call(self, method: str, *path: str, body: Mapping[str, object] | None = None, **query: object) -> Any:
        """The JSON of the answer, None for an empty one."""
        import urllib3

        headers = {"Accept": "application/json"}
        if self._credentials is not None:
            headers.update(urllib3.make_headers(basic_auth=self._credentials))
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        url = "/".join([self._url, *(quote(part, safe="") for part in path)])
        fields = urlencode({key: str(value) for key, value in query.items() if value is not None})
        try:
            with urllib3.PoolManager(retries=False, timeout=TIMEOUT_S) as pool:
                answer = pool.request(method, f"{url}?{fields}" if fields else url, body=data, headers=headers)
        except (urllib3.exceptions.HTTPError, ValueError) as problem:
            raise self.failure(UNREACHABLE, f"cannot reach {self._url}: {_reason(problem)}") from None
        if answer.status >= 300:
            raise self.failure(*self._refusal(answer.status, answer.data))
        return json.loads(answer.data) if answer.data else None

    def _refusal(self, status: int, data: bytes) -> tuple[int, str]:
        try:
            parsed = json.loads(data)
            text = parsed["what"] if isinstance(parsed, dict) else str(parsed)
        except (ValueError, KeyError):
            text = f"HTTP status {status}"
        if status == 403 and "basic auth" in text:
            return CREDENTIALS, text
        return _STATUSES.get(status, FAILED if status >= 500 else REFUSED), text

    def failure(self, status: int, text: str) -> SystemExit:
        """Says what went wrong; what is returned is to be raised."""
        if self.as_json:
            click.echo(json.dumps({"error": text, "status": status}))
        else:
            click.echo(f"dynxmpp: {text}", err=True)
        return SystemExit(status)

    def pages(self, *path: str, key: str, limit: int | None, **query: Any) -> Iterator[Any]:
        """The entries of a list, over as many requests as it takes."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            answer = self.call("GET", *path, after=after, limit=PAGE if left is None else min(PAGE, left), **query)
            yield from answer[key]
            after = answer["next"]
            if after is None:
                return
            left = None if left is None else left - len(answer[key])

    def done(self, text: str, **fields: object) -> None:
        """Says that something was done."""
        click.echo(json.dumps(fields) if self.as_json else text)

    def table(self, columns: tuple[str, ...], rows: list[Mapping[str, Any]]) -> None:
        """Shows rows: JSON, a table for a terminal, or columns with tabs for a pipe."""
        if self.as_json:
            click.echo(json.dumps(rows))
        elif not sys.stdout.isatty():
            for row in rows:
                click.echo("\t".join(_shown(row.get(column)) for column in columns))
        else:
            from rich.console import Console
            from rich.table import Table

            table = Table(*columns)
            for row in rows:
                table.add_row(*(_shown(row.get(column)) for column in columns))
            Console().print(table)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _reason(problem: Exception) -> str:
    """The innermost cause, without the addresses of objects."""
    reason = getattr(problem, "reason", problem)
    return str(reason).rpartition(">: ")[2] or str(reason)


def _account(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, str]:
    """An argument that is a bare JID: (domain, localpart)."""
    from dynxmpp.jid import JID, InvalidJID

    try:
        jid = JID.parse(value)
    except InvalidJID as problem:
        raise click.BadParameter(str(problem)) from None
    if jid.local is None or jid.resource is not None:
        raise click.BadParameter("not of the form user@domain")
    return jid.domain, jid.local


def _domain(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from dynxmpp.jid import InvalidJID, prepare_domain

    try:
        return prepare_domain(value)
    except InvalidJID as problem:
        raise click.BadParameter(str(problem)) from None


def _commands(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that all have, and the API that they describe as its first argument."""

    @functools.wraps(function)
    def command(url: str, user: str | None, as_json: bool, **arguments: Any) -> None:
        function(Api(url, user, as_json), **arguments)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--user", envvar="DYNXMPP_USER", metavar="NAME:PASSWORD", help="Credentials of the REST API."),
        click.option("--url", envvar="DYNXMPP_URL", default=DEFAULT_URL, help="The REST API.", show_default=True),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
@click.argument("host_type")
def domain_add(api: Api, name: str, host_type: str) -> None:
    """Create a domain; it can be used at once."""
    api.call("PUT", "domains", name, body={"host_type": host_type})
    api.done(f"{name}: added", domain=name, host_type=host_type)


@domain.command("show")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def domain_show(api: Api, name: str) -> None:
    """Show a domain's host type and whether it is enabled."""
    found = api.call("GET", "domains", name)
    api.table(("domain", "host_type", "enabled"), [{"domain": name, **found}])


@domain.command("list")
@_commands
@click.option("--host-type", help="Only domains of this host type.")
@click.option("--prefix", help="Only names that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def domain_list(api: Api, host_type: str | None, prefix: str | None, limit: int | None) -> None:
    """List domains by name."""
    rows = list(api.pages("domains", key="domains", limit=limit, host_type=host_type, prefix=prefix))
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
@click.argument("host_type")
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
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if given is not None:
        return given
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return asked


_password_options = (
    click.option("--password", help="The password; it is asked for when neither option is given."),
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
@click.option("--prefix", help="Only names that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def account_list(api: Api, name: str, prefix: str | None, limit: int | None) -> None:
    """List the accounts of a domain by name."""
    names = api.pages("users", name, key="users", limit=limit, prefix=prefix)
    api.table(("jid",), [{"jid": f"{username}@{name}"} for username in names])


# -- sessions


@main.group()
def session() -> None:
    """Sessions: who is connected."""


@session.command("list")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
def session_list(api: Api, name: str) -> None:
    """List the sessions of a domain on the process that answers."""
    rows = list(api.pages("sessions", name, key="sessions", limit=None))
    api.table(("jid", "available", "priority", "since", "address"), rows)


@session.command("end")
@_commands
@click.argument("full_jid")
def session_end(api: Api, full_jid: str) -> None:
    """End a session, given by its full JID."""
    from dynxmpp.jid import JID, InvalidJID

    try:
        jid = JID.parse(full_jid)
    except InvalidJID as problem:
        raise click.BadParameter(str(problem)) from None
    if jid.local is None or jid.resource is None:
        raise click.BadParameter("not of the form user@domain/resource")
    api.call("DELETE", "sessions", jid.domain, jid.local, jid.resource)
    api.done(f"{jid.full}: ended", jid=jid.full)


# -- configuration


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(config: Path, as_json: bool) -> None:
    """Say whether a configuration file is valid: each mistake on a line, and exit status 1."""
    from dynxmpp.config.loader import load_config
    from dynxmpp.config.report import ConfigErrors
    from dynxmpp.module_loader import config_models, discover

    problems: list[str] = []
    warnings: list[str] = []
    try:
        warnings = list(load_config(config, config_models(discover())).warnings)
    except ConfigErrors as errors:
        problems = [str(problem) for problem in errors.problems]
    if as_json:
        click.echo(json.dumps({"valid": not problems, "problems": problems, "warnings": warnings}))
    else:
        for line in problems:
            click.echo(line, err=True)
        for line in warnings:
            click.echo(f"{config}: warning: {line}", err=True)
        if not problems:
            click.echo(f"{config}: valid")
    sys.exit(REFUSED if problems else 0)
