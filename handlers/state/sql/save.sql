-- A checkpoint ($1 agent, $2 id, $3 hash) of the chunks $4 in their order; $5 and $6 are chunks that may be new.
WITH stored AS (
    INSERT INTO state_chunks (agent_id, sha256, data)
    SELECT $1, chunk.sha256, chunk.data FROM unnest($5::bytea[], $6::bytea[]) AS chunk (sha256, data)
    ON CONFLICT DO NOTHING
), checkpoint AS (
    INSERT INTO state_checkpoints (agent_id, checkpoint_id, sha256) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
    RETURNING agent_id
)
INSERT INTO state_references (agent_id, checkpoint_id, sha256, position, chunk)
SELECT checkpoint.agent_id, $2, $3, part.position, part.chunk
FROM checkpoint, unnest($4::bytea[]) WITH ORDINALITY AS part (chunk, position)
