import numpy as np

from alexnet_jax.data.shuffle import rows_at


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [rows_at(epoch * 500 + np.arange(500), 500, seed) for seed in range(3) for epoch in range(3)]  # fmt: skip
    for i, one in enumerate(orders):
        assert (one != np.arange(500)).mean() > 0.98
        for other in orders[:i]:
            assert (one != other).mean() > 0.98


def test_rows_fall_anywhere():
    """Chi-square over (place, row) in tenths, and over the distance of neighbors."""
    count, epochs = 200, 400
    rows = rows_at(np.arange(count * epochs), count, seed=0).reshape(epochs, count)
    table = np.zeros((10, 10))
    np.add.at(table, (np.tile(np.arange(count) // 20, epochs), rows.ravel() // 20), 1)
    expected = count * epochs / 100
    # Rows and columns of the table have fixed sums: 81 degrees of freedom, and
    # sampling without replacement makes the spread a little smaller.
    assert ((table - expected) ** 2 / expected).sum() < 126  # 0.1 % point
    steps = np.bincount((rows[:, 1:] - rows[:, :-1]).ravel() % count, minlength=count)[1:]
    expected = epochs * (count - 1) / (count - 1)
    assert ((steps - expected) ** 2 / expected).sum() < 266  # 0.1 % point of 198


def test_a_large_set_takes_no_memory():
    rows = rows_at(10**13 + np.arange(1000), 10**10, seed=3)
    assert len(set(rows.tolist())) == 1000 and rows.min() >= 0 and rows.max() < 10**10
