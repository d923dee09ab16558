"""From a file to a `Config`, or to the list of everything that is wrong with it.

The text is parsed, its sections are read by their declarations, then looked at together; each step that finds mistakes
reports all of them and is the last one.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import tomlkit
from cattrs.errors import BaseValidationError
from tomlkit.exceptions import ParseError, TOMLKitError

from dynxmpp.config import consistency
from dynxmpp.config.file import ConfigFile
from dynxmpp.config.host_config import Config, resolve
from dynxmpp.config.model import Section
from dynxmpp.config.modules import ModuleCatalogue, ModuleName, Modules
from dynxmpp.config.planned import PLANNED
from dynxmpp.config.reader import Reader
from dynxmpp.config.report import (
    ConfigErrors,
    Mistake,
    Name,
    Problem,
    Steps,
    format_path,
    mistakes_in,
    problems_of,
)

__all__ = ["Config", "ConfigErrors", "load_config"]


def load_config(path: Path, module_models: Mapping[str, type[Section]]) -> Config:
    """The configuration in the file `path`. `module_models` are the sections of the modules that can be switched on.

    Raises ConfigErrors, whatever the content of the file.
    """
    tree = _parse(path)
    catalogue = ModuleCatalogue(module_models, PLANNED)
    reader = _reader(path, catalogue)
    try:
        file = reader.structure(tree, ConfigFile)
        default_modules = _default_modules(file, catalogue, reader)
    except (Mistake, BaseValidationError) as error:
        raise _errors(path, mistakes_in(error), tree) from error
    config = resolve(path, file, default_modules)
    mistakes = list(consistency.contradictions(file, config))
    if mistakes:
        raise _errors(path, mistakes, tree)
    warnings = problems_of("", consistency.oddities(file, config, catalogue))
    return attrs.evolve(config, warnings=tuple(str(warning) for warning in warnings))


def _reader(path: Path, catalogue: ModuleCatalogue) -> Reader:
    reader = Reader(Path(os.path.realpath(path.parent)))
    reader.register_structure_hook_func(
        lambda type_: type_ is Modules, lambda value, _: catalogue.read(value, reader.structure)
    )
    reader.register_structure_hook_func(
        lambda type_: type_ is ModuleName, lambda value, _: catalogue.read_name(value, reader.structure)
    )
    return reader


def _default_modules(file: ConfigFile, catalogue: ModuleCatalogue, reader: Reader) -> dict[str, Section]:
    """The sections of general.default_modules. What the user names there exists; of our own list, some may not."""
    configured = [file.modules, *(entry.modules for entry in file.host_config if entry.modules is not None)]
    modules: dict[str, Section] = {}
    for name in file.general.default_modules:
        if not catalogue.has(name) or all(name in sections for sections in configured):
            continue
        try:
            modules[name] = reader.structure({}, catalogue.find(name)[1])
        except BaseValidationError as error:
            first = next(mistakes_in(error))
            what = f"{name} cannot do without its own section: {format_path(first.at)} {first.what}"
            raise Mistake(what, at=("general", "default_modules")) from error
    return modules


def _parse(path: Path) -> dict[str, Any]:
    """The plain values of the file. Raises ConfigErrors."""
    if path.suffix != ".toml":
        raise ConfigErrors([Problem(str(path), "", 'the name of the file must end in ".toml"')])
    try:
        return tomlkit.parse(path.read_bytes().decode()).unwrap()
    except ParseError as error:
        # the position stands at the end of the text as well
        what = str(error).rpartition(" at line ")[0]
        raise ConfigErrors([Problem(str(path), f"line {error.line}, column {error.col + 1}", what)]) from error
    except UnicodeDecodeError as error:
        raise ConfigErrors([Problem(str(path), f"byte {error.start}", "is not UTF-8")]) from error
    except OSError as error:
        raise ConfigErrors([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except (TOMLKitError, ValueError) as error:
        # a key twice in an inline table, a path with a null byte, an integer of more digits than Python converts
        raise ConfigErrors([Problem(str(path), "", f"is not TOML: {error}")]) from error


def _errors(path: Path, mistakes: Iterable[Mistake], tree: Mapping[str, Any]) -> ConfigErrors:
    named = (mistake.moved(_with_host_names(mistake.at, tree)) for mistake in mistakes)
    return ConfigErrors(problems_of(str(path), named))


def _with_host_names(steps: Steps, tree: Mapping[str, Any]) -> Steps:
    """`steps` with the name of the host type in the place of the number of its [[host_config]]."""
    if len(steps) < 3 or steps[0] != "host_config" or not isinstance(steps[1], int):
        return steps
    entry = tree["host_config"][steps[1]]
    names = (entry.get(key) for key in ("host_type", "host")) if isinstance(entry, dict) else ()
    name = next((name for name in names if isinstance(name, str) and name), None)
    return steps if name is None else (steps[0], Name(name), *steps[2:])
