-- A checkpoint ($1 thread, $2 namespace, $3 id), and those of its channels' values that are new: $8, $9, $10.
WITH value AS (
    INSERT INTO langgraph_values (thread_id, checkpoint_ns, channel, version, data)
    SELECT $1, $2, new.channel, new.version, new.data
    FROM unnest($8::text[], $9::text[], $10::bytea[]) AS new (channel, version, data)
    ON CONFLICT DO NOTHING
)
INSERT INTO langgraph_checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_id, checkpoint, metadata, versions)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata, versions = EXCLUDED.versions
