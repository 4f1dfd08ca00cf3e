-- The chunks of a checkpoint ($1 agent, $2 id, $3 hash) behind position $4, at most $5 of them.
-- Not a join: as long as the tables have no statistics, that would look at every chunk of the agent.
SELECT position, (SELECT data FROM state_chunks WHERE agent_id = $1 AND sha256 = reference.chunk)
FROM state_references AS reference
WHERE agent_id = $1 AND checkpoint_id = $2 AND sha256 = $3 AND position > $4
ORDER BY position
LIMIT $5
