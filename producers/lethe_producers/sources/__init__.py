"""Sources of labelled images: each kind is one class in one file."""
