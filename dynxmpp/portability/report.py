"""What became of a document: numbers, and a bounded list of what went wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["MAX_PROBLEMS", "Report"]

#: Problems that are told, the characters of one, and the different names of elements that are told.
MAX_PROBLEMS: Final = 100
MAX_TEXT: Final = 300
MAX_NAMES: Final = 50
_OTHERS: Final = "others"


@dataclass
class Report:
    """Grows while a document is taken over."""

    domain: str
    dry_run: bool = False
    #: Accounts by what became of them: created, existing, refused.
    accounts: Counter[str] = field(default_factory=Counter)
    #: What accounts log in with: `password`, or the names of SCRAM mechanisms.
    credentials: Counter[str] = field(default_factory=Counter)
    #: What modules have taken, by kind.
    taken: Counter[str] = field(default_factory=Counter)
    #: What nobody has taken, by name, and hosts that were not asked for.
    unknown: Counter[str] = field(default_factory=Counter)
    other_hosts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    problems_left_out: int = 0

    def problem(self, where: str, what: str) -> None:
        """Something that was left out, with the account or place in the document."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{where[:MAX_TEXT]}: {what[:MAX_TEXT]}")
        else:
            self.problems_left_out += 1

    def count_unknown(self, key: str, number: int = 1) -> None:
        """Elements that nobody takes; `key` is their qualified name."""
        _count(self.unknown, shown(key), number)

    def count_other_host(self, jid: str) -> None:
        _count(self.other_hosts, jid, 1)

    def summary(self) -> str:
        """The accounts in words."""
        numbers = [f"{self.accounts[what]} {what}" for what in ("created", "existing", "refused")]
        return f"accounts: {', '.join(numbers)}"

    def to_json(self) -> dict[str, Any]:
        """As the REST API answers it."""
        return {
            "domain": self.domain,
            "dry_run": self.dry_run,
            "accounts": {what: self.accounts[what] for what in ("created", "existing", "refused")},
            "credentials": dict(self.credentials),
            "taken": dict(self.taken),
            "unknown": dict(self.unknown),
            "other_hosts": dict(self.other_hosts),
            "problems": list(self.problems),
            "problems_left_out": self.problems_left_out,
        }


def shown(key: str) -> str:
    """A qualified name as people read it: the name, and its namespace in braces."""
    namespace, _, name = key.rpartition(" ")
    return (f"{name} {{{namespace}}}" if namespace else name)[:MAX_TEXT]


def _count(counter: Counter[str], name: str, number: int) -> None:
    name = name[:MAX_TEXT]
    counter[name if name in counter or len(counter) < MAX_NAMES else _OTHERS] += number
