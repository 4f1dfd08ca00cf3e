"""Three servers, and what happens when one of them goes."""
