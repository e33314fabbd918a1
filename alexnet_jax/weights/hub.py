"""Repositories on Hugging Face, with the extra `hub`."""

import re
from pathlib import Path
from typing import Any

from alexnet_jax.errors import InputError


def push(folder: Path, repository: str) -> str:
    """Puts the folder's files into the repository, made if need be; returns its address.

    Raises:
      InputError: it cannot be had.
    """
    hub = _library()
    try:
        address = hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder)
    except Exception as error:  # Whatever the network or the service makes it raise.
        raise _told(repository, error) from error
    return str(address)


def pull(repository: str, name: str) -> Path:
    """A file of the repository, fetched if it is not there yet.

    Raises:
      InputError: it cannot be had.
    """
    hub = _library()
    try:
        return Path(hub.hf_hub_download(repository, name))
    except Exception as error:  # Whatever the network or the service makes it raise.
        raise _told(repository, error) from error


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            "hf: needs the library huggingface_hub: pip install -c constraints.txt -e '.[hub]'"
        ) from error
    return huggingface_hub


def _told(repository: str, error: Exception) -> InputError:
    reason = re.sub(r'\s+', ' ', str(error))[:200]
    return InputError(f'hf:{repository} cannot be had: {type(error).__name__}: {reason}')
