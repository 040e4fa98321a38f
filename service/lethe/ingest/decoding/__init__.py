"""Decodes images in processes of their own, for a reader whose limit is decoding."""
