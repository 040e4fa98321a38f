"""Tests of the checkpointing room."""
