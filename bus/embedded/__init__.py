"""The servers a node brings along, so that a single machine needs nothing but `pip install`.

The caller holds the `DataDirectory` (its lock is what makes one node the owner of the servers in it) and runs
`EmbeddedServers` inside it.
"""

from l02.bus.embedded.data_directory import DataDirectory
from l02.bus.embedded.errors import DataDirectoryError, ServerError
from l02.bus.embedded.nats_server import EmbeddedNats
from l02.bus.embedded.postgres_server import EmbeddedPostgres
from l02.bus.embedded.servers import EmbeddedServers

__all__ = [
    "DataDirectory",
    "DataDirectoryError",
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedServers",
    "ServerError",
]
