"""Stage 1, as `ctscribe train align`."""

from ctscribe.cli import shim

if __name__ == "__main__":
    shim("train", "align")
