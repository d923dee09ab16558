"""Configurations of servers under test: written out, so that a test reads as an operator's file does."""

import shutil
from pathlib import Path
from typing import Any

from tests.fixtures.postgres import new_folder
from tests.fixtures.server import ServerProcess, free_port, temporary_folder

GENERAL = """
[general]
loglevel = "info"
hosts = ["localhost"]
host_types = ["basic"]
default_server_domain = "localhost"
"""

#: A server that needs no database, and so starts and stops in no time.
WITHOUT_DATABASE = """
[general]
loglevel = "info"
hosts = ["localhost"]
default_server_domain = "localhost"
default_modules = ["mod_ping"]
[auth]
methods = ["dummy"]
[auth.dummy]
base_time = 1
variance = 1
"""


def with_database(connection: str, *, general: str = GENERAL) -> str:
    """Everything of an ordinary server but its ports. Requests wait one second for the database, attempts one."""
    return f"""
{general}
[auth]
methods = ["rdbms"]
[auth.password]
scram_iterations = 4096
[outgoing_pools.rdbms.default]
workers = 4
call_timeout = 1000
[outgoing_pools.rdbms.default.connection]
{connection}
max_start_interval = 1
[services.service_domain_db]
"""


class Ports:
    """A port for clients without TLS and one for administration, on loopback."""

    def __init__(self) -> None:
        self.c2s, self.http = free_port(), free_port()
        self.api = f"http://localhost:{self.http}/api"

    def c2s_section(self, more: str = "") -> str:
        return f'\n[[listen.c2s]]\nip_address = "127.0.0.1"\nport = {self.c2s}\n{more}\n'

    def http_section(self) -> str:
        return (
            f'\n[[listen.http]]\nip_address = "127.0.0.1"\nport = {self.http}\n'
            '[[listen.http.handlers.mongoose_domain_handler]]\nhost = "localhost"\npath = "/api"\n'
        )

    @property
    def sections(self) -> str:
        return self.c2s_section() + self.http_section()


def data_folder(case: Any) -> Path:
    """A folder for an embedded database, in memory where there is plenty; gone after the test."""
    folder = new_folder(in_memory=True)
    case.addCleanup(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    return folder


def server_with(case: Any, text: str, folder: Path | None = None) -> ServerProcess:
    """A server that is not started yet, and ends with the test."""
    folder = folder if folder is not None else temporary_folder(case)
    config = folder / "dynxmpp.toml"
    config.write_text(text)
    server = ServerProcess(config)
    case.addCleanup(server.clean_up)
    return server
