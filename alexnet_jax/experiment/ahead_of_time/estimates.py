"""What a compiled program needs and how long it may take, by the compiler and the chip's data."""

import dataclasses
import re

import jax

from alexnet_jax.experiment.ahead_of_time.targets import Chip

CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
UNKNOWN_CYCLES = 2**40  # of operations that the compiler does not estimate


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    arguments: state and batch, or variables and images. results: without those that take the
    place of arguments. temporary: activations and gradients, at most at a time. program: code.
    """

    arguments: float
    results: float
    temporary: float
    program: float

    @property
    def total(self) -> float:
        return self.arguments + self.results + self.temporary + self.program


def memory(compiled: jax.stages.Compiled) -> Memory:
    """Returns the memory that a program needs by the compiler's own account."""
    found = compiled.memory_analysis()
    assert found is not None
    return Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does for one run of a program.

    flops: multiplications and additions. accessed: bytes of memory that operations read and
    write. cycles: the compiler's estimate, collectives left out; None where it gives none.
    """

    flops: float
    accessed: float
    cycles: int | None

    def products_seconds(self, chip: Chip, kind: str) -> float:
        return self.flops / chip.products[kind]

    def memory_seconds(self, chip: Chip) -> float:
        return self.accessed / chip.bandwidth

    def estimated_seconds(self, chip: Chip) -> float | None:
        return self.cycles / chip.clock if self.cycles and chip.clock else None


def work(compiled: jax.stages.Compiled) -> Work:
    """Returns the work of a program by the compiler's own account."""
    cost, text = compiled.cost_analysis() or {}, compiled.as_text() or ''
    cycles = [int(found) for found in CYCLES.findall(text)]
    known = [cycle for cycle in cycles if cycle < UNKNOWN_CYCLES]
    flops, accessed = cost.get('flops', 0.0), cost.get('bytes accessed', 0.0)
    return Work(flops, accessed, sum(known) if known else None)
