"""Compares one rank, services that learn apart, and ranks that learn one model together."""
