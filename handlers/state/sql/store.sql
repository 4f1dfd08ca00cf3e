-- Chunks of agent $1: hashes $2, packed contents $3. Saves at the same time take their locks in one order.
INSERT INTO state_chunks (agent_id, sha256, data)
SELECT $1, chunk.sha256, chunk.data FROM unnest($2::bytea[], $3::bytea[]) AS chunk (sha256, data)
ORDER BY chunk.sha256
ON CONFLICT DO NOTHING
