"""Tests of several ranks that learn one model."""
