"""How fast photographs of ImageNet's size are prepared by one process, beside the JPEG decoder alone.

    python benchmarks/prepare_rate.py --images=300 --rounds=5

Makes JPEGs of 500×400 pixels, quality 92, colors at half resolution: parts of the two photographs
that scikit-learn ships. Each round makes a shard of them as `alexnet_jax.data.prepare` does (256×256,
JPEG of quality 95), decodes the same files in memory with simplejpeg, and times each stage of the
preparation over all images. Processor time, so that other programs count less. Prints one table
and writes the same as JSON beside this file.
"""

import argparse
import hashlib
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report
import simplejpeg
import sklearn.datasets
from PIL import Image

from alexnet_jax.data import image_files, images
from alexnet_jax.data.prepare import shards
from alexnet_jax.data.prepare.folder import Files
from alexnet_jax.data.prepare.make import PAPER_SIZE, QUALITY
from alexnet_jax.data.prepare.shards import Encoding, Task
from alexnet_jax.data.statistics import PixelSums

WIDTH, HEIGHT, FILE_QUALITY = 500, 400, 92


def write_photographs(root: Path, count: int) -> list[Path]:
    """Writes parts of scikit-learn's two photographs as JPEG files."""
    photos = [Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images]
    random = np.random.default_rng(0)
    paths = [root / f'{number:04d}.jpg' for number in range(count)]
    for path, photo in zip(paths, itertools.cycle(photos), strict=False):
        left, top = (
            int(random.integers(0, extent - side + 1))
            for extent, side in zip(photo.size, (WIDTH, HEIGHT), strict=True)
        )
        part = photo.crop((left, top, left + WIDTH, top + HEIGHT))
        part.save(path, quality=FILE_QUALITY, subsampling='4:2:0')
    return paths


def shard_task(paths: Sequence[Path], folder: Path) -> Task:
    """Returns the task of one shard with all files."""
    originals = Files(
        paths[0].parent, tuple(path.name for path in paths), np.zeros(len(paths), int)
    )
    encoding = Encoding(PAPER_SIZE, 'jpeg', QUALITY)
    out = folder / 'set-train.array_record-00000-of-00001'
    return Task(out, folder, originals, 1, encoding, 'train', images.MAX_PIXELS, 0)


def milliseconds(call: Callable[[Any], Any], inputs: Sequence[Any]) -> Callable[[], float]:
    """Returns a function that measures the processor time per image in ms."""

    def run() -> float:
        begun = time.process_time()
        for value in inputs:
            call(value)
        return 1000 * (time.process_time() - begun) / len(inputs)

    return run


def opened(content: bytes) -> Image.Image:
    """Decodes a file with Pillow."""
    return Image.open(io.BytesIO(content)).convert('RGB')


def stages(paths: Sequence[Path]) -> dict[str, Callable[[], float]]:
    """Returns each stage of the preparation alone, with its inputs in memory."""
    files = [path.read_bytes() for path in paths]
    squares = [images.read_square(file, PAPER_SIZE) for file in files]
    stored = [images.encode(square, 'jpeg', QUALITY) for square in squares]
    pillow = [opened(file) for file in files[:50]]
    scratch = np.empty((PAPER_SIZE, PAPER_SIZE, 3), np.uint8)
    sums = PixelSums.zero(PAPER_SIZE)
    return {
        'read': milliseconds(Path.read_bytes, paths),
        'check the structure': milliseconds(image_files.fault, files),
        'decode': milliseconds(opened, files),
        'resize': milliseconds(lambda image: images._center_square(image, 1, PAPER_SIZE), pillow),
        'encode': milliseconds(lambda square: images.encode(square, 'jpeg', QUALITY), squares),
        'digest': milliseconds(lambda file: hashlib.sha256(file).hexdigest(), stored),
        'decode again': milliseconds(
            lambda file: images.decode(file, 'jpeg', PAPER_SIZE, scratch), stored
        ),
        'statistics': milliseconds(sums.add_image, squares),
    }


def main() -> None:
    """Measures the stages and the whole preparation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=300)
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_photographs(folder, options.images)
        task = shard_task(paths, folder)
        files = [path.read_bytes() for path in paths]
        parts = stages(paths)

        def prepare() -> float:
            return milliseconds(shards.write_shard, [task])() / len(paths)

        runs = {'all': prepare, 'simplejpeg alone': milliseconds(simplejpeg.decode_jpeg, files)}
        times = report.in_turns(runs | parts, options.rounds, warmup=1)
    times['write, and the rest'] = [
        whole - sum(times[name][number] for name in parts)
        for number, whole in enumerate(times['all'])
    ]
    of_decoder = report.ratios(times['simplejpeg alone'], times['all'])
    rows = [(name, report.spread(values), '') for name, values in times.items()]
    rows[0] = (*rows[0][:2], report.spread([1000 / value for value in times['all']]))
    rows[1] = (*rows[1][:2], report.spread([1000 / value for value in times['simplejpeg alone']]))
    result = {
        'machine': report.machine('pillow', 'simplejpeg', 'numpy', 'array_record'),
        'options': vars(options) | {'kilobytes': sum(map(len, files)) / len(files) / 1000},
        'milliseconds': times,
        'of_the_decoder': of_decoder,
    }
    header = ('stage', 'ms an image', 'images a second and core')
    text = f'{report.table(header, rows)}\n\nof the decoder alone: {report.spread(of_decoder)}'
    report.publish(__file__, result, text)


if __name__ == '__main__':
    main()
