"""What [[host_config]] makes of the rest of the file, and what is warned of."""

from typing import Any

from dynxmpp.config.loader import Config
from dynxmpp.config.model import Section, option, section
from dynxmpp.config.planned import Adhoc
from tests.config.support import MODELS, PGSQL, ConfigTestCase, Disco, Ping, Roster


def host_config(**keys: Any) -> dict[str, Any]:
    return {"host_config": [{"host_type": "basic", **keys}]}


class MergeTests(ConfigTestCase):
    def test_hosts_and_host_types(self) -> None:
        config = self.load(general={"hosts": ["B.example", "a.example"], "host_types": ["z", "dummy auth"]})
        self.assertEqual(
            [(host.name, host.is_static) for host in config.host_types.values()],
            [("b.example", True), ("a.example", True), ("z", False), ("dummy auth", False)],
        )

    def test_general(self) -> None:
        config = self.load(general={"language": "de"}, **host_config(general={"replaced_wait_timeout": 5}))
        self.assertEqual(config.host_types["basic"].general.replaced_wait_timeout, 5)
        self.assertEqual(config.host_types["basic"].general.language, "de")
        self.assertEqual(config.host_types["example.com"].general.replaced_wait_timeout, 2000)
        self.assertEqual(config.general.replaced_wait_timeout, 2000)

    def test_auth_is_replaced(self) -> None:
        config = self.load(
            auth={"methods": ["dummy"], "max_users_per_domain": 5}, **host_config(auth={"dummy": {"base_time": 1}})
        )
        own = config.host_types["basic"].auth
        self.assertEqual((own.methods, own.max_users_per_domain), (("dummy",), float("inf")))
        self.assertEqual(config.host_types["example.com"].auth.max_users_per_domain, 5)

    def test_shapers(self) -> None:
        config = self.load(
            shaper={"slow": {"max_rate": 10}, "fast": {"max_rate": 100}},
            **host_config(shaper={"slow": {"max_rate": 1}, "own": {"max_rate": 5}}),
        )
        rates = {name: shaper.max_rate for name, shaper in config.host_types["basic"].shapers.items()}
        self.assertEqual(rates, {"slow": 1, "fast": 100, "own": 5})
        self.assertEqual(config.shapers["slow"].max_rate, 10)

    def test_access(self) -> None:
        config = self.load(
            acl={"admin": [{"user": "ann"}]},
            access={"c2s": [{"acl": "all", "value": "allow"}]},
            **host_config(acl={"admin": [{"user": "bob"}]}, access={"c2s": [{"acl": "admin", "value": "deny"}]}),
        )
        access = config.host_types["basic"].access
        self.assertEqual([pattern.user for pattern in access.acl["admin"]], ["ann", "bob"])
        self.assertEqual([clause.value for clause in access.rules["c2s"]], ["deny", "allow"])
        self.assertEqual(len(config.host_types["example.com"].access.rules["c2s"]), 1)

    def test_pools(self) -> None:
        connection = dict(PGSQL)
        config = self.load(
            outgoing_pools={
                "rdbms": {
                    "default": {"connection": connection, "workers": 1},
                    "lone": {"connection": connection, "workers": 2, "scope": "single_host", "host": "Example.com"},
                }
            },
            **host_config(outgoing_pools={"rdbms": {"default": {"connection": connection, "workers": 3}}}),
        )
        self.assertEqual(list(config.outgoing_pools.rdbms), ["default"])
        workers = {
            name: {tag: pool.workers for tag, pool in host.rdbms_pools.items()}
            for name, host in config.host_types.items()
        }
        self.assertEqual(workers, {"example.com": {"default": 1, "lone": 2}, "basic": {"default": 3}})

    def test_many_entries(self) -> None:
        names = [f"type {number}" for number in range(300)]
        entries = [{"host_type": name, "general": {"replaced_wait_timeout": n + 1}} for n, name in enumerate(names)]
        config = self.load(general={"host_types": names}, host_config=entries)
        waits = [config.host_types[name].general.replaced_wait_timeout for name in names]
        self.assertEqual(waits, list(range(1, 301)))


