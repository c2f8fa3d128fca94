"""``python -m firmwarden``: the command line without its script."""

from firmwarden.cli import main

main()
