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
        return not self.folder

    def stat(self) -> os.stat_result:
        return os.stat_result((0, 0, 0, 0, 0, 0, self.size, 0, 0, 0))


@dataclasses.dataclass(frozen=True, order=True)
class RemoteFolder:
    """A folder, or a file in one, by its URL; has of a path what a folder of images needs. Nothing
    is kept: a listing is a request, and so is an image.

    All methods that ask the store raise InputError if it does not answer, but `read_bytes`, which
    raises StorageError: that is far into a preparation.
    """

    url: str

    @property
    def name(self) -> str:
        return self.url.rpartition('/')[2]

    def __truediv__(self, name: str) -> 'RemoteFolder':
        return RemoteFolder(f'{self.url}/{name}')

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def require(self) -> None:
        """
        Raises:
          InputError: it is no folder that holds something.
        """
        if not self._entries():
            raise InputError(f'folder:{plain(self.url)}: no such folder')

    def scandir(self) -> contextlib.nullcontext[Iterator[_Entry]]:
        return contextlib.nullcontext(iter(self._entries()))

    def files_below(self) -> list[str]:
        """Returns the names of all files, however deep, without their folders."""
        with _as_input():
            return [name.rpartition('/')[2] for name in storage.Store(self.url).listing()]

    def is_file(self) -> bool:
        return any(entry.name == self.name and not entry.folder for entry in self._siblings())

    def is_dir(self) -> bool:
        return any(entry.name == self.name and entry.folder for entry in self._siblings())

    def read_bytes(self) -> bytes:
        folder, _, name = self.url.rpartition('/')
        try:
            return storage.store(folder).read(name)
        except FileNotFoundError as error:
            raise StorageError(f'{plain(self.url)} is gone') from error

    def read_text(self, encoding: str) -> str:
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
