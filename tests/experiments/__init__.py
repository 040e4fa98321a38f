"""Tests of the experiments room."""
