"""Logs a running training to TensorBoard and Weights & Biases."""

import contextlib
import hashlib
import io
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from PIL import Image

from alexnet_jax.runtime.errors import InputError, StorageError

FLUSH_SECONDS = 20  # maximum delay of TensorBoard
BINS = 64
SAMPLE = 2**20  # maximum values per histogram: fc6 has 38 million
ENLARGE = 8  # times as many pixels a side, of the picture of the kernels


class Board(Protocol):
    """Tracker of the rows of metrics.jsonl, and of the net's weights at intervals."""

    def row(self, row: Mapping[str, Any]) -> None:
        """Logs a row of metrics.jsonl."""

    def weights(self, step: int, sheet: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Logs the net's weights.

        `sheet`: conv1's kernels, uint8 [height, width, 3]. `arrays`: parameters by name.
        """
        ...

    def close(self) -> None:
        """Writes pending data and closes the tracker."""


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns a row's numbers by split: {'split': 'val', 'step': 3, 'loss': 1.0} -> {'val/loss': 1.0}."""
    return {
        f'{row["split"]}/{name}': value for name, value in row.items() if name not in ('split', 'step')
    }  # fmt: skip


def _tensorboardx() -> Any:
    """Imports the package without PyTorch. If PyTorch is installed, the package imports it as well,
    which takes more than a second and is not needed here.
    """
    kept = sys.modules.get('torch')
    sys.modules['torch'] = kept  # pyright: ignore[reportArgumentType]  # None: not importable
    try:
        import tensorboardX.event_file_writer
    finally:
        if kept is None:
            del sys.modules['torch']
    return tensorboardX


class TensorBoard:
    """Event files in a folder.

    TensorBoard ignores earlier rows after `first_step`, which this run repeats.
    """

    def __init__(self, folder: Path, first_step: int):
        """Opens the event file of a run.

        Raises:
          StorageError: it cannot be written.
        """
        self._folder, self._flushed = folder, time.monotonic()
        package = _tensorboardx()
        self._summary, self._proto = package.summary, package.proto.event_pb2
        with self._write_errors():
            folder.mkdir(exist_ok=True)
            self._events = package.event_file_writer.EventsWriter(
                str(folder / 'events'), f'.{time.time_ns()}'
            )
        start = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(first_step + 1, session_log=start)

    def row(self, row: Mapping[str, Any]) -> None:
        """Logs a row's numbers as scalars, see `scalars`."""
        values = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in scalars(row).items()
        ]
        self._write(row['step'], summary=self._summary.Summary(value=values))
        if time.monotonic() > self._flushed + FLUSH_SECONDS:
            self._flush()

    def weights(self, step: int, sheet: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Logs conv1's kernels as an image and the parameters as histograms."""
        self._write(step, summary=self._image('conv1/kernels', sheet))
        for name, values in arrays.items():
            self._write(step, summary=self._summary.histogram(name, values, BINS))
        self._flush()

    def close(self) -> None:
        """Writes pending data and closes the file."""
        with self._write_errors():
            self._events.close()

    def _write(self, step: int, **what: Any) -> None:
        with self._write_errors():
            event = self._proto.Event(wall_time=time.time(), step=step, **what)
            self._events.write_event(event)

    def _flush(self) -> None:
        with self._write_errors():
            self._events.flush()
        self._flushed = time.monotonic()

    def _image(self, name: str, sheet: np.ndarray) -> Any:
        large = sheet.repeat(ENLARGE, axis=0).repeat(ENLARGE, axis=1)
        content = io.BytesIO()
        Image.fromarray(large).save(content, 'png')
        height, width = large.shape[:2]
        summary = self._summary.Summary
        picture = summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=content.getvalue()
        )
        return summary(value=[summary.Value(tag=name, image=picture)])

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f'{self._folder}/ cannot be written: {error.strerror}\n'
                'Saved files are intact; after a repair the same command resumes'
            ) from error


class WeightsAndBiases:
    """A run of the project `alexnet_jax` in Weights & Biases; it resumes together with this run.

    The environment variables and login of Weights & Biases select server and account
    (WANDB_MODE=offline: no server).
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        """Starts or resumes a run of Weights & Biases.

        Raises:
          InputError: the package is not installed, or the login failed.
        """
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                'train.log_to names wandb, which is not installed:\npip install wandb'
            ) from error
        self._wandb = wandb
        name = folder.absolute().name
        try:
            self._run = wandb.init(
                project='alexnet_jax', dir=str(folder), name=name, id=_identifier(folder),
                resume='allow', config=dict(config),
            )  # fmt: skip
        except Exception as error:  # the client raises various errors of the service
            first = (str(error).splitlines() or [''])[0]
            raise InputError(
                f'train.log_to has wandb, which raised an error: {first[:300]}'
            ) from error

    def row(self, row: Mapping[str, Any]) -> None:
        """Logs a row's numbers as scalars, see `scalars`."""
        self._run.log(scalars(row), step=row['step'])

    def weights(self, step: int, sheet: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Logs conv1's kernels as an image and the parameters as histograms."""
        shown = {'conv1/kernels': self._wandb.Image(sheet)}
        shown |= {
            name: self._wandb.Histogram(np_histogram=np.histogram(values, BINS))
            for name, values in arrays.items()
        }
        self._run.log(shown, step=step)

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


def _identifier(folder: Path) -> str:
    """Returns an identifier that is unique to a workdir on this machine."""
    return hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]


def held_here(array: jax.Array) -> np.ndarray:
    """Returns this process's part of an array, flat, without duplicates.

    Of more than `SAMPLE` numbers it returns evenly spaced ones.
    """
    held = [np.zeros(0, array.dtype)]
    held += [np.ravel(shard.data) for shard in array.addressable_shards if shard.replica_id == 0]
    step = max(1, sum(part.size for part in held) // SAMPLE)
    return np.concatenate([part[::step] for part in held])
