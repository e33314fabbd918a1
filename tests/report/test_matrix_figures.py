"""Pictures of matrices, and the numbers beside them."""

import csv

import numpy as np
import pytest
from matplotlib.axes import Axes

from alexnet_jax.report.figures import matrices


@pytest.fixture
def pictures(monkeypatch) -> list[np.ndarray]:
    """The arrays that are drawn."""
    drawn, imshow = [], Axes.imshow

    def record(axes, values, **more):
        drawn.append(values)
        return imshow(axes, values, **more)

    monkeypatch.setattr(Axes, 'imshow', record)
    return drawn


def test_similarities_are_drawn_with_their_numbers(tmp_path, pictures):
    values = np.array([[1, 1 / 3, np.nan]])
    matrices.draw_similarities(values, ['a$b'], ['x', 'y', 'z'], tmp_path / 'cka')
    with (tmp_path / 'cka.csv').open() as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [['a$b', 'x', '1.0'], ['a$b', 'y', repr(1 / 3)], ['a$b', 'z', '']]
    svg = (tmp_path / 'cka.svg').read_text()
    assert '>0.33<' in svg and '>nan<' not in svg
    np.testing.assert_array_equal(pictures[0], values)


def test_of_many_images_every_second_is_drawn(tmp_path, pictures, random):
    values = random.random((1001, 1001))
    values[:, 4] = np.nan
    matrices.draw_dissimilarities(values, 'conv5/pool, correlation', tmp_path / 'rdm')
    np.testing.assert_array_equal(pictures[0], values[::2, ::2])
    assert (tmp_path / 'rdm.png').read_bytes().startswith(b'\x89PNG')