class ModulesTests(ConfigTestCase):
    def modules(self, config: Config, name: str = "basic") -> dict[str, Section]:
        return dict(config.host_types[name].modules)

    def test_default_modules_that_there_are(self) -> None:
        self.assertEqual(self.modules(self.load()), {"mod_roster": Roster(), "mod_disco": Disco(), "mod_ping": Ping()})

    def test_a_named_module_keeps_its_options(self) -> None:
        modules = self.modules(self.load(modules={"mod_ping": {"ping_interval": 5}}))
        self.assertEqual(modules["mod_ping"], Ping(ping_interval=5))

    def test_no_default_modules(self) -> None:
        self.assertEqual(self.modules(self.load(general={"default_modules": []})), {})

    def test_own_default_modules(self) -> None:
        self.assertEqual(list(self.modules(self.load(general={"default_modules": ["mod_ping"]}))), ["mod_ping"])

    def test_host_config_replaces_all_modules(self) -> None:
        config = self.load(
            general={"default_modules": []},
            modules={"mod_ping": {}, "mod_disco": {}},
            **host_config(modules={"mod_disco": {"extra_domains": ["x"]}}),
        )
        self.assertEqual(self.modules(config), {"mod_disco": Disco(extra_domains=("x",))})
        self.assertEqual(list(self.modules(config, "example.com")), ["mod_ping", "mod_disco"])
        self.assertEqual(
            config.warnings,
            (
                'host_config["basic"].modules: replaces [modules] as a whole: what is said there of mod_ping does '
                "not hold here",
            ),
        )

    def test_host_config_without_modules_keeps_them(self) -> None:
        config = self.load(modules={"mod_ping": {"ping_interval": 5}}, **host_config(general={}))
        self.assertEqual(self.modules(config)["mod_ping"], Ping(ping_interval=5))

    def test_empty_modules_of_a_host_type(self) -> None:
        config = self.load(general={"default_modules": []}, modules={"mod_ping": {}}, **host_config(modules={}))
        self.assertEqual(self.modules(config), {})

    def test_module_that_cannot_do_without_a_section(self) -> None:
        @section
        class Needy(Section):
            """[modules.mod_time]"""

            zone: str = option()

        self.models = {**MODELS, "mod_time": Needy}
        self.assertEqual(
            self.lines(),
            ["general.default_modules: mod_time cannot do without its own section: zone is missing"],
        )
        self.assertEqual(self.modules(self.load(modules={"mod_time": {"zone": "x"}}))["mod_time"], Needy(zone="x"))

    def test_static_only_module_for_static_hosts(self) -> None:
        self.load(host_config=[{"host": "example.com", "modules": {"mod_static_only": {}}}])


class PlannedModulesTests(ConfigTestCase):
    def test_configured_and_warned_of(self) -> None:
        config = self.load(modules={"mod_adhoc": {}})
        for host in config.host_types.values():
            self.assertEqual(host.modules["mod_adhoc"], Adhoc())
        self.assertEqual(
            config.warnings,
            tuple(
                f'modules.mod_adhoc: configured for "{name}" and checked, but not served by this version yet'
                for name in ("example.com", "basic")
            ),
        )

    def test_a_module_that_is_there_wins(self) -> None:
        @section
        class RealMam(Section):
            """[modules.mod_mam]"""

            pm: dict[str, Any] = option(factory=dict)

        for there, written in (("mod_mam", "mod_mam_meta"), ("mod_mam_meta", "mod_mam"), ("mod_mam", "mod_mam")):
            with self.subTest(there=there, written=written):
                self.models = {there: RealMam}
                config = self.load(modules={written: {"pm": {}}})
                self.assertEqual(dict(config.host_types["basic"].modules), {there: RealMam()})
                self.assertEqual(config.warnings, ())

    def test_two_names_of_one_module(self) -> None:
        self.assertEqual(
            self.lines(modules={"mod_mam": {}, "mod_mam_meta": {}}),
            ["modules.mod_mam_meta: is given twice, here and as mod_mam"],
        )


