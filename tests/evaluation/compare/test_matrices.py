"""Dissimilarity matrices from files: their own, and those of others."""

import numpy as np
import pytest

from alexnet_jax.evaluation.compare import matrices
from alexnet_jax.runtime import memory
from alexnet_jax.runtime.errors import InputError

VALUES = np.array([[0, 1, 2, 4], [1, 0, 3, 5], [2, 3, 0, 6], [4, 5, 6, 0.0]])
IDS = ['a', 'b,c', '=1+1', 'd\nü']


def test_what_is_written_reads_back(tmp_path):
    with matrices.writing(tmp_path / 'rdm', {'metric': 'cosine'}, VALUES, IDS) as made:
        (made / 'more.txt').write_text('more')
    found = matrices.read(tmp_path / 'rdm')
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.ids == IDS
    assert (tmp_path / 'rdm/more.txt').exists()
    np.save(tmp_path / 'rdm/rdm.npy', VALUES + 1)
    with pytest.raises(InputError, match='was modified'):
        matrices.read(tmp_path / 'rdm')
    (tmp_path / 'rdm/about.json').unlink()  # a folder of one's own has none
    assert matrices.read(tmp_path / 'rdm').ids == IDS


@pytest.mark.parametrize(
    ('text', 'ids'),
    [
        ('0,1,2\n1,0,3\n2,3,0\n', None),
        ('\ufeff0,1,2\r\n1,0,3\r\n\r\n2,3,0', None),
        ('nan,1,2\n1,nan,3\n2,3,nan\n', None),
        ('id,x,"y,z",7\nx,0,1,2\n"y,z",1,0,3\n7,2,3,0\n', ['x', 'y,z', '7']),
        (',0,1,2\n0,0,1,2\n1,1,0,3\n2,2,3,0\n', ['0', '1', '2']),  # as pandas writes it
    ],
)
def test_tables_of_others(tmp_path, text, ids):
    path = tmp_path / 'judgments.csv'
    path.write_text(text)
    found = matrices.read(path)
    assert found.ids == ids
    assert found.values[np.triu_indices(3, 1)].tolist() == [1, 2, 3]


def changed(row: int, column: int, value: float) -> np.ndarray:
    values = VALUES.copy()
    values[row, column] = value
    return values


BROKEN = {
    'not square': (VALUES[:3], r'has the shape \(3, 4\); allowed: \[images, images\]'),
    'a vector': (VALUES[0], r'has the shape \(4,\)'),
    'too few': (VALUES[:2, :2], 'is of 2 images; 3 at least'),
    'not symmetric': (changed(1, 2, 3.1), 'is not symmetric: row 1, column 2 has 3.1 and row 2, column 1 has 3'),
    'not finite': (changed(3, 1, np.nan), 'has 1 value off the diagonal that .* finite, most in row'),
    'similarities': (1 - VALUES / 10, 'holds similarities.*1 minus these'),
}  # fmt: skip


@pytest.mark.parametrize('what', BROKEN)
def test_what_is_no_matrix_of_dissimilarities_is_refused(tmp_path, what):
    values, words = BROKEN[what]
    np.save(tmp_path / 'm.npy', values)
    with pytest.raises(InputError, match=rf'm\.npy {words}'):
        matrices.read(tmp_path / 'm.npy')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('0,1\n1\n', 'different numbers of values'),
        ('0,1,2\n1,0,x\n2,3,0\n', "could not convert string to float: 'x'"),
        ('0;1;2\n1;0;3\n', 'it has 1 row for 0 ids in its first line'),
        ('id,a,b,c\na,0,1,2\nc,1,0,3\nb,2,3,0\n', 'first column does not have the ids'),
        ('id,a,b,a\na,0,1,2\nb,1,0,3\na,2,3,0\n', "has the id 'a' twice"),
        ('', 'different numbers of values'),
    ],
)
def test_broken_tables_are_refused(tmp_path, text, words):
    (tmp_path / 'm.csv').write_text(text)
    with pytest.raises(InputError, match=words):
        matrices.read(tmp_path / 'm.csv')


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / 'm.txt').write_text('0')
    with pytest.raises(InputError, match='neither a folder nor a'):
        matrices.read(tmp_path / 'm.txt')
    with pytest.raises(InputError, match='No such file'):
        matrices.read(tmp_path / 'none.npy')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='No such file'):
        matrices.read(tmp_path / 'empty')
    np.save(tmp_path / 'empty/rdm.npy', VALUES)
    for text in ('id\na\n', 'row,id\n1,a\n'):
        (tmp_path / 'empty/ids.csv').write_text(text)
        with pytest.raises(InputError, match=r'ids\.csv does not'):
            matrices.read(tmp_path / 'empty')
    (tmp_path / 'empty/ids.csv').write_text('row,id\n0,a\n')
    with pytest.raises(InputError, match='has 1 id for 4 images'):
        matrices.read(tmp_path / 'empty')


def test_a_matrix_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / 'm.npy', VALUES)
    monkeypatch.setattr(memory, 'available', lambda: 500)
    with pytest.raises(InputError, match='needs 512 bytes of memory; available: 500 bytes'):
        matrices.read(tmp_path / 'm.npy')


def matrix(ids: list[str] | None, values: np.ndarray = VALUES) -> matrices.Matrix:
    return matrices.Matrix('B' if ids is None else 'A', values, ids)  # pyright: ignore[reportArgumentType]


def test_images_are_matched_by_id():
    same, line = matrices.matched(matrix(IDS), matrix(IDS))
    assert same.values is VALUES and 'same order' in line
    moved = [2, 0, 3, 1]
    other = matrix([IDS[place] for place in moved], VALUES[moved][:, moved])
    found, line = matrices.matched(matrix(IDS), other)
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.ids == IDS and 'reordered' in line
    _, line = matrices.matched(matrix(IDS), matrix(None))
    assert line == 'B has no ids: rows are matched as they stand'


def test_other_images_are_refused():
    with pytest.raises(
        InputError, match="1 id in A alone, such as 'a'; 1 id in A alone, such as 'e'"
    ):
        matrices.matched(matrix(IDS), matrix(['e', *IDS[1:]]))
    with pytest.raises(InputError, match='A is of 4 images and B of 3'):
        matrices.matched(matrix(IDS), matrix(None, VALUES[:3, :3]))
