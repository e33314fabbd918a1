"""Names of users' own sources of images, FILE.py:NAME."""

from alexnet_jax.runtime import python_files

OTHERS = ('folder:', 'tfds:')  # whose path or name may have the same end


def is_own(source: str) -> bool:
    """Returns whether a source is a function in a user's file."""
    return not source.startswith(OTHERS) and python_files.names_object(source)


def without_folder(source: str) -> str:
    """Returns a user's own source without the folder of its file, which may be moved.

    Other sources are unchanged.
    """
    return python_files.without_folder(source) if is_own(source) else source
