"""The commands: the only place that knows flags, tables and exit codes."""
