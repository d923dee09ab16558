"""A file that cannot be used: every reason, in one readable line each."""

import os
from pathlib import Path
from typing import Any

import tomlkit

from dynxmpp.config.loader import ConfigErrors, load_config
from tests.config.support import MINIMAL, PGSQL, ConfigTestCase, merged


class TextTests(ConfigTestCase):
    """What is no TOML is said with its place."""

    def test_syntax(self) -> None:
        for text, line in {
            "[general]\nhosts = [": "line 2, column 1: Unexpected end of file",
            "[general]\nx == 1": "line 2, column 4: Unexpected character: '='",
            "x = 1\nx = 2": 'line 2, column 1: Key "x" already exists.',
            "x = 25:00:00": "line 1, column 1: Invalid time",
            "x = " + "9" * 5000: "line 1, column 1: Invalid number",
            "x = " + "[" * 5000: "line 1, column 105: TOML value nested more than 100 levels deep",
        }.items():
            with self.subTest(text=text[:30]):
                self.assertEqual(self.lines_of(text), [line])

    def test_faults_without_a_place(self) -> None:
        self.assertEqual(self.lines_of("x = {a = 1, a = 2}"), ['is not TOML: Key "a" already exists.'])

    def test_integer_that_no_machine_word_holds(self) -> None:
        text = tomlkit.dumps(MINIMAL).replace("[general]", "[general]\nreplaced_wait_timeout = 0x" + "f" * 5000)
        self.assertEqual(self.lines_of(text), ["general.replaced_wait_timeout: is an integer beyond 64 bits"])

    def test_not_utf8(self) -> None:
        self.assertEqual(self.lines_of(b"x = '\xff'"), ["byte 5: is not UTF-8"])

    def test_unreadable(self) -> None:
        for path, what in {
            self.directory / "none.toml": "cannot be read: No such file or directory",
            self.directory / "test.conf": 'the name of the file must end in ".toml"',
            Path("a\0b.toml"): "is not TOML: embedded null byte",
        }.items():
            with self.subTest(path=path), self.assertRaises(ConfigErrors) as raised:
                load_config(path, {})
            self.assertEqual([problem.what for problem in raised.exception.problems], [what])

    def test_a_folder(self) -> None:
        path = self.directory / "folder.toml"
        path.mkdir()
        with self.assertRaises(ConfigErrors) as raised:
            load_config(path, {})
        self.assertEqual(str(raised.exception), f"{path}: cannot be read: Is a directory")

    def test_empty_file(self) -> None:
        self.assertEqual(self.lines_of(""), ["general: is missing"])


POOL = {"outgoing_pools": {"rdbms": {"default": {"connection": PGSQL}}}}


def pool(**changes: Any) -> dict[str, Any]:
    return merged(POOL, {"outgoing_pools": {"rdbms": {"default": changes}}})


def c2s(**changes: Any) -> dict[str, Any]:
    return {"listen": {"c2s": [{"port": 5222, **changes}]}}


def http(**changes: Any) -> dict[str, Any]:
    return {"listen": {"http": [{"port": 5280, **changes}]}}


def handler(name: str = "mongoose_domain_handler", **changes: Any) -> dict[str, Any]:
    return http(handlers={name: [{"host": "_", "path": "/api", **changes}]})


def module(name: str, **keys: Any) -> dict[str, Any]:
    return {"modules": {name: keys}}


CONNECTION = "outgoing_pools.rdbms.default.connection"
MECHANISMS = "scram_sha512_plus, scram_sha512, scram_sha256_plus, scram_sha256, scram_sha1_plus, scram_sha1, plain"
ALL_SECTIONS = (
    "general, listen, auth, outgoing_pools, services, modules, shaper, acl, access, limits, host_config, "
    "internal_databases, instrumentation"
)

