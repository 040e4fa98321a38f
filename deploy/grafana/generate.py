"""Generates the dashboards' JSON files; run by ``make dashboards``."""

import json
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, from a checkout

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.forgetting import forgetting
from deploy.grafana.overview import overview
from deploy.grafana.privacy import privacy
from deploy.grafana.stream import stream

__all__ = ["FOLDER", "documents", "main"]

FOLDER: Final = Path(__file__).resolve().parent / "dashboards"


def documents() -> dict[str, str]:
    """Return the file name and contents of each dashboard."""
    boards = (overview(), forgetting(), stream(), privacy())
    return {
        f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for board in boards
    }


def main() -> None:
    """Write every dashboard."""
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
