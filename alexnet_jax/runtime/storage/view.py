"""Which files of a store count, which are shared at all, and in which order they are uploaded."""

import re
from collections.abc import Iterable, Mapping

from alexnet_jax.runtime.storage.client import Stat

# Files that make others valid, uploaded after them in this order: a checkpoint's, a shard's, a set's.
RECORDS = (re.compile(r'(.*/)?manifest\.json'), re.compile(r'(.*/)?\.preparing/.*\.json'),
           re.compile(r'(.*/)?dataset_info\.json'))  # fmt: skip
MANIFEST = 'manifest.json'
CHECKPOINT = re.compile(r'(?P<folder>(?:.*/)?checkpoints/\d+)(?P<new>\.new)?/(?P<file>.+)')
NEW = '.new'  # beside a checkpoint in the store: the one that takes its place
HIDDEN = '.preparing'  # the one hidden folder that others go on from
LEFT_HERE = ('.tmp', '.preparing/lock')  # ends of names that stay on this machine


def in_view(listed: Mapping[str, Stat]) -> tuple[dict[str, tuple[str, Stat]], list[str]]:
    """Returns the valid files of a store, by name, with their keys, and the keys of leftovers.

    Leftovers are files of interrupted uploads: checkpoints without a manifest, and replacements of
    checkpoints. A complete replacement is used instead of the checkpoint.
    """
    whole = {key.removesuffix(f'/{MANIFEST}') for key in listed if key.endswith(f'/{MANIFEST}')}
    seen: dict[str, tuple[str, Stat]] = {}
    leftovers = []
    for key, found in listed.items():
        match = CHECKPOINT.fullmatch(key)
        if not match:
            if is_shared(key):
                seen[key] = key, found
            continue
        folder, successor = match['folder'], match['folder'] + NEW
        if match['new']:
            leftovers.append(key)
            if successor in whole:
                seen[f'{folder}/{match["file"]}'] = key, found
        elif folder not in whole and successor not in whole:
            leftovers.append(key)
        elif successor not in whole:
            seen[key] = key, found
    return seen, leftovers


def is_shared(name: str) -> bool:
    """Returns whether a file is uploaded: all files of a checkpoint, other files unless hidden.

    Locks and unfinished files are hidden.
    """
    if CHECKPOINT.fullmatch(name):
        return True
    hidden = any(part.startswith('.') and part != HIDDEN for part in name.split('/'))
    damaged = any(part.endswith('.damaged') for part in name.split('/'))
    return not (hidden or damaged or name.endswith(LEFT_HERE))


def in_order(names: Iterable[str]) -> list[str]:
    """Returns names in the order in which their files are uploaded."""
    return [name for same in by_rank(names) for name in same]


def by_rank(names: Iterable[str]) -> list[list[str]]:
    """Returns names by the rank of their upload: ordinary files first, then each kind of record."""
    ranks: list[list[str]] = [[] for _ in range(len(RECORDS) + 1)]
    for name in names:
        matching = [rank for rank, record in enumerate(RECORDS, 1) if record.fullmatch(name)]
        ranks[matching[0] if matching else 0].append(name)
    return ranks
