"""How fast stored images become batches, beside what the decoder alone does.

    python benchmarks/input_rate.py --images=2000 --threads=2 --rounds=7

Makes photographs of 256×256 pixels (parts of the two that scikit-learn ships),
prepares them as JPEG and as raw records, and takes turns, round by round:

- decoder: simplejpeg on the same JPEG bytes, already in memory, in as many threads;
- jpeg, raw: `pipeline.train_batches` over an epoch of the records: read, decode,
  crop, mirror, batch.

Then reads ten epochs and watches the process's memory. Prints one table and writes
the same as JSON beside this file.
"""

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import simplejpeg
import sklearn.datasets
from PIL import Image

from alexnet_jax.data import image_set, pipeline
from alexnet_jax.data.images import encode
from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.make import QUALITY, Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source

SIZE, CROP, BATCH, CLASSES, EPOCHS = 256, 224, 128, 10, 10


def photographs(count: int) -> Iterator[Image.Image]:
    """Square parts of photographs, reduced to SIZE×SIZE pixels by up to 1.7, about as
    much as ImageNet's are."""
    photos = [Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images]
    random = np.random.default_rng(0)
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(random.integers(320, min(photo.size) + 1))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in photo.size)
        box = (left, top, left + side, top + side)
        yield photo.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)


def write_folder(root: Path, count: int) -> None:
    """Writes photographs as PNG files in class folders of two splits."""
    for number, photo in enumerate(photographs(count + CLASSES)):
        split = 'train' if number < count else 'val'
        path = root / split / f'class {number % CLASSES}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.save(path, compress_level=1)


def prepared_set(folder: Path, form: str) -> image_set.ImageSet:
    """Prepares the photographs in one encoding and opens the set."""
    spec = f'folder:{folder}'
    request = Request(spec, Encoding(SIZE, form, QUALITY))
    out = folder.parent / form
    return image_set.open_set(make_set(request, out, lambda: open_source(spec), engines.one_by_one))


def decoder(images: image_set.ImageSet, threads: int) -> Callable[[], float]:
    """Returns a measurement of simplejpeg and nothing else: each thread decodes its share of the bytes."""
    records = images.splits['train']
    files = [encode(records.read(row).image, 'jpeg', QUALITY) for row in range(len(records))]
    shares = [files[number::threads] for number in range(threads)]

    def decode_share(share: list[bytes]) -> None:
        for file in share:
            simplejpeg.decode_jpeg(file)

    def run() -> float:
        begun = time.perf_counter()
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(decode_share, shares))
        return time.perf_counter() - begun

    return run


def batches(images: image_set.ImageSet, threads: int) -> Callable[[], float]:
    """An epoch of batches. Returns the seconds it took once what was ready at the
    start had been used up; its threads have ended then."""
    ready = 4 * threads

    def run() -> float:
        stream = pipeline.train_batches(
            images, size=CROP, batch_size=BATCH, seed=0, threads=threads
        )
        for _ in itertools.islice(stream, ready):
            pass
        begun = time.perf_counter()
        for _ in itertools.islice(stream, len(images.splits['train']) // BATCH):
            pass
        seconds = time.perf_counter() - begun
        stream.close()
        return seconds

    return run


def resident_mib() -> float:
    """Memory the process holds now, MiB, without files it has mapped."""
    gc.collect()
    with open('/proc/self/status') as file:
        line = next(line for line in file if line.startswith('RssAnon'))
    return int(line.split()[1]) / 1024


def growth(images: image_set.ImageSet, threads: int) -> list[float]:
    """MiB held after each of EPOCHS epochs of one stream."""
    stream = pipeline.train_batches(images, size=CROP, batch_size=BATCH, seed=0, threads=threads)
    held = []
    for _ in range(EPOCHS):
        for _ in itertools.islice(stream, len(images.splits['train']) // BATCH):
            pass
        time.sleep(0.5)  # until as many batches are ready as are kept ready
        held.append(round(resident_mib(), 1))
    stream.close()
    return held


def main() -> None:
    """Measures the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=2000)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--rounds', type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'photographs'
        write_folder(source, options.images)
        sets = {form: prepared_set(source, form) for form in ('jpeg', 'raw')}
        jpeg_bytes = sum(f.stat().st_size for f in (Path(folder) / 'jpeg').glob('*train.array*'))
        runs = {'decoder': decoder(sets['jpeg'], options.threads)}
        runs |= {form: batches(images, options.threads) for form, images in sets.items()}
        images_a_run = options.images // BATCH * BATCH
        counts = {'decoder': options.images, 'jpeg': images_a_run, 'raw': images_a_run}
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(options.rounds + 1):
            for name, run in runs.items():
                seconds = run()
                if number:  # the first round fills the file cache
                    rates[name].append(counts[name] / seconds)
        del runs
        held = {form: growth(images, options.threads) for form, images in sets.items()}
    ratios = {
        form: [rate / decoder for rate, decoder in zip(rates[form], rates['decoder'], strict=True)]
        for form in sets
    }
    result = {
        'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'python': platform.python_version(),
        'versions': {name: metadata.version(name) for name in ('grain', 'simplejpeg', 'numpy', 'array_record')},
        'options': vars(options) | {'jpeg_kilobytes': round(jpeg_bytes / options.images / 1000, 1)},
        'images_per_second': rates,
        'ratio_to_decoder': ratios,
        'mib_after_each_epoch': held,
    }  # fmt: skip
    Path(__file__).with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')
    print(f'{result["machine"]}, Python {result["python"]}, {result["versions"]}')
    print(f'{result["options"]}\n')
    print('| | images/s, median (lowest-highest) | ratio to the decoder, round by round |')
    print('|---|---|---|')
    for name, values in rates.items():
        ratio = f'{_spread(ratios[name], ".2f")}' if name in ratios else ''
        print(f'| {name} | {_spread(values, ".0f")} | {ratio} |')
    for form, mib in held.items():
        print(f'\n{form}: MiB after each of {EPOCHS} epochs: {mib}')


def _spread(values: list[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f'{middle:{form}} ({low:{form}}-{high:{form}})'


if __name__ == '__main__':
    main()
