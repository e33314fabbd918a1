"""The paper's net (§3), reduced, on made-up patterns, where columns can specialize (§6.1, Figure 3).

    python -m alexnet_jax.specialization --config configs/patterns.py --workdir runs/specialization
    python -m alexnet_jax.main --config configs/patterns.py --workdir runs/patterns

No download: the images are made as they are read (docs/columns.md). Half of the classes need orientation,
half need color.

Hardware and time: 2 CPU cores, about a minute a run; the first command, with three nets and
five seeds, 17 minutes.
Expected error: test top-1 0.014 (512 images; mean of seeds 0 to 4: four of 0.000, one of 0.070).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'patterns'
    config.data.source = 'patterns'
    config.data.record_size = 32
    config.data.batch_size = 64
    config.data.color_std = 0.0  # a color shift would change a patch's hue
    config.schedule.patience = 3
    config.train.epochs = 12
    return config
