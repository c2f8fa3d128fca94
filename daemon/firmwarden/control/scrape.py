"""Answers Prometheus.

The library that writes its formats is an extra and is imported by the first scrape.  A scrape costs one transaction of
the store, and its text is written in a thread, one at a time, where it holds up no transfer.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import anyio
from anyio import to_thread
from starlette.endpoints import HTTPEndpoint
from starlette.responses import Response
from starlette.routing import Route

from firmwarden.control.metrics import DURATION, METRICS, durations
from firmwarden.control.problems import BadRequest
from firmwarden.control.requests import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family
    from starlette.requests import Request

    from firmwarden.control.desk import Desk
    from firmwarden.service.figures import FiguresView

_OPENMETRICS: Final = "application/openmetrics-text"


def metrics_route(desk: Desk) -> Route:
    """Make the route."""
    writers = anyio.CapacityLimiter(1)

    # A class takes every method and refuses those that it does not have; a function would leave them to others.
    class Scrape(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            query(request)
            if find_spec("prometheus_client") is None:
                raise BadRequest(
                    "Metrics need the package prometheus-client: `pip install 'firmwarden[metrics]'`, or your "
                    "distribution's python3-prometheus-client.",
                    status=501,
                )
            figures = await desk.figures()
            accept = request.headers.get("accept", "")
            content, kind = await to_thread.run_sync(_write, figures, accept, limiter=writers)
            return Response(content, headers={"content-type": kind})

    return Route("/metrics", Scrape)


def _write(figures: FiguresView, accept: str) -> tuple[bytes, str]:
    """Write the figures in the format that is asked for."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  only who asks pays for it
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Figures(Collector):
        def collect(self) -> Iterator[Family]:
            return _families(figures)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures())
    # Not the header itself: the library raises at a version that is none.
    encode, kind = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(registry), kind


def _families(figures: FiguresView) -> Iterator[Family]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    for metric in METRICS:
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = make(metric.name, metric.help, labels=metric.labels)
        for labels, number in metric.read(figures):
            family.add_metric(labels, number)
        yield family
    histogram = HistogramMetricFamily(DURATION.name, DURATION.help, labels=DURATION.labels)
    for labels, buckets, seconds in durations(figures):
        histogram.add_metric(labels, buckets, seconds)
    yield histogram
