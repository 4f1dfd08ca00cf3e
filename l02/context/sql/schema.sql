-- What `l02 mcp context` keeps. Contexts are JSON text (`json`, which takes any string that JSON can hold).
CREATE TABLE IF NOT EXISTS schema_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  integer NOT NULL
);
-- A task is at its newest version. Its row is what writers lock.
CREATE TABLE IF NOT EXISTS tasks (
    task_id    text COLLATE "C" PRIMARY KEY,
    status     text NOT NULL,
    version    bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS versions (
    task_id    text COLLATE "C" REFERENCES tasks,
    version    bigint,
    context    json NOT NULL,
    summary    text,
    session_id text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, version)
);
CREATE INDEX IF NOT EXISTS versions_by_session ON versions (session_id, created_at) WHERE session_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS checkpoints (
    checkpoint_id text COLLATE "C" PRIMARY KEY,
    label         text NOT NULL,
    description   text,
    type          text NOT NULL,
    session_id    text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS checkpoint_tasks (
    checkpoint_id text COLLATE "C" REFERENCES checkpoints,
    task_id       text COLLATE "C",
    version       bigint,
    PRIMARY KEY (checkpoint_id, task_id),
    FOREIGN KEY (task_id, version) REFERENCES versions
);
CREATE INDEX IF NOT EXISTS checkpoint_tasks_by_version ON checkpoint_tasks (task_id, version);
-- `server_id` is the process of this server that last heard of the session; `at_work` whether it left its task so.
CREATE TABLE IF NOT EXISTS sessions (
    session_id    text COLLATE "C" PRIMARY KEY,
    task_id       text COLLATE "C" NOT NULL REFERENCES tasks,
    server_id     text NOT NULL,
    at_work       boolean NOT NULL,
    last_activity timestamptz NOT NULL DEFAULT clock_timestamp(),
    recovered_at  timestamptz
);
CREATE INDEX IF NOT EXISTS sessions_at_work ON sessions (last_activity) WHERE at_work;
-- A process of the server that lives holds an advisory lock under this key.
CREATE OR REPLACE FUNCTION presence_key(server_id text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT ('x' || left(server_id, 16))::bit(64)::bigint
$$;
CREATE OR REPLACE FUNCTION is_present(server_id text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE
            locktype = 'advisory' AND objsubid = 1 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (classid::bigint << 32 | objid::bigint) = ('x' || left(server_id, 16))::bit(64)::bigint
    )
$$;
