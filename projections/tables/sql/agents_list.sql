SELECT view
FROM agents
WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR fleet_id = $2) AND id > $3
ORDER BY id
LIMIT $4
