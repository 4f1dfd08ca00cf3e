"""What `l02 up` says to a person once the node is ready: what is up, where, and what to type next."""

from __future__ import annotations

import shlex

from l02.data_dir import default_data_dir
from l02.domain.printable import in_log
from l02.node.settings import Settings

_OWN = "its own, in the data directory"


def greeting(settings: Settings, node_id: str, http_url: str, seconds: float) -> str:
    """A few lines without colours. URLs of servers may hold passwords, so only who brought the servers is said."""
    at_home = settings.data_dir == default_data_dir().absolute()
    here = "" if at_home else f" --data-dir {shlex.quote(str(settings.data_dir))}"
    lines = (
        f"l02 is up: node {node_id} was ready in {seconds:.1f} s",
        f"  data        {settings.data_dir}",
        f"  NATS        {_OWN if settings.nats_url is None else 'yours, as set in node.nats_url'}",
        f"  PostgreSQL  {_OWN if settings.postgres_url is None else 'yours, as set in node.postgres_url'}",
        f"  HTTP        {http_url} (/healthz, /readyz, /metrics)",
        "",
        "Next, in another terminal:",
        f"  l02 spawn examples/historian.yaml --id h1{here}",
        f"  l02 ps{here}",
        "Ctrl-C stops this node; what it has recorded stays.",
        "",
    )
    return "\n".join(in_log(line) for line in lines)
