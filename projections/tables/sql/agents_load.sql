SELECT id, view FROM agents WHERE id = ANY ($1::text[])
