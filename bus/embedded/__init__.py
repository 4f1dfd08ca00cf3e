"""The servers a node brings along, so that a single machine needs nothing but `pip install`.

The caller holds the `DataDirectory` (its lock is what makes one node the owner of the servers in it) and runs
`EmbeddedServers` inside it.
"""

from bus.embedded.data_directory import DataDirectory
from bus.embedded.errors import DataDirectoryError, ServerError
from bus.embedded.nats_server import EmbeddedNats
from bus.embedded.postgres_server import EmbeddedPostgres
from bus.embedded.servers import EmbeddedServers

__all__ = [
    "DataDirectory",
    "DataDirectoryError",
    "EmbeddedNats",
    "EmbeddedPostgres",
    "EmbeddedServers",
    "ServerError",
]
