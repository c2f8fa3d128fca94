"""The keys that the classes of simulated devices have in every scenario."""

from __future__ import annotations

from typing import Final

from firmwarden.cli.demo.role import BAUD

MDFU: Final = """\
driver = "mdfu"
enter = { method = "send", send = "BOOTLOADER!\\n", expect = "OK" }
version_query = { send = "VERSION?\\n", expect = 'VERSION (\\S+)\\s' }
boot_delay = "500ms"
label = "{place}"
"""

SERIAL: Final = f"""\
baud = {BAUD}
{MDFU}"""

DFU: Final = """\
driver = "dfu"
match = { usb = "1209:0001" }
part = "STM32L476RG"
failsafe = "bfb2"
image_format = "raw"
image_address = 0x08000000
dfu = { version = { from = "product", expect = 'Simulated application (\\S+)' } }
"""
