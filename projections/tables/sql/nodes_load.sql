SELECT id, view FROM nodes WHERE id = ANY ($1::text[])
