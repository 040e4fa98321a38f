"""Demo, benchmarks, chaos and attacks: the only modules that use both service and producers."""
