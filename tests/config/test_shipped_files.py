"""The configuration that is shipped, and those of the article."""

from pathlib import Path

from twisted.trial.unittest import TestCase

from dynxmpp.config.listen import DomainHandler
from dynxmpp.config.loader import Config, load_config
from dynxmpp.config.pools import EmbeddedConnection, PgsqlConnection
from dynxmpp.config.services import ServiceDomainDb
from dynxmpp.module import NoOptions
from dynxmpp.modules.mam.config import MamConfig
from dynxmpp.modules.muc_light.config import MucLightConfig
from tests.config.support import MODELS

ETC = Path(__file__).parents[2] / "etc"
INSTALLED = ("mod_roster", "mod_disco", "mod_mam_meta", "mod_muc_light", "mod_domain_isolation")


def load(name: str) -> Config:
    return load_config(ETC / name, {module: MODELS[module] for module in INSTALLED})


class ArticleTests(TestCase):
    def test_every_file_is_tested_here(self) -> None:
        self.assertEqual(
            sorted(path.name for path in (ETC / "article").iterdir()),
            ["1-single-domain.toml", "2-several-domains.toml", "3-dynamic-domains.toml", "4-load-test.toml"],
        )

    def test_single_domain(self) -> None:
        config = load("article/1-single-domain.toml")
        [host] = config.host_types.values()
        self.assertEqual((host.name, host.is_static, host.auth.methods), ("example.com", True, ("rdbms",)))
        self.assertEqual(list(host.modules), ["mod_roster", "mod_disco"])
        self.assertEqual((config.services.service_domain_db, config.listen.http), (None, ()))
        self.assertEqual(config.warnings, ())

    def test_several_domains(self) -> None:
        config = load("article/2-several-domains.toml")
        modules = {name: list(host.modules) for name, host in config.host_types.items()}
        default = ["mod_roster", "mod_disco"]
        self.assertEqual(
            modules,
            {
                "example.com": default,
                "chat.example.org": ["mod_muc_light", *default],
                "big-company.example.com": ["mod_muc_light", "mod_mam_meta", *default],
            },
        )
        self.assertEqual(config.warnings, ())

    def test_dynamic_domains(self) -> None:
        config = load("article/3-dynamic-domains.toml")
        self.assertEqual(
            [(host.name, host.is_static) for host in config.host_types.values()],
            [("big-company.example.com", True), ("basic", False), ("advanced", False)],
        )
        self.assertEqual(config.general.default_server_domain, "example.com")
        pool = config.outgoing_pools.rdbms["default"]
        self.assertEqual((pool.workers, pool.scope), (5, "global"))
        self.assertEqual(
            pool.connection,
            PgsqlConnection(
                driver="pgsql",
                host="localhost",
                database="mongooseim",
                username="mongooseim",
                password="mongooseim_secret",
            ),
        )
        self.assertEqual(config.services.service_domain_db, ServiceDomainDb())
        [c2s] = config.listen.c2s
        self.assertEqual((c2s.port, c2s.ip_address, c2s.tls), (5222, "0.0.0.0", None))
        [http] = config.listen.http
        self.assertEqual((http.port, http.ip_address), (8088, "127.0.0.1"))
        self.assertEqual(http.handlers, (DomainHandler(host="localhost", path="/api"),))
        self.assertNotIn("mod_mam_meta", config.host_types["basic"].modules)
        mam = config.host_types["advanced"].modules["mod_mam_meta"]
        assert isinstance(mam, MamConfig)
        self.assertIsNotNone(mam.pm)
        self.assertIsNone(mam.muc)
        self.assertEqual(config.warnings, ())

    def test_load_test(self) -> None:
        config = load("article/4-load-test.toml")
        for host in config.host_types.values():
            mam, rooms = host.modules["mod_mam_meta"], host.modules["mod_muc_light"]
            assert isinstance(mam, MamConfig)
            assert mam.muc is not None
            assert isinstance(rooms, MucLightConfig)
            self.assertEqual(mam.muc.host, rooms.host)
            self.assertEqual(host.modules["mod_domain_isolation"], NoOptions())
        self.assertEqual(config.warnings, ())


class ShippedTests(TestCase):
    def test_shipped_file(self) -> None:
        config = load("dynxmpp.toml")
        self.assertEqual(config.warnings, ())
        self.assertEqual(list(config.host_types), ["localhost", "basic", "advanced"])
        connection = config.outgoing_pools.rdbms["default"].connection
        assert isinstance(connection, EmbeddedConnection)
        self.assertEqual(connection.data_dir, ETC.parent / "var" / "postgres")
        self.assertEqual((connection.database, connection.run_as, connection.port), ("dynxmpp", "nobody", None))

    def test_rooms_are_where_their_archive_is(self) -> None:
        host_types = load("dynxmpp.toml").host_types
        self.assertEqual([name for name, host in host_types.items() if "mod_muc_light" in host.modules], ["advanced"])
        mam, rooms = (host_types["advanced"].modules[name] for name in ("mod_mam_meta", "mod_muc_light"))
        assert isinstance(mam, MamConfig)
        assert isinstance(rooms, MucLightConfig)
        assert mam.muc is not None
        self.assertEqual(mam.muc.host, rooms.host)

    def test_nothing_is_said_in_the_clear(self) -> None:
        modes = {}
        for listener in load("dynxmpp.toml").listen.c2s:
            assert listener.tls is not None
            modes[listener.port] = listener.tls.mode
            self.assertEqual(listener.tls.certificates_dir, ETC.parent / "var" / "certificates")
            self.assertTrue(listener.tls.self_signed)
        self.assertEqual(modes, {5222: "starttls_required", 5223: "tls"})

    def test_administration_from_this_machine_only(self) -> None:
        [http] = load("dynxmpp.toml").listen.http
        self.assertTrue(http.is_loopback)
        self.assertEqual(http.handlers, (DomainHandler(host="localhost", path="/api"),))
