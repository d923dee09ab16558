"""What authors of modules can rely on: the names of `dynxmpp.module`. Who adds or removes one changes this list too."""

import ast
from pathlib import Path

from twisted.trial.unittest import TestCase

import dynxmpp.module

EXPORTS = [
    "Announcements",
    "Answer",
    "BatchWriter",
    "Clock",
    "CommitTicket",
    "Database",
    "Direction",
    "Filter",
    "IQ",
    "Imported",
    "InvalidJID",
    "JID",
    "LookupCombiner",
    "Measured",
    "Migration",
    "Module",
    "ModuleContext",
    "NotImported",
    "PersonalTable",
    "Phase",
    "RoutingContext",
    "Section",
    "Session",
    "SessionTable",
    "Stanza",
    "StanzaError",
    "Stop",
    "Stored",
    "StreamError",
    "SubscriptionBook",
    "Target",
    "Transaction",
    "Turns",
    "Unavailable",
    "Verdict",
    "Wait",
    "WokkelModule",
    "Xep",
    "bind_inline",
    "iq_get",
    "iq_set",
    "nonza",
    "option",
    "qualified",
    "section",
    "storage_is_full",
]

MODULES = Path(dynxmpp.module.__file__).parent / "modules"


def imported(file: Path, source: str) -> set[str]:
    """The names that a file imports from `source`."""
    return {
        alias.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == source
        for alias in node.names
    }


class Exports(TestCase):
    def test_the_list(self) -> None:
        self.assertEqual(EXPORTS, sorted(dynxmpp.module.__all__))

    def test_each_is_there(self) -> None:
        for name in EXPORTS:
            with self.subTest(name=name):
                self.assertIsNotNone(getattr(dynxmpp.module, name, None))

    def test_our_own_modules_need_no_other(self) -> None:
        files = sorted(MODULES.rglob("*.py"))
        used = {name for file in files for name in imported(file, "dynxmpp.module")}
        self.assertIn("Module", used)
        self.assertEqual(set(), used - set(EXPORTS))
