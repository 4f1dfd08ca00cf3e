-- One row per node. `view` is the whole current state (JSON); the other columns are there to be searched and sorted.
CREATE TABLE IF NOT EXISTS nodes (
    id         text COLLATE "C" PRIMARY KEY,
    state      text NOT NULL,
    joined_at  timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sequence   bigint NOT NULL,
    view       json NOT NULL
);
