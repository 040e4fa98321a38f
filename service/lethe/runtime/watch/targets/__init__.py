"""Models that can be watched, each behind the interface of `lethe.runtime.watch.targets.target`."""
