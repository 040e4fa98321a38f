"""Helpers of the fault tests: forked services, filled topics and injected faults."""
