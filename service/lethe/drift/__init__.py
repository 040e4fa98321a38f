"""Detects boundaries in the stream, and recognises regimes that return."""
