CREATE TABLE IF NOT EXISTS budgets (
    id text COLLATE "C",
    parent text,
    action text NOT NULL,
    holders json,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version bigint NOT NULL,
    sequence bigint NOT NULL,
    view json NOT NULL,
    PRIMARY KEY (id)
) WITH (fillfactor = 50)
