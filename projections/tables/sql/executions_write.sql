INSERT INTO executions (
    agent_id, execution_id, state, tokens, duration_seconds, started_at, ended_at, sequence, view
)
SELECT *
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::bigint[], $5::double precision[],
    $6::timestamptz[], $7::timestamptz[], $8::bigint[], $9::json[]
)
ON CONFLICT (agent_id, execution_id) DO UPDATE
SET
    state = excluded.state,
    tokens = excluded.tokens,
    duration_seconds = excluded.duration_seconds,
    ended_at = excluded.ended_at,
    sequence = excluded.sequence,
    view = excluded.view
