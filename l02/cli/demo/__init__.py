"""`l02 demo`: the main job, end to end, on this very repository."""
