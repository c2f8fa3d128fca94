"""What lies where in the state directory."""

from __future__ import annotations

from typing import Final

STATE_FILE: Final = "firmwarden.db"
IMAGES_DIR: Final = "images"
