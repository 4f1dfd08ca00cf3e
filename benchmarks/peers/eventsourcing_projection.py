"""The eventsourcing library's ProjectionRunner, both its application and its view on PostgreSQL."""

from __future__ import annotations

import json
import sys
import time
from functools import singledispatchmethod
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL, Identifier

OPTIONS: dict[str, Any] = json.loads(sys.argv[1])
EVENTS_PER_AGENT = 100


class Agent(Aggregate):
    @event("Worked")
    def work(self, output: str) -> None:
        self.output = output


class Agents(Application[UUID]):
    pass


class AgentTable(PostgresTrackingRecorder):
    def __init__(self, datastore: PostgresDatastore, *, tracking_table_name: str, **kwargs: Any) -> None:
        super().__init__(datastore, tracking_table_name=tracking_table_name, **kwargs)
        table = (Identifier(datastore.schema), Identifier("peer_agents_view"))
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS {0}.{1} (id uuid PRIMARY KEY, version bigint, output text)").format(*table)
        )
        self.upsert = SQL(
            "INSERT INTO {0}.{1} VALUES (%s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, output = excluded.output"
        ).format(*table)

    def write(self, agent_id: UUID, version: int, output: str, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self.upsert, (agent_id, version, output), prepare=True)


class AgentProjection(Projection[AgentTable]):
    name = "agents"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.write(domain_event.originator_id, domain_event.originator_version, "", tracking)

    @process_event.register
    def _(self, domain_event: Agent.Worked, tracking: Tracking) -> None:  # type: ignore[name-defined]
        self.view.write(domain_event.originator_id, domain_event.originator_version, domain_event.output, tracking)


def main() -> dict[str, float]:
    url = urlsplit(OPTIONS["postgres"])
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": url.path[1:],
        "POSTGRES_HOST": url.hostname or "",
        "POSTGRES_PORT": str(url.port),
        "POSTGRES_USER": url.username or "",
        "POSTGRES_PASSWORD": url.password or "",
    }
    application = Agents(environment)
    before = application.recorder.max_notification_id() or 0
    for _ in range(OPTIONS["events"] // EVENTS_PER_AGENT):
        agent = Agent()
        for _ in range(EVENTS_PER_AGENT - 1):
            agent.work("x" * OPTIONS["payload"])
        application.save(agent)
    last = application.recorder.max_notification_id()
    assert last is not None
    application.close()
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=Agents, projection_class=AgentProjection, view_class=AgentTable, env=environment
    ) as runner:
        runner.wait(last, timeout=300)
        taken = time.perf_counter() - began
    return {"per_second": (last - before) / taken}


print(json.dumps(main()))
