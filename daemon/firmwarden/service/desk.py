"""The service's counter: what the control API offers is what stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.service.figures import Figures
from firmwarden.service.wishes import Wishes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmwarden.service.incoming import Incoming
    from firmwarden.service.pulse import Pulse
    from firmwarden.service.shelf import Shelf
    from firmwarden.service.warden import Warden
    from firmwarden.store.store import Store


class Desk(Figures, Wishes):
    """Questions, figures and wishes in one, as the API takes it."""

    def __init__(
        self,
        *,
        store: Store,
        warden: Warden,
        shelf: Callable[[], Shelf],
        problems: Callable[[], Sequence[str]],
        pulse: Pulse,
        incoming: Incoming,
    ) -> None:
        """Take what ``Questions`` and ``Wishes`` take."""
        Figures.__init__(self, store=store, warden=warden, shelf=shelf, problems=problems, pulse=pulse)
        Wishes.__init__(self, store=store, warden=warden, incoming=incoming)
