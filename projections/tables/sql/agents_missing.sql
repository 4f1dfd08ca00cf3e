-- Agents that need a node which is not among those given: to have a process there or to be brought to an end, to have a
-- checkpoint stored or to be brought back to one.
SELECT agents.id, needed.node_id
FROM agents, json_array_elements_text(agents.nodes) AS needed (node_id)
WHERE agents.nodes IS NOT NULL AND NOT needed.node_id = ANY ($1::text[])
ORDER BY agents.id
