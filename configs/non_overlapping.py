"""Its ablation: pooling over 2×2 (§3.4; net 147 of the authors' code).

    python -m alexnet_jax.main --config configs/non_overlapping.py --workdir runs/non_overlapping

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. Validation set, ten views: top-1 0.4106, top-5 0.1851.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'non_overlapping'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
