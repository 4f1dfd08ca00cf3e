-- A checkpoint ($1 agent, $2 id, $3 hash) of the one chunk $4.
WITH chunk AS (
    INSERT INTO state_chunks (agent_id, sha256, data) VALUES ($1, $3, $4)
    ON CONFLICT DO NOTHING
), checkpoint AS (
    INSERT INTO state_checkpoints (agent_id, checkpoint_id, sha256) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
    RETURNING agent_id
)
INSERT INTO state_references (agent_id, checkpoint_id, sha256, position, chunk)
SELECT agent_id, $2, $3, 1, $3 FROM checkpoint
