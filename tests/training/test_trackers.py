"""TensorBoard's files as TensorBoard's own reader has them."""

import io
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax.network import device_mesh
from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.training import trackers
from alexnet_jax.training.trackers import TensorBoard, WeightsAndBiases, held_here


def row(step: int, loss: float, split: str = 'train') -> dict:
    return {'split': split, 'step': step, 'epoch': step / 2, 'loss': loss, 'top1_error': 0.25}


def read_back(folder):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    found = accumulator.EventAccumulator(str(folder), {'histograms': 0, 'images': 0, 'scalars': 0})
    found.Reload()
    return found


@pytest.mark.thorough
def test_its_own_reader_finds_what_was_written(tmp_path, random):
    board = TensorBoard(tmp_path / 'tb', 0)
    for step in (1, 2, 3):
        board.row(row(step, 1 / step))
    board.row(row(3, 0.5, 'val'))
    weights = random.normal(size=1000).astype(np.float32)
    sheet = random.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    board.weights(3, sheet, {'fc6/kernel': weights, 'fc6/bias': np.zeros(4, np.float32)})
    board.close()

    found = read_back(tmp_path / 'tb')
    losses = [(e.step, e.value) for e in found.Scalars('train/loss')]
    assert losses == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert [(e.step, e.value) for e in found.Scalars('val/top1_error')] == [(3, 0.25)]
    assert found.Tags()['images'] == ['conv1/kernels']
    (picture,) = found.Images('conv1/kernels')
    large = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    np.testing.assert_array_equal(large[:: trackers.ENLARGE, :: trackers.ENLARGE], sheet)
    (histogram,) = found.Histograms('fc6/kernel')
    value = histogram.histogram_value
    assert (histogram.step, value.num, sum(value.bucket)) == (3, 1000, 1000)
    assert value.min == pytest.approx(weights.min()) and value.max == pytest.approx(weights.max())
    below = sum(n for n, limit in zip(value.bucket, value.bucket_limit, strict=True) if limit <= 0)
    assert below == pytest.approx((weights < 0).sum(), abs=60)


def test_what_a_run_repeats_takes_the_place_of_what_it_did_before(tmp_path):
    first = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3, 4):
        first.row(row(step, 1.0))
    first.close()
    again = TensorBoard(tmp_path, 2)  # from the checkpoint of step 2
    for step in (3, 4, 5):
        again.row(row(step, 2.0))
    again.close()
    losses = [(e.step, e.value) for e in read_back(tmp_path).Scalars('train/loss')]
    assert losses == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]


def test_pytorch_is_not_imported_for_it(tmp_path, monkeypatch):
    before = sys.modules.get('torch')
    for name in [name for name in sys.modules if name.split('.')[0] in ('torch', 'tensorboardX')]:
        monkeypatch.delitem(sys.modules, name)
    TensorBoard(tmp_path, 0).close()
    assert 'torch' not in sys.modules
    if before is not None:
        sys.modules['torch'] = before


def test_a_disk_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(StorageError, match='file/tb/ cannot be written: Not a directory'):
        TensorBoard(tmp_path / 'file' / 'tb', 0)
    board = TensorBoard(tmp_path / 'tb', 0)
    board.row(row(1, 1.0))
    board._events._py_recordio_writer._writer.close()

    def full(*_):
        raise OSError(28, 'No space left on device')

    board._events.write_event = full
    with pytest.raises(StorageError, match='tb/ cannot be written: No space left'):
        board.row(row(2, 1.0))


def test_each_number_that_a_process_holds_once(random):
    mesh = device_mesh.make_mesh(2, 2)
    kernel = random.normal(size=(2, 6)).astype(np.float32)
    spec = jax.sharding.PartitionSpec('column')
    placed = jax.device_put(kernel, jax.sharding.NamedSharding(mesh, spec))
    np.testing.assert_array_equal(np.sort(held_here(placed)), np.sort(kernel.ravel()))


def test_wandb_is_asked_for_only_where_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(InputError, match='not installed:\npip install wandb'):
        WeightsAndBiases(tmp_path, {})


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    board = WeightsAndBiases(tmp_path, {'seed': 3})
    assert wandb.run.config['seed'] == 3
    for step in range(1, 6):  # a name may lie across two blocks of the file, but not every time
        board.row(row(step, 0.5))
        board.weights(step, np.zeros((4, 4, 3), np.uint8), {'fc6/bias': np.arange(4.0)})
    board.close()
    (kept,) = tmp_path.glob('wandb/offline-run-*/*.wandb')
    assert all(name in kept.read_bytes() for name in (b'train/loss', b'fc6/bias', b'conv1/kernels'))
    assert list(tmp_path.glob('wandb/offline-run-*/files/media/images/conv1/*.png'))
