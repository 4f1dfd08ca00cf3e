UPDATE positions
SET position = greatest(position, $2), updated_at = clock_timestamp()
WHERE name = ANY ($1::text[])
