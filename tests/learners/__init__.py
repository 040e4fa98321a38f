"""Tests of the learners room."""
