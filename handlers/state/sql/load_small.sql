-- The one chunk of a checkpoint ($1 agent, $2 id, $3 hash) that has no other: such a chunk has the checkpoint's own hash.
SELECT (SELECT data FROM state_chunks WHERE agent_id = $1 AND sha256 = reference.chunk)
FROM state_references AS reference
WHERE agent_id = $1 AND checkpoint_id = $2 AND sha256 = $3 AND position = 1 AND chunk = $3
