-- The chunks of a checkpoint ($1 agent, $2 id, $3 hash) behind position $4, at most $5 of them.
SELECT reference.position, chunk.data
FROM state_references AS reference
JOIN state_chunks AS chunk ON chunk.agent_id = reference.agent_id AND chunk.sha256 = reference.chunk
WHERE reference.agent_id = $1 AND reference.checkpoint_id = $2 AND reference.sha256 = $3 AND reference.position > $4
ORDER BY reference.position
LIMIT $5
