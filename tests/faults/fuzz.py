"""Configurations, command lines, images, prepared sets and checkpoints with something wrong in
them, and what reading them comes to.

    python -m tests.faults.fuzz FOLDER

makes them from seeds in FOLDER and prints as JSON how many of each kind were taken and
refused, what else happened, by how many bytes the process grew and how long it took.
"""

import collections
import contextlib
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet_jax.report import predict  # noqa: F401, a list of fonts is written now, not in a case
from alexnet_jax.runtime import command_line
from tests.faults import fuzz_checkpoints, fuzz_images, fuzz_sets, fuzz_settings

COUNTS = {'settings': 1000, 'images': 500, 'sets': 200, 'checkpoints': 50}


def tally(outcome: Callable[[int], str], count: int) -> dict[str, Any]:
    """How often what happened, by how much the process grew, and how long it took."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    outcomes = collections.Counter(outcome_text(outcome, seed) for seed in range(count))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = round(time.monotonic() - begun, 1)
    return {'outcomes': outcomes, 'grown': grown * 1024, 'seconds': seconds}


def outcome_text(outcome: Callable[[int], str], seed: int) -> str:
    try:
        return outcome(seed)
    except BaseException:
        return f'{seed}: {traceback.format_exc(limit=-3)}'


def settings(folder: Path) -> dict[str, Any]:
    """In a folder of its own, where what is written is seen."""
    folder.mkdir()

    def outcome(seed: int) -> str:
        here = folder / 'case'
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        return fuzz_settings.outcome(here, seed)

    with contextlib.chdir(folder):
        return tally(outcome, COUNTS['settings'])


def images(folder: Path) -> dict[str, Any]:
    for content in fuzz_images.sound_files():
        fuzz_images.read_square(content, fuzz_images.SIZE)
    return tally(lambda seed: fuzz_images.outcome(folder / 'image', seed), COUNTS['images'])


def sets(folder: Path) -> dict[str, Any]:
    sound = list(fuzz_sets.make_sets(folder / 'sets').values())
    whole = [fuzz_sets.read_all(folder) for folder in sound]

    def outcome(seed: int) -> str:
        which = seed // len(fuzz_sets.FORMS) % 2  # every form with every encoding
        return fuzz_sets.outcome(sound[which], whole[which], seed)

    return tally(outcome, COUNTS['sets'])


def checkpoints(folder: Path) -> dict[str, Any]:
    sound = fuzz_checkpoints.make(folder / 'sound')
    return tally(
        lambda seed: fuzz_checkpoints.outcome(sound, folder / 'changed', seed),
        COUNTS['checkpoints'],
    )


def main(folder: Path) -> None:
    command_line.before_jax()
    print(json.dumps({
        'settings': settings(folder / 'settings'), 'images': images(folder), 'sets': sets(folder),
        'checkpoints': checkpoints(folder),
    }))  # fmt: skip


if __name__ == '__main__':
    main(Path(sys.argv[1]).resolve())
