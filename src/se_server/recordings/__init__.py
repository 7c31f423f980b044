"""Recordings of conversations: their format, what is hidden in them, and the tests that are made of them."""
