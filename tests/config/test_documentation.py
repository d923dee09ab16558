"""docs/configuration.md says what the models say, so that neither can lag."""

import math
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
from twisted.trial.unittest import TestCase

from dynxmpp.config import acl, auth, general, limits, listen, modules, override, planned, pools, services, shaper
from dynxmpp.config.file import ConfigFile
from dynxmpp.config.model import IntOrInfinity, Option, Section, is_section, options_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

CONNECTION = "outgoing_pools.rdbms.TAG.connection"
#: The headings of the page, the section each is about, and the section whose keys it has besides its own.
SECTIONS: dict[str, tuple[type[Section], type[Section] | None]] = {
    "[general]": (general.General, None),
    "[auth]": (auth.Auth, None),
    "[auth.password]": (auth.Password, None),
    "[auth.rdbms]": (auth.RdbmsAuth, None),
    "[auth.dummy]": (auth.DummyAuth, None),
    "[auth.anonymous]": (auth.AnonymousAuth, None),
    "[outgoing_pools.rdbms.TAG]": (pools.SharedRdbmsPool, None),
    f"[{CONNECTION}]": (pools.RdbmsConnection, None),
    f'[{CONNECTION}] with driver = "pgsql"': (pools.PgsqlConnection, pools.RdbmsConnection),
    f'[{CONNECTION}] with driver = "embedded"': (pools.EmbeddedConnection, pools.RdbmsConnection),
    f"[{CONNECTION}.tls]": (pools.RdbmsTls, None),
    f"[{CONNECTION}.tls.server_name_indication]": (pools.ServerName, None),
    "[[listen.c2s]] and [[listen.http]]": (listen.Listener, None),
    "[[listen.c2s]]": (listen.C2SListener, listen.Listener),
    "[listen.c2s.tls] and [listen.http.tls]": (listen.Tls, None),
    "[listen.c2s.tls]": (listen.C2STls, listen.Tls),
    "[[listen.http]]": (listen.HttpListener, listen.Listener),
    "[listen.http.transport]": (listen.HttpTransport, None),
    "[listen.http.protocol]": (listen.HttpProtocol, None),
    "[[listen.http.handlers.mongoose_domain_handler]]": (listen.DomainHandler, None),
    "[[listen.http.handlers.mongoose_admin_api]]": (listen.AdminApiHandler, None),
    "[[listen.http.handlers.mongoose_prometheus_handler]]": (listen.MetricsHandler, None),
    "[services.service_domain_db]": (services.ServiceDomainDb, None),
    "[shaper.NAME]": (shaper.Shaper, None),
    "[limits]": (limits.Limits, None),
    "[acl]": (acl.AclPattern, None),
    "[access]": (acl.AccessClause, None),
    "[[host_config]]": (override.HostOverride, None),
    "[host_config.general]": (override.HostGeneral, None),
    "iqdisc": (modules.IqDisc, None),
    "[modules.mod_adhoc]": (planned.Adhoc, None),
}

#: Sections that only hold others, or what others have in common: described in the text between the tables.
CONTAINERS: set[type[Section]] = {
    ConfigFile,
    pools.OutgoingPools,
    pools.HostPools,
    pools.RdbmsPool,
    listen.Listen,
    listen.HttpHandlers,
    listen.HttpHandler,
    listen.ApiHandler,
    services.Services,
}


def own_options(heading: str) -> list[Option]:
    """The options that the table below `heading` has to list."""
    model, base = SECTIONS[heading]
    inherited = options_of(base) if base is not None else {}
    return [option for name, option in options_of(model).items() if name not in inherited]


def type_text(type_: Any) -> str:
    """An annotation as the page writes it."""
    if type_ == IntOrInfinity:
        return 'integer or `"infinity"`'
    origin, arguments = get_origin(type_), [argument for argument in get_args(type_) if argument is not type(None)]
    if origin is Literal:
        return " ".join(value_text(word) for word in arguments)
    if origin is tuple:
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return f"list of {type_text(inner[0])}"
    if origin is not None and origin is not dict:
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is dict or is_section(type_) or type_ is modules.Modules:
        return "section"
    names = {bool: "boolean", int: "integer", float: "float", str: "string", Path: "path"}
    return names.get(type_, "module name")


