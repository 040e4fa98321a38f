"""Tests of the drift room."""