#: A change of the minimal file, and what is then wrong with it.
REASONS: list[tuple[dict[str, Any], list[str]]] = [
    # unexpected keys
    ({"stuff": {}}, [f"stuff: unexpected key (allowed: {ALL_SECTIONS})"]),
    ({"module": {}}, ["module: unexpected key (did you mean modules?)"]),
    ({"general": {"host_typs": []}}, ["general.host_typs: unexpected key (did you mean host_types?)"]),
    ({"s2s": {}}, ["s2s: not available in this server"]),
    (
        {"general": {"domain_certfile": []}},
        [
            "general.domain_certfile: not available in this server: put the files into certificates_dir of "
            "listen.c2s.tls"
        ],
    ),
    # general
    (
        {"general": {"loglevel": "warn"}},
        [
            'general.loglevel: unknown value "warn" (allowed: none, emergency, alert, critical, error, warning, '
            "notice, info, debug, all) (did you mean warning?)"
        ],
    ),
    ({"general": {"hosts": ["a.example", ""]}}, ['general.hosts[1]: invalid domain name ""']),
    ({"general": {"hosts": ["a.example", "A.example"]}}, ['general.hosts: names "a.example" twice']),
    ({"general": {"host_types": ["x", ""]}}, ["general.host_types[1]: must not be empty"]),
    ({"general": {"host_types": ["x", "x"]}}, ['general.host_types: names "x" twice']),
    (
        {"general": {"hosts": ["X.example"], "host_types": ["y", "x.example"]}},
        ['general.host_types[1]: "x.example" is in hosts as well'],
    ),
    (
        {"general": {"hosts": [], "host_types": []}},
        ["general: at least one of hosts and host_types must name something"],
    ),
    ({"general": {"default_server_domain": "a b"}}, ['general.default_server_domain: invalid domain name "a b"']),
    ({"general": {"registration_timeout": 0}}, ["general.registration_timeout: must be greater than zero, not 0"]),
    (
        {"general": {"registration_timeout": "never"}},
        ['general.registration_timeout: must be an integer or "infinity", not "never"'],
    ),
    (
        {"general": {"sm_backend": "redis"}},
        ["general.sm_backend: the value redis is not available in this server (allowed: mnesia, cets)"],
    ),
    (
        {"general": {"default_modules": ["mod_rostr", "mod_inbox", "mod_ping"]}},
        [
            'general.default_modules[0]: "mod_rostr": unknown module (did you mean mod_roster?)',
            'general.default_modules[1]: "mod_inbox": not available in this server',
        ],
    ),
    # auth
    (
        {"auth": {"methods": ["rdbms", "ldap", "magic"]}},
        [
            "auth.methods[1]: authentication method ldap is not available in this server (allowed: rdbms, dummy)",
            'auth.methods[2]: unknown authentication method "magic" (allowed: rdbms, dummy)',
        ],
    ),
    (
        {"auth": {"methods": ["anonymous"]}},
        ["auth.methods[0]: authentication method anonymous is not available in this server (allowed: rdbms, dummy)"],
    ),
    (
        {"auth": {"jwt": {}}},
        ["auth.jwt: authentication method jwt is not available in this server (allowed: rdbms, dummy)"],
    ),
    (
        {"auth": {"sasl_mechanisms": ["plain", "oauth"]}},
        [f"auth.sasl_mechanisms[1]: SASL mechanism oauth is not available in this server (allowed: {MECHANISMS})"],
    ),
    ({"auth": {"password": {"hash": []}}}, ["auth.password.hash: must not be empty"]),
    (
        {"auth": {"password": {"hash": ["sha224"]}}},
        ["auth.password.hash[0]: hash sha224 is not available in this server (allowed: sha, sha256, sha512)"],
    ),
    ({"auth": {"password": {"hash": ["sha", "sha"]}}}, ['auth.password.hash: names "sha" twice']),
    ({"auth": {"scram_iterations": 0}}, ["auth.scram_iterations: must be greater than zero, not 0"]),
    ({"auth": {"dummy": {"variance": -1}}}, ["auth.dummy.variance: must not be negative, but is -1"]),
    # outgoing_pools
    (
        {"auth": {"methods": ["rdbms"]}},
        ["outgoing_pools.rdbms.default: is missing: authentication method rdbms needs it"],
    ),
    (
        {"services": {"service_domain_db": {}}},
        ["outgoing_pools.rdbms.default: is missing, with global scope: service_domain_db needs it"],
    ),
    (
        {**pool(scope="host_type"), "services": {"service_domain_db": {}}},
        ["outgoing_pools.rdbms.default: is missing, with global scope: service_domain_db needs it"],
    ),
    ({"outgoing_pools": {"redis": {}}}, ["outgoing_pools.redis: not available in this server"]),
    ({"outgoing_pools": {"rdbm": {}}}, ["outgoing_pools.rdbm: unexpected key (did you mean rdbms?)"]),
    (
        {"outgoing_pools": {"rdbms": {"": {"connection": PGSQL}}}},
        ['outgoing_pools.rdbms."": the name must not be empty'],
    ),
    ({"outgoing_pools": {"rdbms": {"default": {}}}}, ["outgoing_pools.rdbms.default.connection: is missing"]),
    (pool(workers=0), ["outgoing_pools.rdbms.default.workers: must be greater than zero, not 0"]),
    (pool(scope="single_host"), ['outgoing_pools.rdbms.default.host: is missing: scope = "single_host" needs it']),
    (pool(host="example.com"), ['outgoing_pools.rdbms.default.host: is for scope = "single_host" only']),
    (
        pool(scope="single_host", host="exmple.com"),
        [
            'outgoing_pools.rdbms.default.host: "exmple.com" is neither a host nor a host type '
            "(did you mean example.com?)"
        ],
    ),
    (
        pool(strategy="next_worker", max_worker_queue_len=5),
        ['outgoing_pools.rdbms.default.max_worker_queue_len: is for strategy = "best_worker" only'],
    ),
    (
        {"outgoing_pools": {"rdbms": {"default": {"connection": {"driver": "pgsql", "password": ""}}}}},
        [
            f"{CONNECTION}.host: is missing",
            f"{CONNECTION}.database: is missing",
            f"{CONNECTION}.username: is missing",
            f"{CONNECTION}.password: must not be empty",
        ],
    ),
    (
        pool(connection={"driver": "mysql"}),
        [f"{CONNECTION}.driver: driver mysql is not available in this server (allowed: pgsql, embedded)"],
    ),
    (
        pool(connection={"settings": "DRIVER=x"}),
        [f"{CONNECTION}.settings: is for the odbc driver, which is not available in this server"],
    ),
    (
        {"outgoing_pools": {"rdbms": {"default": {"connection": {"driver": "embedded", "host": "x"}}}}},
        [f"{CONNECTION}.host: the embedded database has none: remove the key"],
    ),
    (
        pool(connection={"tls": {"required": True}}),
        [f'{CONNECTION}.tls.cacertfile: is missing: verify_mode "peer" needs it (or set verify_mode = "none")'],
    ),
    (pool(connection={"tls": {"verify_peer": 1}}), [f"{CONNECTION}.tls.verify_peer: must be true or false"]),
    (
        pool(connection={"tls": {"verify_mode": "none", "keyfile": "none.pem"}}),
        [f'{CONNECTION}.tls.keyfile: there is no file "DIRECTORY/none.pem"'],
    ),
    (
        pool(connection={"tls": {"verify_mode": "none", "certfile": "test.toml"}}),
        [f"{CONNECTION}.tls.keyfile: is missing: certfile needs it"],
    ),
    (
        pool(connection={"tls": {"verify_mode": "none", "server_name_indication": "x"}}),
        [f"{CONNECTION}.tls.server_name_indication: must be true or false, not a string"],
    ),
    # listen
    ({"listen": {"c2s": {"port": 1}}}, ["listen.c2s: must be a list, not a section"]),
    ({"listen": {"c2s": [{}]}}, ["listen.c2s[0].port: is missing"]),
    (c2s(port=65536), ["listen.c2s[0].port: must be a port, 0 to 65535, not 65536"]),
    (c2s(ip_address="localhost"), ['listen.c2s[0].ip_address: "localhost" is not an IP address']),
    (c2s(ip_address="::1", ip_version=4), ["listen.c2s[0].ip_version: ::1 is no address of that version"]),
    (c2s(proto="udp"), ['listen.c2s[0].proto: unknown value "udp" (allowed: tcp)']),
    (c2s(zlib=1024), ["listen.c2s[0].zlib: stream compression is not available in this server"]),
    (c2s(proxy_protocol=True), ["listen.c2s[0].proxy_protocol: the PROXY protocol is not available in this server"]),
    (c2s(xml_socket=True), ["listen.c2s[0].xml_socket: not available in this server"]),
    (c2s(max_stanza_size=10485761), ["listen.c2s[0].max_stanza_size: must be at most 10485760, not 10485761"]),
    (c2s(max_stanza_size="big"), ["listen.c2s[0].max_stanza_size: must be an integer, not a string"]),
    (c2s(c2s_state_timeout=-1), ["listen.c2s[0].c2s_state_timeout: must not be negative, but is -1"]),
    (
        c2s(allowed_auth_methods=["pki"]),
        [
            "listen.c2s[0].allowed_auth_methods[0]: authentication method pki is not available in this server "
            "(allowed: rdbms, dummy)"
        ],
    ),
    (c2s(tls={}), ["listen.c2s[0].tls.certfile: is missing: TLS needs a certificate"]),
    (c2s(tls={"certfile": "none.pem"}), ['listen.c2s[0].tls.certfile: there is no file "DIRECTORY/none.pem"']),
    (
        c2s(tls={"keyfile": "test.toml"}),
        [
            "listen.c2s[0].tls.certfile: is missing: TLS needs a certificate",
            "listen.c2s[0].tls.certfile: is missing: keyfile is the key to it",
        ],
    ),
    (
        c2s(tls={"self_signed": True}),
        ["listen.c2s[0].tls.certificates_dir: is missing: self_signed puts its certificate there"],
    ),
    (
        c2s(tls={"certificates_dir": "none"}),
        ['listen.c2s[0].tls.certificates_dir: there is no folder "DIRECTORY/none"'],
    ),
    (
        c2s(tls={"certfile": "test.toml", "versions": ["tlsv1.1", "tlsv1.3"]}),
        [
            "listen.c2s[0].tls.versions[0]: TLS version tlsv1.1 is not available in this server "
            "(allowed: tlsv1.2, tlsv1.3)"
        ],
    ),
    ({"listen": {"s2s": [{"port": 5269}]}}, ["listen.s2s: not available in this server"]),
    ({"listen": {"component": []}}, ["listen.component: not available in this server"]),
    (
        {"listen": {"c2s": [{"port": 5222}], "http": [{"port": 5222, "ip_address": "0.0.0.0"}]}},
        ["listen.http[0]: listens on 0.0.0.0 port 5222 like listen.c2s[0]"],
    ),
    (http(tls={}), ["listen.http[0].tls.certfile: is missing: TLS needs a certificate"]),
    (handler("mod_bosh"), ["listen.http[0].handlers.mod_bosh: not available in this server"]),
    (
        handler("mongoose_admin_ap"),
        ["listen.http[0].handlers.mongoose_admin_ap: unexpected key (did you mean mongoose_admin_api?)"],
    ),
    (http(handlers=[]), ["listen.http[0].handlers: must be a section, not a list"]),
    (
        http(handlers={"mongoose_domain_handler": [{"host": "_"}]}),
        ["listen.http[0].handlers.mongoose_domain_handler[0].path: is missing"],
    ),
    (handler(path="api"), ['listen.http[0].handlers.mongoose_domain_handler[0].path: must begin with "/"']),
    (handler(host=""), ["listen.http[0].handlers.mongoose_domain_handler[0].host: must not be empty"]),
    (
        handler(username="admin"),
        [
            "listen.http[0].handlers.mongoose_domain_handler[0].password: is missing: both username and password "
            "are required, or neither"
        ],
    ),
    (
        handler("mongoose_admin_api", handlers=["domain", "muc"]),
        [
            "listen.http[0].handlers.mongoose_admin_api[0].handlers[1]: handler muc is not available in this "
            "server (allowed: domain, users, sessions, muc_light)"
        ],
    ),
    # services
    ({"services": {"service_bosh": {}}}, ["services.service_bosh: not available in this server"]),
    (
        {"services": {"service_domain_dp": {}}},
        ["services.service_domain_dp: unexpected key (did you mean service_domain_db?)"],
    ),
    (
        {"services": {"service_domain_db": {"event_max_age": 0}}},
        ["services.service_domain_db.event_max_age: must be greater than zero, not 0"],
    ),
    # shaper, acl, access
    ({"shaper": {"slow": {}}}, ["shaper.slow.max_rate: is missing"]),
    (
        {"shaper": {"none": {"max_rate": 1}}},
        ["shaper.none: the name is reserved: it means that nothing is slowed down"],
    ),
    (
        {**c2s(shaper="norml"), "shaper": {"normal": {"max_rate": 1}}, "access": {"rule": []}},
        [
            'listen.c2s[0].shaper: "norml" is neither a shaper nor an access rule (allowed: none, normal, rule) '
            "(did you mean normal?)"
        ],
    ),
    ({"acl": {"admin": [{"user": "a@b"}]}}, ['acl.admin[0].user: "a@b" is not the localpart of an address']),
    (
        {"acl": {"admin": [{}, {"user_regexp": "("}]}},
        ["acl.admin[1].user_regexp: is not a regular expression: missing ), unterminated subpattern at position 0"],
    ),
    ({"acl": {"admin": {}}}, ["acl.admin: must be a list, not a section"]),
    ({"access": {"c2s": [{"acl": "all"}]}}, ["access.c2s[0].value: is missing"]),
    (
        {"access": {"c2s": [{"acl": "all", "value": True}]}},
        ["access.c2s[0].value: must be a string or an integer, not a boolean"],
    ),
    # modules
    (module("mod_inbox"), ["modules.mod_inbox: not available in this server"]),
    (module("mod_rostr"), ["modules.mod_rostr: unknown module (did you mean mod_roster?)"]),
    (module("mod_xyz"), ["modules.mod_xyz: unknown module"]),
    (module("mod_ping", ping_interval=-1), ["modules.mod_ping.ping_interval: must not be negative, but is -1"]),
    (module("mod_ping", intervall=1), ["modules.mod_ping.intervall: unexpected key (did you mean ping_interval?)"]),
    (module("mod_domain_isolation", x=1), ["modules.mod_domain_isolation.x: unexpected key"]),
    ({"modules": []}, ["modules: must be a section, not a list"]),
    ({"modules": {"mod_ping": 5}}, ["modules.mod_ping: must be a section, not an integer"]),
    (
        module("mod_static_only"),
        ['modules.mod_static_only: does not support dynamic domains, which host type "basic" is for'],
    ),
    # host_config
    ({"host_config": [{}]}, ["host_config[0].host_type: is missing"]),
    (
        {"host_config": [{"host_type": "basic", "general": {"loglevel": "info"}}]},
        ['host_config["basic"].general.loglevel: holds for the whole server: it may stand in [general] only'],
    ),
    (
        {"host_config": [{"host": "example.com", "listen": {}}]},
        ['host_config["example.com"].listen: holds for the whole server: it may stand at the top of the file only'],
    ),
    (
        {"host_config": [{"host_type": "basic"}, {"host": "x"}, {"host": "basic"}]},
        ['host_config["basic"]: has several entries: make them one'],
    ),
    (
        {"host_config": [{"host_type": "basic", "modules": {"mod_static_only": {}}}]},
        [
            'host_config["basic"].modules.mod_static_only: does not support dynamic domains, which host type '
            '"basic" is for'
        ],
    ),
    (
        {"host_config": [{"host": "nowhere", "modules": {"mod_ping": {"ping_interval": "x"}}}]},
        ['host_config["nowhere"].modules.mod_ping.ping_interval: must be an integer, not a string'],
    ),
    (
        {
            "host_config": [
                {
                    "host_type": "basic",
                    "outgoing_pools": {"rdbms": {"default": {"scope": "global", "connection": PGSQL}}},
                }
            ]
        },
        ['host_config["basic"].outgoing_pools.rdbms.default.scope: a pool in host_config belongs to that host type'],
    ),
]


