"""Pickles made to fill the memory or to run for ever, read in one process.

    python -m tests.weights.bombs FOLDER

reads every file in FOLDER and prints as JSON whether it was read or refused, and by how many
bytes the process grew.
"""

import json
import resource
import sys
from pathlib import Path

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import layouts, torch_file

MOST = 3 << 30  # bytes of address space beside what is mapped already


def outcome(path: Path) -> str:
    try:
        torch_file.read(path, layouts.are_torchvision_names)
    except InputError as error:
        return 'refused' if len(str(error)) < 600 else str(error)
    return 'read'


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {path.name: outcome(path) for path in sorted(folder.iterdir())}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({'outcomes': outcomes, 'grown': grown * 1024}))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