def value_text(value: Any) -> str:
    """A value as the file has it."""
    if value == math.inf:
        return '`"infinity"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(value_text(member).strip("`") for member in value) + "]`"
    return f'`"{value}"`' if isinstance(value, str | Path) else f"`{value}`"


def default_text(option: Option) -> str | None:
    """The default as the page writes it; None where only words can say it."""
    if option.mandatory:
        return "mandatory"
    if option.default is None:
        return "none"
    if isinstance(option.default, attrs.Factory):  # type: ignore[arg-type]
        return None if option.default.takes_self else "empty"
    if isinstance(option.default, tuple) and any(isinstance(member, Section) for member in option.default):
        return None
    return value_text(option.default)


def parsed_page() -> tuple[dict[str, dict[str, list[str]]], dict[str, str]]:
    """By heading: the cells of the table's rows by key, and the whole text."""
    rows: dict[str, dict[str, list[str]]] = {}
    texts: dict[str, str] = {}
    heading = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ").replace("`", "")
            assert heading not in texts, f"{heading} twice"
        texts[heading] = texts.get(heading, "") + line + "\n"
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and re.fullmatch(r"`\w+`", cells[0]):
            rows.setdefault(heading, {})[cells[0].strip("`")] = cells[1:]
    return rows, texts


class DocumentationTests(TestCase):
    def setUp(self) -> None:
        self.rows, self.texts = parsed_page()

    def test_every_section_is_here(self) -> None:
        """A new section has to be added to the table above, and hence to the page."""
        found = {
            value
            for module in (acl, auth, general, limits, listen, modules, override, planned, pools, services, shaper)
            for value in vars(module).values()
            if is_section(value) and value is not Section
        }
        self.assertEqual(found | {ConfigFile}, {model for model, _ in SECTIONS.values()} | CONTAINERS)

    def test_every_key(self) -> None:
        for heading in SECTIONS:
            with self.subTest(heading=heading):
                self.assertIn(heading, self.texts)
                expected = [option.name for option in own_options(heading)]
                self.assertEqual(sorted(self.rows.get(heading, {})), sorted(expected), heading)

    def test_nothing_else(self) -> None:
        self.assertEqual(set(self.rows) - set(SECTIONS), set())

    def test_types_and_defaults(self) -> None:
        for heading in SECTIONS:
            for option in own_options(heading):
                type_cell, default_cell, _ = self.rows[heading][option.name]
                with self.subTest(heading=heading, key=option.name):
                    self.assertEqual(type_cell, type_text(option.type), f"{heading} {option.name}")
                    self.assertEqual(default_cell, default_text(option) or default_cell, f"{heading} {option.name}")
                    self.assertTrue(default_cell)

    def test_what_is_not_used_is_marked(self) -> None:
        for heading in SECTIONS:
            for option in own_options(heading):
                meaning = self.rows[heading][option.name][2]
                with self.subTest(heading=heading, key=option.name):
                    self.assertEqual(
                        meaning.startswith("*unused*"), option.traits.get("unused", False), f"{heading} {option.name}"
                    )
                    self.assertTrue(meaning, f"{heading} {option.name}")

    def test_other_spellings_are_mentioned(self) -> None:
        for heading, (model, base) in SECTIONS.items():
            spellings = [alias for option in own_options(heading) for alias in option.aliases]
            spellings += [key for key in model.moved_keys if base is None or key not in base.moved_keys]
            for spelling in spellings:
                with self.subTest(heading=heading, spelling=spelling):
                    self.assertIn(f"`{spelling}`", self.texts[heading])

    def test_default_modules_and_top_level_sections(self) -> None:
        page = "".join(self.texts.values())
        for name in (*modules.DEFAULT_MODULES, *options_of(ConfigFile)):
            self.assertIn(f"`{name}`", page)
        self.assertIn("default_modules = []", page)
