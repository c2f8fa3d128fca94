"""One open transaction, in the words of ``model``.

Its methods are plain functions from values to values: several of them in one ``Store.run`` are one commit, all
of it or nothing.  They do not wait, read no clock and decide nothing.  A call that cannot be meant (a move that
``TRANSITIONS`` does not know, an id that does not exist) is a defect and raises ``ValueError`` or ``LookupError``;
what a person may ask for and cannot have raises ``Refused``.
"""

from __future__ import annotations

from firmwarden.store.devices import Devices
from firmwarden.store.figures import Figures
from firmwarden.store.hand_overs import HandOvers
from firmwarden.store.history import History
from firmwarden.store.jobs import Jobs
from firmwarden.store.rollouts import Rollouts
from firmwarden.store.stops import Stops


class Ledger(Devices, Jobs, Stops, HandOvers, History, Figures, Rollouts):
    """Everything that is stored, as one transaction sees it."""
