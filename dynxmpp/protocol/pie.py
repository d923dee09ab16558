"""The namespaces of XEP-0227 Portable Import/Export Format, and what modules say of the elements that they take."""

from dataclasses import dataclass
from typing import Final

from dynxmpp.wire.stanza import qualified

NS_PIE: Final = "urn:xmpp:pie:0"
NS_PIE_SCRAM: Final = f"{NS_PIE}#scram"
NS_PIE_MAM: Final = f"{NS_PIE}#mam"


@dataclass(frozen=True, slots=True)
class Imported:
    """A kind of child of <user/>: its qualified name, and what is counted of it.

    `in_parts`: a long one is handed over in several elements of the same name, each with some of its children; these
    are what is counted.
    """

    key: str
    kind: str
    in_parts: bool = False

    @classmethod
    def of(cls, namespace: str, name: str, kind: str, *, in_parts: bool = False) -> "Imported":
        return cls(qualified(namespace, name), kind, in_parts)


class NotImported(Exception):
    """Parts of an element that were left out, with a text for each; all else of it has been stored."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
