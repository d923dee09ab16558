"""`dynxmpp`: the operator's console command. Speaks to the REST API in the dialect of 5.0, prints tables or JSON.

Exit status: 0 done, 1 refused (with the server's reason) or not confirmed, 2 wrong usage, 3 not found, 4 there
already, 5 the server cannot be reached, 6 the server failed, 7 the credentials were refused, 130 interrupted, 141
nobody reads the output.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from dynxmpp.cli_api import BROKEN_PIPE, INTERRUPTED, JSON_LINES, REFUSED, Api, one_line, tell

if TYPE_CHECKING:
    from dynxmpp.jid import JID

DEFAULT_URL: Final = "http://localhost:8088/api"


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
                tell(problem.format_message(), problem.exit_code, as_json=True)
            else:
                problem.show()
            status = problem.exit_code
        except click.Abort as abort:
            status = REFUSED
            if isinstance(abort.__cause__ or abort.__context__, KeyboardInterrupt):
                status = INTERRUPTED
            else:
                tell("not confirmed, nothing was done", status, as_json=_wants_json(given))
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


def _optional_domain(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _domain(context, parameter, value)


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


_import_options = (
    click.argument("source", metavar="FILE", type=click.File("rb")),
    click.option("--dry-run", is_flag=True, help="Check the lines and send nothing."),
    click.option(
        "--errors",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Where lines that fail are written, instead of standard error.",
    ),
)


@domain.command("import")
@_commands
@_import_options[0]
@_import_options[1]
@_import_options[2]
@click.option("--host-type", callback=_text, help="For lines that have none.")
def domain_import(api: Api, source: IO[bytes], dry_run: bool, errors: Path | None, host_type: str | None) -> None:
    """Create the domains of a file with the columns domain and host_type; `-` is standard input.

    Domains that are there already count as done.
    """
    from dynxmpp.cli_import import run_import
    from dynxmpp.cli_rows import domains

    run_import(api, domains(host_type), source, dry_run=dry_run, errors=errors)


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


@account.command("import")
@_commands
@_import_options[0]
@_import_options[1]
@_import_options[2]
def account_import(api: Api, source: IO[bytes], dry_run: bool, errors: Path | None) -> None:
    """Create the accounts of a file with the columns jid and password; `-` is standard input.

    Accounts that are there already count as done, and keep their passwords.
    """
    from dynxmpp.cli_import import run_import
    from dynxmpp.cli_rows import ACCOUNTS

    run_import(api, ACCOUNTS, source, dry_run=dry_run, errors=errors)


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


@account.command("data")
@_commands
@click.argument("jid", callback=_account)
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Instead of standard output."
)
def account_data(api: Api, jid: tuple[str, str], output: Path | None) -> None:
    """Hand out what is stored of an account: a line of JSON for each row."""
    domain_name, username = jid
    path = ("users", domain_name, username, "personal-data")
    if output is None:
        api.download(*path, media_type=JSON_LINES, out=sys.stdout.buffer)
        return
    try:
        with _whole_file(output) as out:
            api.download(*path, media_type=JSON_LINES, out=out)
    except OSError as problem:
        raise api.failure(REFUSED, f"{output}: {problem.strerror}") from None
    api.done(f"{username}@{domain_name}: written to {output}", jid=f"{username}@{domain_name}", file=str(output))


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file, for its owner only, that takes its name once all is in it; a device or a pipe as it is."""
    from tempfile import NamedTemporaryFile

    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as out:
            yield out
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        try:
            yield new.file
            new.file.flush()
            os.replace(new.name, path)
        except BaseException:
            os.unlink(new.name)
            raise


@account.command("list")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
@click.option("--prefix", callback=_text, help="Only names that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def account_list(api: Api, name: str, prefix: str | None, limit: int | None) -> None:
    """List the accounts of a domain by name."""
    names = api.pages("users", name, key="users", entry=str, limit=limit, prefix=prefix)
    api.table(("jid",), ({"jid": f"{username}@{name}"} for username in names))


# -- all data of a domain


@main.group()
def data() -> None:
    """All that is stored of a domain, to leave or to arrive (XEP-0227)."""


_output_option = click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Instead of standard output."
)


@data.command("export")
@_commands
@click.argument("name", metavar="DOMAIN", callback=_domain)
@_output_option
def data_export(api: Api, name: str, output: Path | None) -> None:
    """Hand out a domain's accounts and all that is stored of them, passwords or their keys among it."""
    from dynxmpp.cli_portability import XML, Progressing

    if output is None:
        with Progressing(sys.stdout.buffer, "received") as out:
            api.download("domains", name, "data", media_type=XML, out=out)
        return
    try:
        with _whole_file(output) as file, Progressing(file, "received") as out:
            api.download("domains", name, "data", media_type=XML, out=out)
    except OSError as problem:
        raise api.failure(REFUSED, f"{output}: {problem.strerror}") from None
    api.done(f"{name}: written to {output}", domain=name, file=str(output))


@data.command("import")
@_commands
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--domain", "name", callback=_optional_domain, help="The domain here, if it has another name.")
@click.option("--host", callback=_optional_domain, help="Which host of the document, if it is not the first.")
@click.option("--host-type", callback=_text, help="Add the domain with this host type if it is not there.")
@click.option("--overwrite", is_flag=True, help="Give accounts that are there the passwords of the document.")
@click.option("--dry-run", is_flag=True, help="Write nothing, say what would be done.")
def data_import(
    api: Api, file: Path, name: str | None, host: str | None, host_type: str | None, overwrite: bool, dry_run: bool
) -> None:
    """Take over the accounts of a document, and all that is stored of them. It can be done again."""
    from dynxmpp.cli_portability import run_import

    run_import(api, file, domain=name, host=host, host_type=host_type, overwrite=overwrite, dry_run=dry_run)


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
            click.echo(one_line(line), err=True)
        for line in warnings:
            click.echo(one_line(f"{config}: warning: {line}"), err=True)
        if not problems:
            click.echo(one_line(f"{config}: valid"))
    sys.exit(REFUSED if problems else 0)
