"""TOML to a frozen tree: ``load`` returns a ``Config`` or raises ``BadConfig`` with every problem at once.

Only the composition root reads the tree; everything else gets plain arguments.
"""

from firmwarden.config.load import load, needs_restart
from firmwarden.config.tree import (
    EVERY_CLASS,
    Config,
    DeviceClass,
    DfuTuning,
    DfuVersion,
    DriverName,
    Enter,
    EnterCommand,
    EnterDetach,
    EnterNone,
    EnterPulse,
    EnterSend,
    EnterTouch1200,
    Identity,
    LogLevel,
    Match,
    MdfuTuning,
    Retry,
    Settings,
    SigningKey,
    UnknownVersion,
    VersionQuery,
    VersionSource,
    WearLimits,
)
from firmwarden.config.values import Pause, SetLine, UsbId
from firmwarden.drivers.boot.outlook import Failsafe

__all__ = [
    "EVERY_CLASS",
    "Config",
    "DeviceClass",
    "DfuTuning",
    "DfuVersion",
    "DriverName",
    "Enter",
    "EnterCommand",
    "EnterDetach",
    "EnterNone",
    "EnterPulse",
    "EnterSend",
    "EnterTouch1200",
    "Failsafe",
    "Identity",
    "LogLevel",
    "Match",
    "MdfuTuning",
    "Pause",
    "Retry",
    "SetLine",
    "Settings",
    "SigningKey",
    "UnknownVersion",
    "UsbId",
    "VersionQuery",
    "VersionSource",
    "WearLimits",
    "load",
    "needs_restart",
]
