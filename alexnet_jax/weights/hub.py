"""Repositories on Hugging Face, with the extra `hub`."""

import sys
from pathlib import Path
from typing import Any

from alexnet_jax.runtime.errors import InputError


def push(folder: Path, repository: str, keep: str) -> str:
    """Puts the folder's files into the repository, made if need be; returns its address.
    The file named `keep` stays as it is, if the repository has one.

    Raises:
      InputError: it is not accessible.
    """
    hub = _library(repository)
    try:
        address = hub.create_repo(repository, exist_ok=True)
        kept = [keep] if hub.file_exists(repository, keep) else []
        hub.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=kept)
    except Exception as error:  # The library raises many kinds of errors.
        raise _hub_error(repository, error) from error
    return str(address)


def pull(repository: str, name: str) -> Path:
    """Fetches a file of the repository if it has changed since the last time.

    Without a network it is the last one that was fetched.

    Raises:
      InputError: it is not accessible.
    """
    hub = _library(repository)
    try:
        return Path(hub.hf_hub_download(repository, name))
    except Exception as error:  # The library raises many kinds of errors.
        raise _hub_error(f'{repository}/{name}', error) from error


def _library(repository: str) -> Any:
    if repository.count('/') != 1:
        raise InputError(f'hf:{repository} is no repository; allowed: hf:OWNER/NAME')
    try:
        import huggingface_hub
        from huggingface_hub import utils
    except ImportError as error:
        raise InputError(
            'hf: needs the library huggingface_hub, which is not installed:\npip install huggingface_hub'
        ) from error
    if not sys.stderr.isatty():  # progress bars and retries are for a terminal
        utils.disable_progress_bars()
        utils.logging.set_verbosity_error()
    return huggingface_hub


def _hub_error(what: str, error: Exception) -> InputError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # its cause has the reason
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if isinstance(error, errors.EntryNotFoundError):
        reason = 'no such file'
    elif isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        reason = 'no such repository, or none that your token (HF_TOKEN) opens'
    else:
        reason = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
    return InputError(f'hf:{what} is not accessible: {reason}')
