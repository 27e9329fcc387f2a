"""The integers of the protocol (docs/reference/protocol.md, "Scalars")."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF_FFFF_FFFF)]

CpuMap = Sequence[Sequence[U32]]
"""Entry i lists the CPUs that vCPU i may use; on the wire `[[0, 1], [2]]`."""
NodeMap = Sequence[Sequence[U32]]
"""Entry i lists the host's NUMA nodes for the domain's NUMA node i."""
