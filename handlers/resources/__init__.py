"""The resource manager: what agents may spend, and what becomes of those that would spend more."""
