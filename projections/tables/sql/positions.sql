-- How far each projection has come: all events up to this stream sequence are in its table.
CREATE TABLE IF NOT EXISTS positions (
    name       text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
