"""The tests: a package proper, or the one of this name that avalanche-lib installs would be found first."""
