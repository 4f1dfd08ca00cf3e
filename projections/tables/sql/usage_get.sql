-- What models have used since $2, by what $1 says: agent, fleet, budget or model; of agent $3, if it is given; at most $5
-- of them, after the name $4, in the order of their names.
WITH used AS (
    SELECT
        CASE $1::text
            WHEN 'agent' THEN usage.agent_id
            WHEN 'fleet' THEN coalesce(agents.fleet_id, '')
            WHEN 'budget' THEN usage.budget
            ELSE usage.model
        END AS name,
        usage.*
    FROM usage
    LEFT JOIN agents ON agents.id = usage.agent_id
    WHERE ($2::timestamptz IS NULL OR usage.hour_begins >= $2) AND ($3::text IS NULL OR usage.agent_id = $3)
)

SELECT
    name,
    sum(input_tokens) AS input_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(cost_millionths) AS cost_millionths,
    sum(calls) AS calls
FROM used
WHERE $4::text IS NULL OR name COLLATE "C" > $4
GROUP BY name
ORDER BY name COLLATE "C"
LIMIT $5
