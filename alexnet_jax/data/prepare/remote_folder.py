"""A folder of images in an object store, in the place of a path: listed, and read image by image."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import NamedTuple

from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, StorageError, plain


class _Entry(NamedTuple):
    """An entry as `os.scandir` has them."""

    name: str
    path: str
    folder: bool
    size: int

    def is_dir(self, follow_symlinks: bool = True) -> bool:
        return self.folder

    def is_file(self) -> bool:
        """Returns whether the URL is a file."""
        return not self.folder

    def stat(self) -> os.stat_result:
        return os.stat_result((0, 0, 0, 0, 0, 0, self.size, 0, 0, 0))


@dataclasses.dataclass(frozen=True, order=True)
class RemoteFolder:
    """A remote folder, or a file in one, by its URL.

    It has the methods of a path that a folder of images needs. Nothing is cached: each listing and
    each image is a request. Methods raise InputError if the store does not answer; `read_bytes`
    raises StorageError, because it runs during a preparation.
    """

    url: str

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition('/')[2]

    def __truediv__(self, name: str) -> 'RemoteFolder':
        return RemoteFolder(f'{self.url}/{name}')

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def require(self) -> None:
        """Checks that the folder exists and is not empty.

        Raises:
          InputError: it does not, or it is empty.
        """
        if not self._entries():
            raise InputError(f'folder:{plain(self.url)}: no such folder')

    def scandir(self) -> contextlib.nullcontext[Iterator[_Entry]]:
        """Lists the entries of the folder, as `os.scandir` does."""
        return contextlib.nullcontext(iter(self._entries()))

    def files_below(self) -> list[str]:
        """Returns the names of all files, however deep, without their folders."""
        with _as_input():
            return [name.rpartition('/')[2] for name in storage.Store(self.url).listing()]

    def is_file(self) -> bool:
        """Returns whether the URL is a file."""
        return any(entry.name == self.name and not entry.folder for entry in self._siblings())

    def is_dir(self) -> bool:
        """Returns whether the URL is a folder."""
        return any(entry.name == self.name and entry.folder for entry in self._siblings())

    def read_bytes(self) -> bytes:
        """Reads the file; raises StorageError if it cannot be read."""
        folder, _, name = self.url.rpartition('/')
        try:
            return storage.store(folder).read(name)
        except FileNotFoundError as error:
            raise StorageError(f'{plain(self.url)} is gone') from error

    def read_text(self, encoding: str) -> str:
        """Reads the file as text; raises as `read_bytes`."""
        return self.read_bytes().decode(encoding)

    def _siblings(self) -> list[_Entry]:
        return RemoteFolder(self.url.rpartition('/')[0])._entries()

    def _entries(self) -> list[_Entry]:
        with _as_input():
            try:
                found = storage.Store(self.url).scan()
            except FileNotFoundError:
                return []
        return [
            _Entry(entry.name, f'{self.url}/{entry.name}', entry.is_folder, entry.size)
            for entry in found
        ]


@contextlib.contextmanager
def _as_input() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise InputError(str(error)) from error
