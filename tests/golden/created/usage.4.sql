CREATE TABLE IF NOT EXISTS usage (
    agent_id text COLLATE "C",
    budget text COLLATE "C",
    model text COLLATE "C",
    hour text COLLATE "C",
    hour_begins timestamptz NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    cost_millionths bigint NOT NULL,
    calls bigint NOT NULL,
    sequence bigint NOT NULL,
    view json NOT NULL,
    PRIMARY KEY (agent_id, budget, model, hour)
) WITH (fillfactor = 50)
