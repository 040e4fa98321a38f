"""Keeps pytest from importing what only runs in another environment."""

collect_ignore = ["fit_for_mlflow.py", "digits_runtime.py"]
