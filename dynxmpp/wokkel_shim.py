"""Makes all of wokkel 18 importable on current Twisted. Imported by the package itself, hence before any wokkel.

wokkel 18.0.0 (2018) is what the field's Python handlers are written on. Two names that it imports have left Twisted:

- `twisted.python.compat._PY3`: gone with Python 2 (absent since 21.7). data_form asks it, and with it disco,
  muc, ping and pubsub cannot be imported.
- `twisted.python.constants`: removed in 24.11; `constantly` is the same code under its own name. muc needs it.

Its deprecation warnings are about names that still work; its users cannot act on them.
"""

import sys
import warnings

import constantly
from twisted.python import compat


def install() -> None:
    """Puts both names back. Doing it again changes nothing."""
    if not hasattr(compat, "_PY3"):
        compat._PY3 = True  # type: ignore[attr-defined]
    sys.modules.setdefault("twisted.python.constants", constantly)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"wokkel(\..*)?")


install()
