-- What task $4 has written. Only errors, interrupts and the like (with an index below 0) take another one's place.
INSERT INTO langgraph_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, data)
SELECT $1, $2, $3, $4, $5, new.idx, new.channel, new.data
FROM unnest($6::integer[], $7::text[], $8::bytea[]) AS new (idx, channel, data)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
DO UPDATE SET channel = EXCLUDED.channel, data = EXCLUDED.data
WHERE EXCLUDED.idx < 0
