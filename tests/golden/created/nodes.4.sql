CREATE TABLE IF NOT EXISTS nodes (
    id text COLLATE "C",
    state text NOT NULL,
    joined_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    view json NOT NULL,
    PRIMARY KEY (id)
) WITH (fillfactor = 50)
