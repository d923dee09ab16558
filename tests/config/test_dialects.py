"""Spellings of 5.0 and of 6.x, and what is accepted from both without having a use here."""

import math
from typing import Any

from dynxmpp.config.listen import AdminApiHandler, C2SListener, DomainHandler, MetricsHandler
from tests.config.support import PGSQL, ConfigTestCase, merged

POOL: dict[str, Any] = {"connection": PGSQL}
#: A file that exists wherever the test runs: the configuration itself.
CERTIFICATE = "test.toml"


def pool(**changes: Any) -> dict[str, Any]:
    return {"outgoing_pools": {"rdbms": {"default": merged(POOL, changes)}}}


def connection_tls(**keys: Any) -> dict[str, Any]:
    return pool(connection={"tls": {"cacertfile": CERTIFICATE, **keys}})


def c2s(**keys: Any) -> dict[str, Any]:
    return {"listen": {"c2s": [{"port": 5222, **keys}]}}


def module(name: str, **keys: Any) -> dict[str, Any]:
    return {"modules": {name: keys}}


#: The same in the spelling of 5.0 and in that of 6.x (or the other way round where both know both).
PAIRS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (module("mod_mam_meta", pm={}), module("mod_mam", pm={})),
    (
        module("mod_mam_meta", async_writer=False, pm={}),
        module("mod_mam", async_writer={"enabled": False}, pm={}),
    ),
    (
        module("mod_mam_meta", flush_interval=100, max_batch_size=7, pm={"max_batch_size": 8}),
        module(
            "mod_mam",
            async_writer={"flush_interval": 100, "batch_size": 7},
            pm={"async_writer": {"batch_size": 8}},
        ),
    ),
    ({"auth": {"scram_iterations": 4096}}, {"auth": {"password": {"scram_iterations": 4096}}}),
    (connection_tls(verify_peer=True), connection_tls(verify_mode="peer")),
    (connection_tls(verify_peer=False), connection_tls(verify_mode="none")),
    (
        connection_tls(server_name_indication=False),
        connection_tls(server_name_indication={"enabled": False}),
    ),
    (
        c2s(tls={"certfile": CERTIFICATE, "verify_peer": False}),
        c2s(tls={"certfile": CERTIFICATE, "verify_mode": "none"}),
    ),
    (pool(scope="host"), pool(scope="host_type")),
    (c2s(c2s_state_timeout=5), c2s(state_timeout=5)),
    (c2s(max_stanza_size="infinity"), c2s(max_stanza_size=10485760)),
    (
        {"host_config": [{"host": "basic", "auth": {"dummy": {"base_time": 1}}}]},
        {"host_config": [{"host_type": "basic", "auth": {"dummy": {"base_time": 1}}}]},
    ),
    (
        {"host_config": [{"host": "Example.COM", "modules": {"mod_ping": {"ping_interval": 5}}}]},
        {"host_config": [{"host_type": "example.com", "host": "basic", "modules": {"mod_ping": {"ping_interval": 5}}}]},
    ),
]

#: Accepted, with nothing to choose.
UNUSED: list[dict[str, Any]] = [
    {
        "general": {
            "all_metrics_are_global": True,
            "rdbms_server_type": "pgsql",
            "mongooseimctl_access_commands": {"local": {"commands": ["join_cluster"]}},
            "max_fsm_queue": 1000,
            "override": ["local"],
            "component_backend": "cets",
            "s2s_backend": "mnesia",
            "route_subdomains": "s2s",
            "routing_modules": ["mongoose_router_global"],
            "sm_backend": "cets",
        }
    },
    {"internal_databases": {"mnesia": {}}, "instrumentation": {"prometheus": {}}},
    {"services": {"service_mongoose_system_metrics": {"report": False}, "service_admin_extra": {"submods": ["node"]}}},
    {"auth": {"anonymous": {"protocol": "both"}, "sasl_external": ["common_name"]}},
    c2s(
        proto="tcp",
        num_acceptors=5,
        hibernate_after="infinity",
        proxy_protocol=False,
        xml_socket=False,
        max_fsm_queue=9,
    ),
    c2s(
        tls={
            "module": "fast_tls",
            "certfile": CERTIFICATE,
            "protocol_options": ["no_tlsv1"],
            "early_data": True,
            "keep_secrets": True,
        }
    ),
    {"listen": {"http": [{"port": 1, "transport": {"num_acceptors": 5}, "hibernate_after": 5}]}},
    module("mod_mam", cache={"module": "mod_cache_users"}, db_jid_format="mam_jid_rfc", send_message="mod_mam_utils"),
    module("mod_adhoc", iqdisc={"type": "queues", "workers": 5}),
]


class SpellingTests(ConfigTestCase):
    def test_both_spellings_are_the_same(self) -> None:
        for one, other in PAIRS:
            with self.subTest(one=one):
                self.assert_equal_configs(self.load(**one), self.load(**other))

    def test_a_spelling_says_something(self) -> None:
        plain = self.load()
        for one, _ in PAIRS:
            with self.subTest(one=one):
                loaded = self.load(**one)
                self.assertNotEqual(
                    (loaded.listen, loaded.outgoing_pools, loaded.host_types),
                    (plain.listen, plain.outgoing_pools, plain.host_types),
                )

    def test_unused_keys(self) -> None:
        for changes in UNUSED:
            with self.subTest(changes=changes):
                self.load(**changes)


