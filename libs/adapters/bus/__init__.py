"""The one door to Redis Streams: at least once, in no order, acknowledged after the commit."""

from __future__ import annotations

from libs.adapters.bus.bus import Bus
from libs.adapters.bus.delivery import UNDELIVERABLE, Handler, OnPoison
from libs.adapters.bus.entry import Entry
from libs.adapters.bus.overview import ConsumerOverview, GroupOverview, StreamOverview
from libs.adapters.bus.publishing import RoomExceeded
from libs.adapters.bus.tuning import Tuning

__all__ = [
    "UNDELIVERABLE",
    "Bus",
    "ConsumerOverview",
    "Entry",
    "GroupOverview",
    "Handler",
    "OnPoison",
    "RoomExceeded",
    "StreamOverview",
    "Tuning",
]
