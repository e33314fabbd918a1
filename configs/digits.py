"""The paper's net and training (§3-§5), reduced, on 1,797 real handwritten digits.

    python -m alexnet_jax.main --config configs/digits.py --workdir runs/digits

No download: the digits come with scikit-learn. Two columns, normalization,
overlapping pooling, dropout, random crops, color shift and the falling learning
rate are the paper's; images are 32 pixels, crops 28. Digits are not mirrored:
their mirror images are no digits.

Hardware and time: 2 CPU cores, one to two minutes.
Expected error: test top-1 0.010 ± 0.002 (300 images; mean and standard deviation
of seeds 0 to 4, lowest 0.007, highest 0.013). One writer's digits may be in the
training and the test set: this says little about a new writer's.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'small'
    config.data.source = 'digits'
    config.data.record_size = 32
    config.data.batch_size = 64
    config.schedule.patience = 7
    config.train.epochs = 48
    return config
