"""A server that is told to stop while the database answers nobody: it ends all the same."""

from typing import ClassVar

import psycopg2
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.interop.configs import Ports, server_with, with_database
from tests.interop.databases import NAME, PASSWORD, ExternalPostgres, create_accounts, until
from tests.interop.raw import logs_in, roster_item


class Unanswered(TestCase):
    #: Seconds; the lock is held until the end.
    timeout = 30
    postgres: ClassVar[ExternalPostgres]

    @classmethod
    def setUpClass(cls) -> None:
        cls.postgres = ExternalPostgres()
        cls.addClassCleanup(cls.postgres.server.stop)

    async def test_the_end_comes(self) -> None:
        self.postgres.fresh_database()
        ports = Ports()
        config = with_database(self.postgres.connection()).replace("call_timeout = 1000", "call_timeout = 60000")
        server = server_with(self, config + ports.sections)
        await server.start()
        await create_accounts(self, self.postgres.settings(), ("alice@localhost", "alice"))
        alice = await logs_in(self, ports.c2s, "alice@localhost", "alice")
        locked = psycopg2.connect(host="127.0.0.1", port=self.postgres.port, dbname=NAME, user=NAME, password=PASSWORD)
        self.addCleanup(locked.close)
        with locked.cursor() as cursor:
            cursor.execute("LOCK TABLE rosters IN ACCESS EXCLUSIVE MODE")
        alice.send(f"<iq type='set' id='r'>{roster_item('bob@localhost', 'Bob')}</iq>")

        async def waits() -> bool | None:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return True if self.postgres.rows(sql) == [(1,)] else None

        await until(waits, "the request to wait")
        stopped = Deferred.fromCoroutine(server.stop())
        await server.event("server_stopped")
        self.assertEqual(0, await stopped)
