"""[modules]: which extensions a host type has. Their models are handed in: a module declares its own section."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NewType

import attrs
from cattrs.errors import BaseValidationError, IterableValidationError

from dynxmpp.config.checks import kind_of
from dynxmpp.config.model import Section, Structure, option, positive, section
from dynxmpp.config.report import Mistake, mistakes_in, nearest, quoted

#: The name of a module that may be switched on, in its canonical spelling.
ModuleName = NewType("ModuleName", str)

#: The sections of the modules that are switched on, by canonical name.
Modules = NewType("Modules", dict[str, Section])


def _names(*names: str) -> tuple[ModuleName, ...]:
    return tuple(ModuleName(name) for name in names)


#: What people expect of an instant messaging service; a host type has each of them unless told otherwise.
DEFAULT_MODULES: Final = _names(
    "mod_presence",
    "mod_roster",
    "mod_disco",
    "mod_caps",
    "mod_ping",
    "mod_version",
    "mod_time",
    "mod_last",
    "mod_vcard",
    "mod_private",
    "mod_blocking",
    "mod_offline",
    "mod_stream_management",
    "mod_carboncopy",
    "mod_csi",
    "mod_sasl2",
    "mod_bind2",
    "mod_fast_auth_token",
)

#: Spellings of one name, the canonical one first.
_SPELLINGS: Final = (("mod_mam_meta", "mod_mam"),)

#: Names that other servers of the field know: not a typing error, but nothing we have.
_ELSEWHERE_TEXT: Final = """
    adhoc amp auth_token aws_sns bind2 blocking blocklist bosh broadcast cache_users caps carboncopy commands csi disco
    domain_isolation event_pusher event_pusher_http event_pusher_push event_pusher_rabbit event_pusher_sns extdisco
    external_filter fast_auth_token global_distrib http_upload inbox inbox_commands jingle_sip keystore last mam
    mam_cassandra_arch mam_elasticsearch_arch mam_meta mam_muc mam_pm mam_rdbms_arch muc muc_commands muc_light
    muc_light_commands muc_log offline offline_chatmarkers offline_stub ping presence privacy private pubsub pubsub_old
    push_service_mongoosepush register revproxy roster sasl2 shared_roster_ldap sic smart_markers stanzaid
    stream_management time vcard version websockets
"""
_ELSEWHERE: Final = frozenset(f"mod_{name}" for name in _ELSEWHERE_TEXT.split())


@section
class IqDisc(Section):
    """`iqdisc` of many modules: how the processes of other servers share out the queries."""

    type: Literal["one_queue", "no_queue", "parallel", "queues"] = option(default="no_queue", unused=True)
    workers: int | None = option(default=None, check=positive, unused=True)


@attrs.frozen
class ModuleCatalogue:
    """The modules that may be named, each with the model of its section.

    `planned` are read and checked like the others, but nothing stands behind them yet.
    """

    available: Mapping[str, type[Section]]
    planned: Mapping[str, type[Section]]

    def find(self, name: str) -> tuple[ModuleName, type[Section]]:
        """The canonical name and the model for what the user calls `name`. Raises Mistake."""
        spellings = next((names for names in _SPELLINGS if name in names), (name,))
        for models in (self.available, self.planned):
            for spelling in spellings:
                if spelling in models:
                    return ModuleName(spelling), models[spelling]
        if name in _ELSEWHERE:
            raise Mistake("not available in this server")
        raise Mistake("unknown module", meant=self._nearest(name))

    def _nearest(self, name: str) -> str | None:
        # without what all names have in common, which would make any two of them alike
        known = {module.removeprefix("mod_"): module for module in (*self.available, *self.planned)}
        return known.get(nearest(name.removeprefix("mod_"), known) or "")

    def has(self, name: str) -> bool:
        """Whether there is a module of the canonical `name`, be it a planned one."""
        return name in self.available or name in self.planned

    def is_planned(self, name: str) -> bool:
        """Whether nothing stands behind the canonical `name` yet."""
        return name not in self.available

    def read_name(self, value: Any, structure: Structure) -> ModuleName:
        """The canonical name for a module named in a list. Raises Mistake."""
        name = structure(value, str)
        try:
            return self.find(name)[0]
        except Mistake as mistake:
            raise Mistake(f"{quoted(name)}: {mistake.what}", meant=mistake.meant) from mistake

    def read(self, value: Any, structure: Structure) -> Modules:
        """A section [modules]. Raises Mistake, or an error of the converter that groups them."""
        if not isinstance(value, dict):
            raise Mistake(f"must be a section, not {kind_of(value)}")
        modules: dict[str, Section] = {}
        written: dict[str, str] = {}
        mistakes: list[Mistake] = []
        for name, table in value.items():
            try:
                canonical, model = self.find(name)
                if canonical in written:
                    raise Mistake(f"is given twice, here and as {written[canonical]}")
                written[canonical] = name
                modules[canonical] = structure(table, model)
            except (Mistake, BaseValidationError) as error:
                mistakes += [mistake.below(name) for mistake in mistakes_in(error)]
        if mistakes:
            raise IterableValidationError("modules", mistakes, dict)
        return Modules(modules)
