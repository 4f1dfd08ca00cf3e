INSERT INTO nodes (id, state, joined_at, updated_at, sequence, view)
SELECT *
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::json[])
ON CONFLICT (id) DO UPDATE
SET
    state = excluded.state,
    joined_at = excluded.joined_at,
    updated_at = excluded.updated_at,
    sequence = excluded.sequence,
    view = excluded.view
