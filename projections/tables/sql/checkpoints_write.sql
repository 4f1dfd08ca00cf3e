INSERT INTO checkpoints (
    agent_id, checkpoint_id, checkpoint_type, state, label, size_bytes, requested_at, created_at, sequence, view
)
SELECT *
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::json[]
)
ON CONFLICT (agent_id, checkpoint_id) DO UPDATE
SET
    state = excluded.state,
    label = excluded.label,
    size_bytes = excluded.size_bytes,
    created_at = excluded.created_at,
    sequence = excluded.sequence,
    view = excluded.view
