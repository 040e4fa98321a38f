"""Reads records from the stream in a process of its own and makes batches of them."""
