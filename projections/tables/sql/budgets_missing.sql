-- Budgets of which something is lent to a node that is not among those given.
SELECT view
FROM budgets
WHERE holders IS NOT NULL AND EXISTS (
    SELECT FROM json_array_elements_text(holders) AS holder WHERE NOT holder = ANY ($1::text[])
)
ORDER BY id
