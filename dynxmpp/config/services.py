"""[services]: what runs once per node, whatever the number of host types."""

from typing import Any, Final

from dynxmpp.config.model import Section, non_empty, option, positive, section

#: `db_pool` with this value means the pool `default` of the whole server, not that of one host type.
GLOBAL_POOL: Final = "global"


@section
class ServiceDomainDb(Section):
    """[services.service_domain_db]"""

    db_pool: str = option(default=GLOBAL_POOL, check=non_empty)
    event_cleaning_interval: int = option(default=1800, check=positive)
    event_max_age: int = option(default=7200, check=positive)


@section(
    refused={
        "service_bosh": "not available in this server",
        "service_traffic": "not available in this server",
    }
)
class Services(Section):
    """[services]"""

    service_domain_db: ServiceDomainDb | None = option(default=None)
    service_mongoose_system_metrics: dict[str, Any] | None = option(default=None, unused=True)
    service_admin_extra: dict[str, Any] | None = option(default=None, unused=True)
