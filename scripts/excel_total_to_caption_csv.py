"""Excel to caption CSVs, as `ctscribe excel`."""

from ctscribe.cli import shim

if __name__ == "__main__":
    shim("excel")
