"""Whatever is in a file, it is a configuration or a report."""

import os
import tempfile
from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from dynxmpp.config.file import ConfigFile
from dynxmpp.config.listen import HttpHandlers
from dynxmpp.config.loader import Config, ConfigErrors, load_config
from dynxmpp.config.model import Option, Section, is_section, options_of
from dynxmpp.config.planned import PLANNED
from tests.config.support import MINIMAL, MODELS, merged

ETC = Path(__file__).parents[2] / "etc"
SHIPPED = [path.read_text() for path in (ETC / "dynxmpp.toml", *sorted((ETC / "article").iterdir()))]


def sections_below(type_: Any, found: set[type[Section]]) -> None:
    """All sections that the annotation of an option leads to."""
    if is_section(type_) and type_ not in found:
        found.add(type_)
        for option in options_of(type_).values():
            sections_below(option.type, found)
    for argument in getattr(type_, "__args__", ()):
        sections_below(argument, found)


def all_sections() -> set[type[Section]]:
    found: set[type[Section]] = set()
    for root in (ConfigFile, HttpHandlers, *PLANNED.values(), *MODELS.values()):
        sections_below(root, found)
    return found


def known_words() -> list[str]:
    """Every key that means something somewhere, and words that are values."""
    words = {*PLANNED, *MODELS, "mod_mam", "mod_inbox", "default", "basic", "example.com", "pgsql", "embedded"}
    words |= {"infinity", "rdbms", "dummy", "all", "none", "allow", "plain", "@HOST@", "/", "_", "host_type"}
    for model in all_sections():
        words |= {*options_of(model), *model.moved_keys, *model.refused_keys}
        for one in options_of(model).values():
            words |= {*one.aliases}
    return sorted(words)


WORDS = st.sampled_from(known_words())
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(
    WORDS,
    TEXTS,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 4, 6, 5222, 65536]),
    st.floats(allow_nan=True),
    st.dates(),
    st.datetimes(),
)
TREES = st.dictionaries(
    WORDS | TEXTS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | TEXTS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=4,
)


def values_of(one: Option) -> st.SearchStrategy[Any]:
    """Values for an option: sections where it wants sections, mostly."""
    found: set[type[Section]] = set()
    sections_below(one.type, found)
    inner = st.deferred(lambda: st.one_of([tables_of(model) for model in sorted(found, key=lambda m: m.__name__)]))
    if not found:
        return SCALARS | st.lists(SCALARS, max_size=2)
    return inner | st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner | st.lists(inner), max_size=2) | SCALARS


def tables_of(model: type[Section]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with the keys of a section, so that generated files get further than to the first unexpected key."""
    return st.fixed_dictionaries({}, optional={name: values_of(one) for name, one in options_of(model).items()})


class AnyContentTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(os.path.realpath(folder.name)) / "test.toml"

    def load(self, content: bytes) -> Config | None:
        """The configuration, or None after a report that is in order."""
        self.path.write_bytes(content)
        try:
            config = load_config(self.path, MODELS)
        except ConfigErrors as errors:
            lines = str(errors).split("\n")
            self.assertEqual(len(lines), len(errors.problems))
            self.assertTrue(all(line.startswith(f"{self.path}: ") for line in lines), lines)
            self.assertTrue(all(len(line) < 2000 for line in lines), lines)
            return None
        self.assertTrue(all("\n" not in warning for warning in config.warnings))
        return config

    def load_tree(self, tree: dict[str, Any]) -> Config | None:
        return self.load(tomlkit.dumps(tree).encode())

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TREES)
    def test_any_tree(self, tree: dict[str, Any]) -> None:
        self.load_tree(tree)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TREES)
    def test_any_addition(self, tree: dict[str, Any]) -> None:
        self.load_tree(merged(MINIMAL, tree))

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tables_of(ConfigFile))
    def test_any_values_of_known_keys(self, tree: dict[str, Any]) -> None:
        self.load_tree(merged(MINIMAL, tree))

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(sorted({*PLANNED, *MODELS, "mod_mam"})), TREES, max_size=3))
    def test_any_modules(self, modules: dict[str, Any]) -> None:
        self.load_tree(merged(MINIMAL, {"modules": modules}))

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | TEXTS.map(str.encode))
    def test_any_bytes(self, content: bytes) -> None:
        self.load(content)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(SHIPPED), st.data())
    def test_any_damage(self, text: str, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        inserted = data.draw(TEXTS | st.sampled_from(["[", "]", "[[", "{", "=", '"', "\n", "'", "x = 1", "[general]"]))
        self.load((text[:start] + inserted + text[end:]).encode())

    def test_the_words_are_those_of_all_sections(self) -> None:
        """Otherwise the files above would end at their first unexpected key."""
        self.assertLessEqual({"certificates_dir", "event_max_age", "flush_interval", "riak"}, set(known_words()))