class ReasonTests(ConfigTestCase):
    def test_reasons(self) -> None:
        for changes, lines in REASONS:
            with self.subTest(changes=changes):
                found = [line.replace(str(self.directory), "DIRECTORY") for line in self.lines(**changes)]
                self.assertEqual(found, lines)

    def test_missing_general_keys(self) -> None:
        self.assertEqual(self.lines_of("[general]"), ["general.default_server_domain: is missing"])

    def test_all_mistakes_at_once(self) -> None:
        lines = self.lines(
            general={"loglevel": "loud", "hosts": ["a b"], "colour": "red"},
            auth={"methods": ["ldap"], "password": {"format": "md5"}},
            listen={"c2s": [{"port": -1}, {"port": "x", "tls": {"mode": "never"}}]},
            modules={"mod_inbox": {}, "mod_ping": {"ping_interval": "x", "y": 1}},
            host_config=[{"host_type": "basic", "modules": {"mod_roster": {"versioning": 1}}}],
        )
        paths = [line.split(": ")[0] for line in lines]
        self.assertEqual(
            sorted(paths),
            [
                "auth.methods[0]",
                "auth.password.format",
                "general.colour",
                "general.hosts[0]",
                "general.loglevel",
                'host_config["basic"].modules.mod_roster.versioning',
                "listen.c2s[0].port",
                "listen.c2s[1].port",
                "listen.c2s[1].tls.mode",
                "modules.mod_inbox",
                "modules.mod_ping.ping_interval",
                "modules.mod_ping.y",
            ],
        )

    def test_values_from_the_file_stay_on_one_line(self) -> None:
        [line] = self.lines(acl={"a\nb": [{"user": "c\nd@"}]})
        self.assertEqual(line, r'acl."a\nb"[0].user: "c\nd@" is not the localpart of an address')


