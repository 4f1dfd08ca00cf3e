INSERT INTO agents (
    id, name, state, fleet_id, node_id, trust_level, created_at, updated_at, version, sequence, nodes, has_session, owes, view
)
SELECT *
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::timestamptz[], $8::timestamptz[], $9::bigint[], $10::bigint[], $11::json[], $12::boolean[], $13::boolean[], $14::json[]
)
ON CONFLICT (id) DO UPDATE
SET
    state = excluded.state,
    node_id = excluded.node_id,
    trust_level = excluded.trust_level,
    updated_at = excluded.updated_at,
    version = excluded.version,
    sequence = excluded.sequence,
    nodes = excluded.nodes,
    has_session = excluded.has_session,
    owes = excluded.owes,
    view = excluded.view
