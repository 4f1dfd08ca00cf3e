-- One row per execution; its id is unique within its agent. `view` is all that is known of it (JSON).
CREATE TABLE IF NOT EXISTS executions (
    agent_id         text COLLATE "C",
    execution_id     text COLLATE "C",
    state            text NOT NULL,
    tokens           bigint NOT NULL,
    duration_seconds double precision,
    started_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    sequence         bigint NOT NULL,
    view             json NOT NULL,
    PRIMARY KEY (agent_id, execution_id)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS executions_by_start ON executions (agent_id, started_at, execution_id);
