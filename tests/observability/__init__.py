"""Tests of the observability room."""
