"""Boundaries: where the stream's subject changes, found in plain numbers about each batch."""
