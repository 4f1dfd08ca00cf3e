"""What an agent asks of models: reserved, recorded, asked, recorded again, settled."""
