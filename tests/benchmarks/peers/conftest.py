"""What imports the peers' packages is not searched for doctests: they are in an environment of their own."""

collect_ignore_glob = ["by_*.py"]