class PathTests(ConfigTestCase):
    def test_relative_paths_count_from_the_folder_of_the_file(self) -> None:
        (self.directory / "keys").mkdir()
        (self.directory / "keys" / "a.pem").write_text("")
        (self.directory / "etc").mkdir()
        text = tomlkit.dumps(merged(MINIMAL, c2s(tls={"certfile": "../keys/a.pem"})))
        config = load_config(self.write(text, "etc/chat.toml"), {})
        [listener] = config.listen.c2s
        assert listener.tls is not None
        self.assertEqual(listener.tls.certfile, self.directory / "keys" / "a.pem")

    def test_folder_behind_a_link(self) -> None:
        (self.directory / "real" / "etc").mkdir(parents=True)
        os.symlink(self.directory / "real" / "etc", self.directory / "link")
        changes = c2s(tls={"certificates_dir": "../certificates", "self_signed": True})
        self.write(tomlkit.dumps(merged(MINIMAL, changes)), "real/etc/chat.toml")
        [listener] = load_config(self.directory / "link" / "chat.toml", {}).listen.c2s
        assert listener.tls is not None
        self.assertEqual(listener.tls.certificates_dir, self.directory / "real" / "certificates")

    def test_defaults_are_paths_of_the_file_too(self) -> None:
        connection = {"driver": "embedded"}
        config = self.load(outgoing_pools={"rdbms": {"default": {"connection": connection}}})
        embedded = config.outgoing_pools.rdbms["default"].connection
        self.assertEqual(getattr(embedded, "data_dir", None), self.directory.parent / "var" / "postgres")
