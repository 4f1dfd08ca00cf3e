-- Of the agent $1: chunks that no checkpoint needs and that were stored before $2. One in use by a save is passed over.
WITH unused AS (
    SELECT sha256 FROM state_chunks AS chunk
    WHERE agent_id = $1 AND stored_at < $2 AND NOT EXISTS (
        SELECT FROM state_references AS reference WHERE reference.agent_id = $1 AND reference.chunk = chunk.sha256
    )
    FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM state_chunks WHERE agent_id = $1 AND sha256 IN (SELECT sha256 FROM unused)
    RETURNING octet_length(data) AS bytes
)
SELECT coalesce(sum(bytes), 0)::bigint FROM removed
