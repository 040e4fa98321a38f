"""``python -m lethe`` is the command ``lethe``."""

from lethe.cli.main import main

if __name__ == "__main__":
    main()
