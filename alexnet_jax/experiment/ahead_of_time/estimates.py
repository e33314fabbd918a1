"""Memory and work of a compiled program, by the compiler's own account."""

import dataclasses
import re

import jax

from alexnet_jax.experiment.ahead_of_time import kernels

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
        """Bytes of a device that the program needs."""
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
    """The work of one device in one run of a program.

    Numbers are the compiler's, None where it gives none. XLA for GPUs gives no FLOPs and bytes:
    there the kernels are counted in the program.

    flops: multiplications and additions. accessed: bytes that operations read from memory and
    write to it. cycles: without collectives, and without operations that it does not estimate.
    kernels: of a GPU, by kind.
    """

    flops: float | None
    accessed: float | None
    cycles: int | None
    kernels: dict[str, int] | None = None


def work(compiled: jax.stages.Compiled, platform: str) -> Work:
    """Returns the work of a program that is compiled for a platform: 'cpu', 'gpu' or 'tpu'."""
    cost, text = compiled.cost_analysis() or {}, compiled.as_text() or ''
    if platform == 'gpu':
        counted = kernels.count(text)
        return Work(None, counted.accessed, None, counted.counts)
    cycles = [int(found) for found in CYCLES.findall(text)]
    known = [cycle for cycle in cycles if cycle < UNKNOWN_CYCLES]
    return Work(cost.get('flops'), cost.get('bytes accessed'), sum(known) if known else None)
