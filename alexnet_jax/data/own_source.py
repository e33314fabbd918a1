"""Names of the user's own sources of images, FILE.py:NAME."""

from alexnet_jax.runtime import python_files

OTHERS = ('folder:', 'tfds:')  # whose path or name may end alike


def is_own(source: str) -> bool:
    """Returns whether a source is a function in a file of the user's."""
    return not source.startswith(OTHERS) and python_files.names_object(source)


def without_folder(source: str) -> str:
    """Returns a source of the user's own without the folder of its file, which may be moved.

    Any other source stays as it is.
    """
    return python_files.without_folder(source) if is_own(source) else source
