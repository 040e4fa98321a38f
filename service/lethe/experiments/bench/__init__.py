"""Benchmarks that measure all sides in turns within one run, so that load affects them alike."""
