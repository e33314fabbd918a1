"""Folders in object stores, s3://BUCKET/RUN and the like, for programs that work on local ones."""

from alexnet_jax.runtime.storage.client import Store, is_url, store
from alexnet_jax.runtime.storage.copies import (
    as_urls,
    fetched,
    folder,
    owned,
    place,
    push,
    session,
)

__all__ = [
    'Store',
    'as_urls',
    'fetched',
    'folder',
    'is_url',
    'owned',
    'place',
    'push',
    'session',
    'store',
]
