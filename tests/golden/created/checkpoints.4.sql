CREATE TABLE IF NOT EXISTS checkpoints (
    agent_id text COLLATE "C",
    checkpoint_id text COLLATE "C",
    checkpoint_type text NOT NULL,
    state text NOT NULL,
    label text,
    size_bytes bigint,
    requested_at timestamptz NOT NULL,
    created_at timestamptz,
    sequence bigint NOT NULL,
    view json NOT NULL,
    PRIMARY KEY (agent_id, checkpoint_id)
) WITH (fillfactor = 50)
