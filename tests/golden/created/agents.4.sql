CREATE TABLE IF NOT EXISTS agents (
    id text COLLATE "C",
    name text NOT NULL,
    state text NOT NULL,
    fleet_id text,
    node_id text,
    trust_level text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version bigint NOT NULL,
    sequence bigint NOT NULL,
    nodes json,
    has_session boolean NOT NULL,
    owes boolean NOT NULL,
    asks boolean NOT NULL,
    budgets json,
    view json NOT NULL,
    PRIMARY KEY (id)
) WITH (fillfactor = 50)
