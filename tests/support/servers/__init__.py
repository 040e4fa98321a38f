"""Model servers of others, each run in an environment of its own."""
