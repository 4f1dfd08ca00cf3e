"""A busy machine must not fail a property: hypothesis has no deadline per example here."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
