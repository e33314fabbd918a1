"""Images of a preparation that are in more than one of its splits."""

from collections.abc import Iterable, Sequence

from alexnet_jax.data.prepare import shards
from alexnet_jax.data.prepare.shards import Task
from alexnet_jax.runtime.errors import counted, plain


def warnings(tasks: Sequence[Task]) -> list[str]:
    """Returns a line for each two splits with images in common, whatever their labels.

    They are those that are stored as the same bytes.

    Args:
      tasks: all of a preparation, done.
    """
    lines: list[str] = []
    earlier: dict[str, dict[str, str]] = {}  # of each split, the images: name by digest
    for split in dict.fromkeys(task.split for task in tasks):
        images = list(_images(task for task in tasks if task.split == split))
        for other, theirs in earlier.items():
            both = [(name, theirs[digest]) for digest, name in images if digest in theirs]
            if both:
                are = 'is' if len(both) == 1 else 'are'
                one, same = map(plain, both[0])
                more = ', ...' if len(both) > 1 else ''
                lines.append(
                    f'warning: {counted(len(both), "image")} of {split} {are} also in {other}:'
                    f' {one} is {same}{more}'
                )
        earlier[split] = dict(images)
    return lines


def _images(tasks: Iterable[Task]) -> Iterable[tuple[str, str]]:
    """Yields the digest and the name of each image that is stored."""
    for task in tasks:
        for row, digest in enumerate(shards.read_note(task).images):
            if digest:
                yield digest, task.originals.id(row)
