-- Those of the chunks $2 of agent $1 that are stored, and the bytes they take.
SELECT sha256, octet_length(data) FROM state_chunks WHERE agent_id = $1 AND sha256 = ANY ($2::bytea[])
