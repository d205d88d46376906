"""Stage 2, as `ctscribe train caption`."""

from ctscribe.cli import shim

if __name__ == "__main__":
    shim("train", "caption")
