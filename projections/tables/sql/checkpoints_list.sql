-- The latest first, beginning after checkpoint $3, if it is given; only those in state $2, if it is given.
SELECT view
FROM checkpoints
WHERE
    agent_id = $1
    AND ($2::text IS NULL OR state = $2)
    AND (
        $3::text IS NULL
        OR (requested_at, checkpoint_id) < (
            SELECT page.requested_at, page.checkpoint_id
            FROM checkpoints AS page
            WHERE page.agent_id = $1 AND page.checkpoint_id = $3
        )
    )
ORDER BY requested_at DESC, checkpoint_id DESC
LIMIT $4
