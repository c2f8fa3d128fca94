"""Firmwarden keeps the firmware of attached microcontrollers what it should be."""

from typing import Final

__version__: Final = "0.1.0"
