"""Writes checkpoints in both forms of PyTorch."""

import pytest

from tests.weights import handmade
from tests.weights.torch_checkpoints import MORE, STORAGES


@pytest.fixture(params=['zip', 'legacy'])
def write_checkpoint(request, tmp_path):
    """Writes a checkpoint of dictionaries, tensors and anything else."""

    def written(value, storages=STORAGES | MORE):
        legacy = request.param == 'legacy'
        content = b'\x80\x02' + handmade.tree_steps(value, legacy) + b'.'
        if not legacy:
            return handmade.write_zip(tmp_path / 'a', content, storages)
        spoken = {key: x for key, x in storages.items() if handmade.plain(key) in content}
        sized = {key: (len(x) // 4, x) for key, x in spoken.items()}
        return handmade.write_legacy(tmp_path / 'a', content, sized)

    return written
