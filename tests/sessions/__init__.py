"""Tests of the session bridge, with real servers in processes of their own."""
