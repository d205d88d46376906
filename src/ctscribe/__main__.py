"""`python -m ctscribe`: the same as `ctscribe`, where the script is not on the path."""

from ctscribe.cli import main

if __name__ == "__main__":
    main()
