"""The door to Open vSwitch: its database, its flow tables and its control sockets.

Law of this package: nothing else imports `ovs`, and nobody else speaks OpenFlow. Whatever goes wrong leaves as one of the types of
`errors`, which keep apart what could not be reached, what was refused and what made no sense; what is *not there* is a value (`Absent`),
never an error. Everything is driven by the asyncio loop: no thread, no polling.
"""

from __future__ import annotations

import sys

# `ovs.poller` imports eventlet if it is installed, only to ask whether the program runs on it. This one does not, and eventlet costs
# 31 MB of an agent that has 80, besides a deprecation warning. An entry of None makes the import fail, which `ovs` expects.
sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]  # None is what the import system documents for "do not import"
