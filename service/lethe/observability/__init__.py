"""Metrics, logs, the state and the result of a run."""
