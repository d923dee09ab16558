"""The message path never waits: where the core may define coroutines, and where it must not."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import TestCase

import dynxmpp.core
from dynxmpp.core.answering import Answering
from dynxmpp.core.delivery import Delivery
from dynxmpp.core.iq_registry import IQRegistry
from dynxmpp.core.passage import Passage
from dynxmpp.core.router import Router
from dynxmpp.core.session_table import SessionTable
from dynxmpp.core.slow_lane import SlowLane

CORE = Path(dynxmpp.core.__file__).parent

#: Who may wait, and in which functions; `None`: in declarations of protocols only.
ALLOWED: dict[str, set[str] | None] = {
    "slow_lane.py": {"SlowLane._run", "SlowLane.earlier"},
    "passage.py": {"Passage._pass_later", "Passage.earlier", "_wait_held"},
    "answering.py": {"Answering._answer_if_account", "Answering._answer_later", "Answering._hand_later"},
    "delivery.py": {"Delivery._keep_if_account"},
    "interfaces.py": None,
    "host_type.py": None,
}

#: What a stanza passes on its way, file by file; all of it must be there and be plain functions.
MESSAGE_PATH = {
    "router.py": {
        "Router.from_session",
        "Router.route",
        "Router.to_member",
        "Router._leave",
        "Router._arrive",
        "Router._reach",
    },
    "passage.py": {"Passage.pass_on", "Passage.line_up", "Passage.later", "Passage.refuse", "Passage.send_back"},
    "delivery.py": {"Delivery.message", "Delivery.presence", "Delivery.offline", "Delivery._to_all"},
    "answering.py": {"Answering.ask", "Answering.answer", "Answering.hand_to_service", "Answering.show_to_handlers"},
    "session_table.py": {"SessionTable.get", "SessionTable.top", "SessionTable.of"},
    "domain_table.py": {"DomainTable.get", "DomainTable.find_subdomain"},
    "slow_lane.py": {"SlowLane.add", "SlowLane.add_next"},
}

WAITING = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


def functions(tree: ast.AST, within: str = "", *, protocol: bool = False) -> Iterator[tuple[str, ast.AST, bool]]:
    """(qualified name, function, is it declared in a Protocol) of all that a file defines, however deep."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
            yield from functions(node, f"{within}{node.name}.", protocol="Protocol" in bases)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{within}{node.name}", node, protocol
            yield from functions(node, f"{within}{node.name}.")
        else:
            yield from functions(node, within, protocol=protocol)


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What a function does itself, without the functions within it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from own_nodes(node)


def is_declaration(function: ast.AST) -> bool:
    """Nothing but a docstring or an ellipsis."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return all(isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) for step in function.body)


def parsed() -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text()) for path in sorted(CORE.glob("*.py"))}


class NoCoroutines(TestCase):
    def test_the_files_are_there(self) -> None:
        self.assertLessEqual({*ALLOWED, *MESSAGE_PATH}, set(parsed()))
        self.assertEqual([], [path for path in CORE.rglob("*.py") if path.parent != CORE])

    def test_coroutines_are_where_they_may_be(self) -> None:
        found: dict[str, set[str]] = {}
        for name, tree in parsed().items():
            for qualified, node, in_protocol in functions(tree):
                if not isinstance(node, ast.AsyncFunctionDef):
                    continue
                if name in ALLOWED and ALLOWED[name] is None:
                    self.assertTrue(in_protocol and is_declaration(node), f"{name}: {qualified} is no declaration")
                else:
                    found.setdefault(name, set()).add(qualified)
        self.assertEqual({name: names for name, names in ALLOWED.items() if names is not None}, found)

    def test_the_message_path_is_made_of_plain_functions(self) -> None:
        for name, expected in MESSAGE_PATH.items():
            tree = parsed()[name]
            plain = {
                qualified
                for qualified, node, _ in functions(tree)
                if isinstance(node, ast.FunctionDef) and not any(isinstance(n, WAITING) for n in own_nodes(node))
            }
            self.assertEqual(set(), expected - plain, name)

    def test_python_thinks_so_too(self) -> None:
        for cls in (Router, Passage, Delivery, Answering, SessionTable, IQRegistry, SlowLane):
            allowed = {name for names in ALLOWED.values() for name in names or ()}
            for name, function in inspect.getmembers(cls, inspect.isfunction):
                if f"{cls.__name__}.{name}" not in allowed:
                    self.assertFalse(inspect.iscoroutinefunction(function), f"{cls.__name__}.{name}")

    def test_no_deferreds_are_waited_for_by_callbacks(self) -> None:
        """Only the slow lane knows of Deferreds."""
        for name, tree in parsed().items():
            imported = {
                node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None
            }
            if name != "slow_lane.py":
                self.assertNotIn("twisted.internet.defer", imported, name)


class TheSearch(TestCase):
    """That the tests above can fail."""

    source = """
class A:
    async def method(self): ...
    def plain(self):
        async def inner():
            await x
        return inner
if True:
    async def conditional(): ...
class P(Protocol[T]):
    async def declared(self): "text"
    async def written(self):
        return 1
"""

    def test_functions_are_found_wherever_they_are(self) -> None:
        found = {name for name, node, _ in functions(ast.parse(self.source)) if isinstance(node, ast.AsyncFunctionDef)}
        self.assertEqual({"A.method", "A.plain.inner", "conditional", "P.declared", "P.written"}, found)

    def test_declarations_are_told_from_code(self) -> None:
        found = {name: is_declaration(node) for name, node, protocol in functions(ast.parse(self.source)) if protocol}
        self.assertEqual({"P.declared": True, "P.written": False}, found)
