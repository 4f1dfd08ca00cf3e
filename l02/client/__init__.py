"""The Python client: everything the wire can do, typed."""

from l02.client.client import Client

__all__ = ["Client"]
