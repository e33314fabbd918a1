import numpy as np
import pytest

from alexnet_jax.evaluation.errors import evaluate


def count(params, batch):
    """An evaluation step: label 0 is wrong, label 1 right, and the loss is the label."""
    mask, wrong = batch['mask'], batch['label'] == 0
    return {
        'loss': (batch['label'] * mask).sum(),
        'top1_error': (wrong * mask).sum(),
        'top5_error': 0.0,
        'count': mask.sum(),
    }


def batches(labels: np.ndarray, size: int):
    padded = np.append(labels, np.zeros(-len(labels) % size))
    mask = np.arange(len(padded)) < len(labels)
    return [
        {'label': padded[i : i + size], 'mask': mask[i : i + size].astype(float)}
        for i in range(0, len(padded), size)
    ]


@pytest.mark.parametrize('size', [1, 7, 64, 2000])
def test_means_over_every_image_whatever_the_batch(size, random):
    labels = random.integers(0, 2, 1000).astype(float)
    result = evaluate(count, None, batches(labels, size), 1000)
    assert result == {
        'examples': 1000,
        'loss': labels.mean(),
        'top1_error': (labels == 0).mean(),
        'top5_error': 0.0,
    }


def test_a_miscount_is_a_fault():
    with pytest.raises(RuntimeError, match='evaluated 10 images where there are 11'):
        evaluate(count, None, batches(np.ones(10), 4), 11)
