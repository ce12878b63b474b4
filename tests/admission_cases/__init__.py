"""What admission is to answer, as a table: a world, a change to it, and the words of the answer.

The same table is put to the pure functions and to a real API server.
"""

from __future__ import annotations

from tests.admission_cases.case import NODES, Case
from tests.admission_cases.chains import CHAINS
from tests.admission_cases.fields import FIELDS, STANDING
from tests.admission_cases.interfaces import PORTS
from tests.admission_cases.services import SERVICES

CASES = [*PORTS, *CHAINS, *SERVICES, *FIELDS, *STANDING]

__all__ = ["CASES", "NODES", "Case"]
