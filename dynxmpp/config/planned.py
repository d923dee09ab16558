"""Sections of modules that are still to come: a file that has them is read and checked in full today.

As soon as a module brings a model of its own under the same name, that one is used.
"""

from collections.abc import Mapping
from typing import Final

from dynxmpp.config.model import Section, option, section
from dynxmpp.config.modules import IqDisc


@section
class Adhoc(Section):
    """[modules.mod_adhoc]"""

    report_commands_node: bool = option(default=False)
    iqdisc: IqDisc = option(factory=IqDisc, unused=True)


PLANNED: Final[Mapping[str, type[Section]]] = {
    "mod_adhoc": Adhoc,
}
