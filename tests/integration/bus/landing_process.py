"""A consumer as a process of its own: lands events in a Redis set, counts each commit, dies of what kills.

Usage: landing_process.py URL CONSUMER. Exits 0 after SIGTERM and 1 when the bus says it is broken.
An entry with data `kill` ends the process as a crash would.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

from redis.asyncio import Redis

from libs.adapters.bus import Bus, Entry, Tuning

TUNING = Tuning(abandoned_after=1, graceful=5, first_pause=0.01, longest_pause=0.2)


async def main(url: str, consumer: str) -> int:
    store = Redis.from_url(os.environ.get("STORE_URL", url))

    async def land(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.data == b"kill":
                os.kill(os.getpid(), signal.SIGKILL)
        await store.sadd("landed", *(entry.data for entry in entries))

    async def bury(entry: Entry, reason: str) -> None:
        await store.rpush("buried", entry.data, reason)

    bus = await Bus.connect(url, service="test", consumer=consumer, tuning=TUNING)
    bus.subscribe("orders", "ingestor", land, on_poison=bury, max_records=50)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await bus.start()
    broken = asyncio.create_task(bus.run_until_broken())
    waiting = asyncio.create_task(stop.wait())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.wait([broken, waiting], return_when=asyncio.FIRST_COMPLETED)
    failed = broken.done()
    await bus.stop()
    waiting.cancel()
    await store.aclose()
    if failed:
        sys.stderr.write(f"broken: {broken.result()}\n")
    return int(failed)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
