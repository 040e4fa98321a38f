"""Composes one run of the service, resumes it, and runs its loop to the end."""
