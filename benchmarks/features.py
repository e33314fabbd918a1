"""How fast `alexnet-jax features` is, beside decoding and the forward pass alone.

    python benchmarks/features.py RUN --images=2000 --layers=conv5/pool,fc7/relu --rounds=5

RUN is a workdir or a weight file. The images are JPEGs of 256×256 pixels, parts of the two
photographs that scikit-learn ships. Two contestants take turns, round by round:

- bare: threads decode and crop a batch while the compiled forward pass computes the one before;
- features: the command, from the list of files to the finished folder, without the start of Python.
  It builds its program anew in each round, from the compilation cache.

Prints one table and writes the same as JSON beside this file.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alexnet_jax.runtime import command_line

command_line.before_jax()

import input_rate  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import report  # noqa: E402

from alexnet_jax.evaluation import __main__ as evaluation  # noqa: E402
from alexnet_jax.experiment import trained  # noqa: E402
from alexnet_jax.network import device_mesh, inference  # noqa: E402


def write_images(folder: Path, count: int) -> list[Path]:
    """Writes photographs as JPEG files and returns their paths."""
    files = []
    for number, photo in enumerate(input_rate.photographs(count)):
        files.append(folder / f'{number:06}.jpg')
        photo.save(files[-1], quality=90)
    return files


def bare(run: str, files: list[Path], layers: list[str], batch: int) -> Callable[[], float]:
    """Decoding and the forward pass; returns the seconds that they take."""
    model, _ = trained.open_any(Path(run), {})
    mesh = device_mesh.make_mesh()
    forward = inference.make_forward(model.net, mesh, model.mean, model.scale, layers)
    variables = inference.place_variables(model.net, mesh, model.variables)
    groups = [files[first : first + batch] for first in range(0, len(files), batch)]

    def seconds() -> float:
        begun = time.perf_counter()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            crops = list(pool.map(model.read, groups[0]))
            for following in [*groups[1:], []]:
                ready = pool.map(model.read, following)
                jax.device_get(forward(variables, np.concatenate(crops)))
                crops = list(ready)
        return time.perf_counter() - begun

    return seconds


def command(run: str, folder: Path, layers: list[str], batch: int) -> Callable[[], float]:
    """`alexnet-jax features`; returns the seconds that it takes."""

    def seconds() -> float:
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            begun = time.perf_counter()
            evaluation.run([
                'features', run, str(folder), '--layers', ','.join(layers), '--out', f'{out}/features',
                f'--config.eval.batch_size={batch}',
            ])  # fmt: skip
            return time.perf_counter() - begun

    return seconds


def main() -> None:
    """Measures the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', metavar='RUN', help='a workdir or a weight file')
    parser.add_argument('--images', type=int, default=2000)
    parser.add_argument('--layers', default='conv5/pool,fc7/relu')
    parser.add_argument('--batch', type=int, default=64, help='images of a forward pass')
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    layers = options.layers.split(',')
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), options.images)
        found = report.in_turns(
            {
                'bare': bare(options.run, files, layers, options.batch),
                'features': command(options.run, Path(folder), layers, options.batch),
            },
            options.rounds,
            warmup=1,
        )
    rates = {name: [options.images / seconds for seconds in all] for name, all in found.items()}
    ratios = report.ratios(rates['features'], rates['bare'])
    rows = [(name, report.spread(of_name)) for name, of_name in rates.items()]
    rows.append(('features / bare', report.spread(ratios)))
    result = {
        'machine': report.machine('jax', 'jaxlib', 'numpy', 'grain', 'simplejpeg', 'pillow'),
        **vars(options),
        'images_per_second': rates,
    }
    report.publish(__file__, result, report.table(('', 'images a second'), rows))


if __name__ == '__main__':
    main()
