"""Its ablation: no normalisation (§3.3; net 148 of the authors' code).

    python -m alexnet_jax.main --config configs/no_lrn.py --workdir runs/no_lrn

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. Validation set, ten views: top-1 0.4203, top-5 0.1936.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_lrn'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