#: A change of the minimal file, and what is warned of.
WARNINGS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"auth": {"methods": []}}, ["auth: no authentication method: nobody can log in"]),
    (host_config(auth={}), ['host_config["basic"].auth: no authentication method: nobody can log in']),
    (
        {"host_config": [{"host_type": "bsic"}]},
        ['host_config["bsic"]: has no effect: neither hosts nor host_types has the name (did you mean basic?)'],
    ),
    (
        {"listen": {"c2s": [{"port": 1, "access": "c2c"}]}, "access": {"c2s": []}},
        ['listen.c2s[0].access: there is no access rule "c2c": nobody can log in here (did you mean c2s?)'],
    ),
    ({"listen": {"c2s": [{"port": 1, "access": "none"}]}}, []),
    (
        {
            "services": {"service_domain_db": {"db_pool": "elsewhere"}},
            "outgoing_pools": {"rdbms": {"default": {"connection": PGSQL}}},
        },
        [
            'services.service_domain_db.db_pool: "elsewhere" is no host type: the pool of the whole server is used',
        ],
    ),
    (
        {"acl": {"admin": []}, "access": {"c2s": [{"acl": "all", "value": 1}, {"acl": "admn", "value": 1}]}},
        ['access.c2s[1].acl: there is no acl "admn": nobody is in it (did you mean admin?)'],
    ),
    (
        {"acl": {"all": []}, "access": {"none": []}},
        ["acl.all: has no effect: the name is built in", "access.none: has no effect: the name is built in"],
    ),
    (
        host_config(access={"c2s": [{"acl": "guests", "value": "deny"}]}),
        ['host_config["basic"].access.c2s[0].acl: there is no acl "guests": nobody is in it'],
    ),
    (
        {
            "listen": {"c2s": [{"port": 1, "shaper": "c2s_shaper"}]},
            "shaper": {"normal": {"max_rate": 1}},
            "access": {"c2s_shaper": [{"acl": "none", "value": "none"}, {"acl": "all", "value": "fast"}]},
        },
        ['access.c2s_shaper[1].value: there is no shaper "fast": nobody is slowed down'],
    ),
    (
        {"listen": {"http": [{"port": 1, "handlers": {"mongoose_domain_handler": [{"host": "_", "path": "/api"}]}}]}},
        ["listen.http[0]: other machines can reach the API that creates and deletes domains, without a password"],
    ),
    (
        {"listen": {"http": [{"port": 1, "handlers": {"mongoose_prometheus_handler": [{"host": "_", "path": "/m"}]}}]}},
        [],
    ),
]


@section
class Rooms(Section):
    """[modules.mod_muc_light]"""

    host: str = option(default="muclight.@HOST@")


@section
class Archive(Section):
    """[modules.mod_mam]"""

    muc: Rooms | None = option(default=None)


class WarningTests(ConfigTestCase):
    def test_warnings(self) -> None:
        for changes, warnings in WARNINGS:
            with self.subTest(changes=changes):
                self.assertEqual(list(self.load(**changes).warnings), warnings)

    def test_archive_of_rooms_that_no_service_has(self) -> None:
        self.models = {"mod_mam": Archive, "mod_muc_light": Rooms}
        rooms: dict[str, Any] = {"mod_muc_light": {}}
        self.assertEqual(self.load(modules={**rooms, "mod_mam": {"muc": {}}}).warnings, ())
        self.assertEqual(self.load(modules={**rooms, "mod_mam": {}}).warnings, ())
        self.assertEqual(
            self.load(modules={**rooms, "mod_mam": {"muc": {"host": "rooms.@HOST@"}}}).warnings,
            (
                'modules.mod_mam.muc.host: "rooms.@HOST@" is the host of no service with rooms: nothing will be '
                "archived for rooms",
            ),
        )


class ShaperTests(ConfigTestCase):
    """Which shaper a name in a listener means (the shaper if there is one, else the access rule)."""

    def rate(self, name: str | None, local: str = "ann") -> int | None:
        config = self.load(
            shaper={"normal": {"max_rate": 10}, "fast": {"max_rate": 100}},
            acl={"admin": [{"user": "root"}], "staff": [{"user": "bob"}]},
            access={
                "rule": [
                    {"acl": "admin", "value": "none"},
                    {"acl": "staff", "value": "fast"},
                    {"acl": "all", "value": "normal"},
                ],
                "fast": [{"acl": "all", "value": "normal"}],
                "few": [{"acl": "staff", "value": "normal"}],
            },
        )
        shaper = config.host_types["example.com"].shaper(
            name, local=local, domain="example.com", resource="x", hosted=lambda domain: True
        )
        return None if shaper is None else shaper.max_rate

    def test_shaper_wins_over_the_rule_of_its_name(self) -> None:
        self.assertEqual(self.rate("fast"), 100)

    def test_rule(self) -> None:
        self.assertEqual([self.rate("rule", user) for user in ("ann", "bob", "root")], [10, 100, None])

    def test_unlimited(self) -> None:
        self.assertEqual([self.rate(None), self.rate("none"), self.rate("few")], [None, None, None])
