"""The names of everything that a rack leaves on the machine: each holds the rack's identity, so it can be found again and removed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """A rack's identity: six hexadecimal digits that follow from its directory, so two checkouts have two."""

    digits: str

    @classmethod
    def of(cls, directory: Path) -> Identity:
        """Return the identity of the rack whose state lies in this directory."""
        return cls(hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:6])

    @property
    def cgroup(self) -> str:
        """The control group, below the root of each hierarchy, that holds all processes of the rack."""
        return f"dpuchain-{self.digits}"

    @property
    def bridge(self) -> str:
        """The management bridge in the machine's own network namespace."""
        return f"dpuchain-{self.digits}"

    def management_link(self, number: int) -> str:
        """The bridge's end of DPU `number`'s management link; a device name has at most 15 characters."""
        return f"dpum{number}-{self.digits}"

    @property
    def server_link(self) -> str:
        """The bridge's end of the server's management link."""
        return f"server-{self.digits}"

    def namespace(self, name: str) -> str:
        """The network namespace of a DPU, a host, the server or the fabric."""
        return f"{self.namespace_prefix}{name}"

    @property
    def namespace_prefix(self) -> str:
        """What the names of all its network namespaces begin with."""
        return f"dpuchain-{self.digits}-"
