-- A checkpoint ($1 agent, $2 id, $3 hash) of stored chunks, $4 in their order.
WITH checkpoint AS (
    INSERT INTO state_checkpoints (agent_id, checkpoint_id, sha256) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
    RETURNING agent_id
)
INSERT INTO state_references (agent_id, checkpoint_id, sha256, position, chunk)
SELECT checkpoint.agent_id, $2, $3, part.position, part.chunk
FROM checkpoint, unnest($4::bytea[]) WITH ORDINALITY AS part (chunk, position)
