"""Features in parts: which images are whose, and the joined folder against one written in one go."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.evaluation import feature_files, feature_parts
from alexnet_jax.evaluation.feature_files import FeatureFiles
from alexnet_jax.evaluation.feature_parts import Part
from alexnet_jax.runtime.errors import InputError

REQUEST, SHAPES = {'layers': ['fc8']}, {'fc8': (2,)}
IDS = [f'image {number}' for number in range(11)]
ROWS = np.arange(22, dtype=np.float32).reshape(11, 2)
SKIPPED = {IDS[number]: 'is broken' for number in (1, 4, 5, 6, 7)}  # all of the second part


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write(folder: Path, form: str, numbers: range, least: int = 1, **more) -> None:
    kept = FeatureFiles(folder, REQUEST | more, SHAPES, 'float32')
    some = slice(numbers.start, numbers.stop)
    kept.add(IDS[some], np.arange(11)[some], {'fc8': ROWS[some]}, SKIPPED)
    kept.finish(form, least)


def write_part(out: Path, index: int, numbers: range) -> None:
    write(Part(index, 3).folder(out), 'npy', numbers, 0, part=[index, 3])


def join(out: Path, form: str = 'npy') -> None:
    feature_parts.join(out, 3, REQUEST, SHAPES, 'float32', form)


PARTS = [range(4), range(4, 8), range(8, 11)]


@pytest.mark.parametrize('form', feature_files.FORMS)
def test_the_last_part_joins_them_in_any_order(form, tmp_path):
    write(tmp_path / 'once', form, range(11))
    (tmp_path / 'out.partial').mkdir()
    begun = FeatureFiles(tmp_path / 'out', REQUEST, SHAPES, 'float32')  # by one process
    begun.add(IDS[:3], np.arange(3), {'fc8': ROWS[:3]}, SKIPPED)
    begun.close()
    for index in (2, 0, 1):
        assert not (tmp_path / 'out').exists()
        write_part(tmp_path / 'out', index, PARTS[index])
        join(tmp_path / 'out', form)
    assert content(tmp_path / 'out') == content(tmp_path / 'once')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['once', 'out']


@pytest.mark.parametrize('place', ['add', '_close_files', 'rename', 'rmtree'])
def test_a_join_that_is_killed_is_done_by_the_next_command(place, tmp_path, monkeypatch):
    owner = {'rename': Path, 'rmtree': shutil}.get(place, FeatureFiles)
    assert_a_killed_join_is_completed(tmp_path, monkeypatch, owner, place, lambda *_, **__: True)


def test_a_join_that_is_killed_in_the_form_of_parts_is_done_again(tmp_path, monkeypatch):
    """OUT has its name, and still holds one of the two arrays that its one file replaces."""
    removed = []

    def second(path: Path, **_) -> bool:
        removed.extend([path] * (path.parent == tmp_path / 'out'))
        return len(removed) == 2

    assert_a_killed_join_is_completed(tmp_path, monkeypatch, Path, 'unlink', second)


def assert_a_killed_join_is_completed(folder: Path, monkeypatch, owner, place: str, is_now) -> None:
    write(folder / 'once', 'safetensors', range(11))
    for index, numbers in enumerate(PARTS):
        write_part(folder / 'out', index, numbers)
    original = getattr(owner, place)

    def killed(*given, **options):
        if is_now(*given, **options):
            raise SystemExit
        return original(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, place, killed)
        with pytest.raises(SystemExit):
            join(folder / 'out', 'safetensors')
    join(folder / 'out', 'safetensors')
    assert content(folder / 'out') == content(folder / 'once')
    assert sorted(path.name for path in folder.iterdir()) == ['once', 'out']


def test_one_process_joins_at_a_time(tmp_path):
    for index, numbers in enumerate(PARTS):
        write_part(tmp_path / 'out', index, numbers)
    with feature_parts._locked(tmp_path / 'out.parts') as is_ours:
        assert is_ours
        join(tmp_path / 'out')  # as another process would
        assert not (tmp_path / 'out').exists()
    join(tmp_path / 'out')
    join(tmp_path / 'out')  # nothing is left to do
    assert (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('images', 'group', 'count'), [(11, 4, 3), (11, 1, 4), (8, 4, 2), (64, 7, 10)]
)
def test_each_image_is_in_one_part_and_groups_stay_together(images, group, count):
    spans = [Part(index, count).span(images, group) for index in range(count)]
    assert [number for span in spans for number in span] == list(range(images))
    assert all(span.start % group == 0 for span in spans)
    sizes = [-(-len(span) // group) for span in spans]
    assert max(sizes) - min(sizes) <= 1


def test_parts_that_cannot_be(tmp_path):
    for text in ('2/2', '-1/2', '1', '1/0', '0/2/3', 'a/b', ''):
        with pytest.raises(InputError, match=r'allowed: I/N, part I of N'):
            feature_parts.parse(text)
    assert feature_parts.parse('1/2') == Part(1, 2)
    with pytest.raises(InputError, match=r'--part is 0/4; allowed: at most 3 parts for 11 images'):
        Part(0, 4).span(11, 4)
    write_part(tmp_path / 'out', 0, PARTS[0])
    feature_parts.require_alike(tmp_path / 'out', Part(1, 3), REQUEST)
    with pytest.raises(InputError, match=r'out\.parts holds parts of 3; allowed: I/3'):
        feature_parts.require_alike(tmp_path / 'out', Part(1, 2), REQUEST)
    with pytest.raises(InputError, match=r'0-of-3 is of another command: layers differ'):
        feature_parts.require_alike(tmp_path / 'out', Part(0, 3), {'layers': ['fc7']})
    (tmp_path / 'out.parts' / 'mine').touch()
    with pytest.raises(InputError, match=r'out\.parts is there and holds something else'):
        feature_parts.require_alike(tmp_path / 'out', Part(0, 3), REQUEST)


def test_a_part_that_was_changed_is_not_joined(tmp_path):
    for index, numbers in enumerate(PARTS):
        write_part(tmp_path / 'out', index, numbers)
    changed = Part(2, 3).folder(tmp_path / 'out') / 'fc8.npy'
    changed.write_bytes(changed.read_bytes()[:-1] + b'x')
    with pytest.raises(InputError, match=r'fc8\.npy was modified'):
        join(tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
