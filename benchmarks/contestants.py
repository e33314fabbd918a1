"""The programs that are timed, each in a process of its own, as its users run it.

In one process they would disturb each other: PyTorch's threads go on spinning after its step,
and memory has one peak. A `Contestant` starts `programs.py` and speaks with it over
pipes, a word down and a line of JSON up.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.network.architectures import architecture
from alexnet_jax.network.layers import Architecture

CLASSES = 1000
# Several programs have the GPU in turns: none may take most of its memory at its start.
TOGETHER = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
MIB = 2**20
PROGRAMS = str(Path(__file__).with_name('programs.py'))


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is run. `layout`, `compiled` and `norm` are PyTorch's; `width` and `size` make the
    net smaller for a dry run, 0 is the net's own size."""

    library: str  # a name of LIBRARIES
    net: str = 'paper'
    mode: str = 'train'  # or infer
    batch: int = 64
    dtype: str = 'float32'  # or bfloat16
    layout: str = 'NCHW'  # or channels_last
    compiled: bool = False
    norm: str = 'own'  # or hand_tuned
    width: float = 1.0
    size: int = 0

    @property
    def architecture(self) -> Architecture:
        """The net's table, at this size and width."""
        return architecture(self.net, self.size, self.width)


class ContestantError(Exception):
    """A contestant ended; what it said is on stderr."""


class Contestant:
    """A process that runs steps when asked, and is idle in between. Ends with its `with`."""

    def __init__(self, spec: Spec, limit: float | None = None, environment: Mapping[str, str] = {}):
        """Starts it and waits for its first steps.

        Args:
          limit: seconds after which a process that is still compiling is killed.
          environment: variables beside those of this process.

        Raises:
          ContestantError: it cannot.
        """
        self.spec = spec
        self._process = subprocess.Popen(
            [sys.executable, PROGRAMS, json.dumps(dataclasses.asdict(spec))],
            env={**os.environ, **TOGETHER, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        killer = threading.Timer(limit or threading.TIMEOUT_MAX, self._process.kill)
        if limit:
            killer.start()
        try:
            self.about = self._answer()
        finally:
            killer.cancel()

    def ask(self, word: str) -> dict[str, Any]:
        """
        Raises:
          ContestantError: it ended.
        """
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer tells
            print(word, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ContestantError(f'{self.spec} ended with status {self._process.wait()}')
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()


def has_torch() -> bool:
    """Returns whether PyTorch is installed."""
    return importlib.util.find_spec('torch') is not None
