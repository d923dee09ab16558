"""Configuration files written for one test, and small modules for them."""

import copy
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import tomlkit
from twisted.trial.unittest import TestCase

from dynxmpp.config.loader import Config, ConfigErrors, load_config
from dynxmpp.config.model import Section, non_negative, option, section
from dynxmpp.module import NoOptions
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.config import MucLightConfig


@section
class Roster(Section):
    """[modules.mod_roster]"""

    versioning: bool = option(default=False)


@section
class Disco(Section):
    """[modules.mod_disco]"""

    extra_domains: tuple[str, ...] = option(default=())


@section
class Ping(Section):
    """[modules.mod_ping]"""

    ping_interval: int = option(default=60, check=non_negative)


@section
class StaticOnly(Section):
    """[modules.mod_static_only]"""

    supports_dynamic_domains: ClassVar[bool] = False


MODELS: Mapping[str, type[Section]] = {
    "mod_roster": Roster,
    "mod_disco": Disco,
    "mod_ping": Ping,
    "mod_static_only": StaticOnly,
    "mod_mam_meta": MamConfig,
    "mod_muc_light": MucLightConfig,
    "mod_domain_isolation": NoOptions,
}

#: The least that a file needs for a server that somebody can log in to.
MINIMAL: Mapping[str, Any] = {
    "general": {"hosts": ["example.com"], "host_types": ["basic"], "default_server_domain": "example.com"},
    "auth": {"methods": ["dummy"]},
}

PGSQL: Mapping[str, Any] = {
    "driver": "pgsql",
    "host": "db.example.com",
    "database": "chat",
    "username": "chat",
    "password": "a secret",
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` worked in, table by table."""
    result = dict(copy.deepcopy(base))
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


class ConfigTestCase(TestCase):
    """Has a folder for configuration files."""

    models: Mapping[str, type[Section]] = MODELS

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(os.path.realpath(folder.name))

    def write(self, text: str | bytes, name: str = "test.toml") -> Path:
        path = self.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def load_text(self, text: str | bytes) -> Config:
        return load_config(self.write(text), self.models)

    def load_tree(self, tree: Mapping[str, Any]) -> Config:
        return self.load_text(tomlkit.dumps(tree))

    def load(self, **changes: Any) -> Config:
        """The minimal file with changes, each a top-level section."""
        return self.load_tree(merged(MINIMAL, changes))

    def lines(self, **changes: Any) -> list[str]:
        """What is wrong with the minimal file after the changes, without the name of the file."""
        return self.lines_of(tomlkit.dumps(merged(MINIMAL, changes)))

    def lines_of(self, text: str | bytes) -> list[str]:
        with self.assertRaises(ConfigErrors) as raised:
            self.load_text(text)
        start = f"{self.directory / 'test.toml'}: "
        problems = [str(problem) for problem in raised.exception.problems]
        self.assertTrue(all(line.startswith(start) and "\n" not in line for line in problems), problems)
        return [line.removeprefix(start) for line in problems]

    def assert_equal_configs(self, one: Config, other: Config) -> None:
        """Everything but the warnings, and the `Auth.methods` order."""
        for name in ("general", "listen", "outgoing_pools", "services", "shapers", "host_types"):
            self.assertEqual(getattr(one, name), getattr(other, name), name)
