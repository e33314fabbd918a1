"""Its ablation: one column (§3.2; net 145-half of the authors' code).

    python -m alexnet_jax.main --config configs/half.py --workdir runs/half

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. On ILSVRC-2010, ten views: top-1 0.3917, top-5 0.1823, where two columns have 0.3747, 0.1700.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'half'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
