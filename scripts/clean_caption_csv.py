"""Clean a table of reports, as `ctscribe clean`."""

from ctscribe.cli import shim

if __name__ == "__main__":
    shim("clean")
