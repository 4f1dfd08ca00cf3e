CREATE TABLE IF NOT EXISTS executions (
    agent_id text COLLATE "C",
    execution_id text COLLATE "C",
    state text NOT NULL,
    tokens bigint NOT NULL,
    duration_seconds double precision,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    sequence bigint NOT NULL,
    view json NOT NULL,
    PRIMARY KEY (agent_id, execution_id)
) WITH (fillfactor = 50)
