"""Fits scikit-learn's classifier to one stage after the other in an .npz file, and saves it for MLflow."""

import sys

import mlflow.sklearn
import numpy as np
from sklearn.linear_model import SGDClassifier

__all__ = ["main"]


def main() -> None:
    """Save the model after each stage, in the folder that the command line names."""
    data, folder = sys.argv[1:]
    model = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=0)
    with np.load(data) as stages:
        for stage in range(len(stages.files) // 2):
            for _ in range(3):
                model.partial_fit(stages[f"x{stage}"], stages[f"y{stage}"], classes=np.arange(10))
            mlflow.sklearn.save_model(model, f"{folder}/{stage}")


if __name__ == "__main__":
    main()