class AuthTests(ConfigTestCase):
    def methods(self, auth: dict[str, Any]) -> tuple[str, ...]:
        tree = {
            "general": {"hosts": ["example.com"], "default_server_domain": "example.com"},
            "auth": auth,
            "outgoing_pools": {"rdbms": {"default": POOL}},
        }
        return self.load_tree(tree).host_types["example.com"].auth.methods

    def test_methods_without_sections(self) -> None:
        self.assertEqual(self.methods({"methods": ["rdbms", "dummy"]}), ("rdbms", "dummy"))

    def test_sections_without_methods_in_alphabetical_order(self) -> None:
        self.assertEqual(self.methods({"rdbms": {}, "dummy": {}}), ("dummy", "rdbms"))

    def test_methods_decide_over_sections(self) -> None:
        self.assertEqual(self.methods({"methods": ["dummy"], "rdbms": {}, "anonymous": {}}), ("dummy",))

    def test_nothing(self) -> None:
        self.assertEqual(self.methods({}), ())

    def test_anonymous_is_not_switched_on_by_its_section(self) -> None:
        self.assertEqual(
            self.lines_of("[general]\nhosts = ['a.example']\ndefault_server_domain = 'a'\n[auth.anonymous]"),
            ["auth.anonymous: authentication method anonymous is not available in this server (allowed: rdbms, dummy)"],
        )

    def test_mechanisms_keep_their_order(self) -> None:
        auth = self.load(auth={"sasl_mechanisms": ["plain", "scram_sha1"]}).host_types["basic"].auth
        self.assertEqual(auth.sasl_mechanisms, ("plain", "scram_sha1"))

    def test_default_mechanisms_are_those_there_are(self) -> None:
        mechanisms = self.load().host_types["basic"].auth.sasl_mechanisms
        self.assertEqual(mechanisms[0], "scram_sha512_plus")
        self.assertEqual(mechanisms[-1], "plain")
        self.assertTrue({"oauth", "external", "digest", "scram_sha224", "scram_sha384"}.isdisjoint(mechanisms))


class ListenTests(ConfigTestCase):
    def listener(self, **keys: Any) -> C2SListener:
        return self.load(**c2s(**keys)).listen.c2s[0]

    def test_addresses(self) -> None:
        self.assertEqual(self.listener().ip_address, "0.0.0.0")
        self.assertEqual(self.listener(ip_version=6).ip_address, "::")
        self.assertEqual(self.listener(ip_address="127.0.0.1").ip_address, "127.0.0.1")
        self.assertTrue(self.listener(ip_address="::1", ip_version=6).is_loopback)
        self.assertFalse(self.listener().is_loopback)

    def test_ports_chosen_by_the_system_are_no_duplicates(self) -> None:
        self.load(listen={"c2s": [{"port": 0}, {"port": 0}]})

    def test_same_port_on_two_addresses(self) -> None:
        self.load(listen={"c2s": [{"port": 5, "ip_address": "127.0.0.1"}, {"port": 5, "ip_address": "127.0.0.2"}]})

    def test_limits(self) -> None:
        listener = self.listener()
        self.assertEqual(
            (listener.max_stanza_size, listener.max_depth, listener.max_attributes, listener.max_unauthenticated),
            (262144, 64, 64, 100),
        )
        self.assertEqual(
            (listener.state_timeout, listener.auth_attempts, listener.max_send_queue, listener.max_connections),
            (30000, 3, 1048576, math.inf),
        )
        self.assertEqual(self.listener(state_timeout="infinity").state_timeout, math.inf)

    def test_no_tls_without_section_and_starttls_without_mode(self) -> None:
        self.assertIsNone(self.listener().tls)
        tls = self.listener(tls={"certfile": CERTIFICATE}).tls
        assert tls is not None
        self.assertEqual((tls.mode, tls.keyfile, tls.versions), ("starttls", None, ("tlsv1.2", "tlsv1.3")))

    def test_handlers_in_the_order_of_the_file(self) -> None:
        config = self.load_text(
            """
            [general]
            hosts = ["example.com"]
            default_server_domain = "example.com"
            [[listen.http]]
            port = 5280
            [[listen.http.handlers.mongoose_prometheus_handler]]
            host = "_"
            path = "/metrics"
            [[listen.http.handlers.mongoose_domain_handler]]
            host = "localhost"
            path = "/api"
            [[listen.http.handlers.mongoose_domain_handler]]
            host = "admin.example.com"
            path = "/api"
            username = "admin"
            password = "secret"
            [[listen.http.handlers.mongoose_admin_api]]
            host = "_"
            path = "/api/v6"
            """
        )
        self.assertEqual(
            config.listen.http[0].handlers,
            (
                MetricsHandler(host="_", path="/metrics"),
                DomainHandler(host="localhost", path="/api"),
                DomainHandler(host="admin.example.com", path="/api", username="admin", password="secret"),
                AdminApiHandler(host="_", path="/api/v6", handlers=("domain", "users", "sessions", "muc_light")),
            ),
        )


class PoolTests(ConfigTestCase):
    def test_defaults(self) -> None:
        shared = self.load(**pool()).outgoing_pools.rdbms["default"]
        self.assertEqual(
            (shared.workers, shared.strategy, shared.call_timeout, shared.scope), (10, "best_worker", 60000, "global")
        )
        self.assertEqual((shared.connection.query_timeout, shared.connection.max_start_interval), (5000, 30))

    def test_passwords_are_not_shown(self) -> None:
        self.assertNotIn("a secret", repr(self.load(**pool())))
