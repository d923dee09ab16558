"""PostgreSQL: pools, the embedded server, migrations, notifications."""
