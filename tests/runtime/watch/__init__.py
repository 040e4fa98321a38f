"""Tests of a model that is watched."""
