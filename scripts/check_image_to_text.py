"""Report of one image, as `ctscribe report`."""

from ctscribe.cli import shim

if __name__ == "__main__":
    shim("report")
