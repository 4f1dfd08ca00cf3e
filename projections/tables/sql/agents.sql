-- One row per agent. `view` is the whole current state (JSON); the other columns are there to be searched and sorted.
CREATE TABLE IF NOT EXISTS agents (
    id          text COLLATE "C" PRIMARY KEY,
    name        text NOT NULL,
    state       text NOT NULL,
    fleet_id    text,
    node_id     text,
    trust_level text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    version     bigint NOT NULL,
    sequence    bigint NOT NULL,
    nodes       json, -- those that have something to do for it
    has_session boolean NOT NULL, -- open at the other side
    owes        boolean NOT NULL, -- the other side has not heard of the newest checkpoint
    view        json NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS agents_by_state ON agents (state, id);
CREATE INDEX IF NOT EXISTS agents_by_fleet ON agents (fleet_id, id) WHERE fleet_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS agents_with_nodes ON agents (id) WHERE nodes IS NOT NULL;
CREATE INDEX IF NOT EXISTS agents_by_node ON agents (node_id, state);
