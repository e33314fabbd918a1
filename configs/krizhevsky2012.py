"""The net behind the paper's tables, number 145 of the authors' code, by their diary.

    python -m alexnet_jax.main --config configs/krizhevsky2012.py --workdir runs/krizhevsky2012

91 epochs; the rate falls at epochs 25, 51 and 79, conv1 is slowed at 67 and frozen from 72, the color
shift ends at 67. Images and hardware as in configs/imagenet.py.
Expected error on the validation set: top-1 0.4066, top-5 0.1821 over ten views (layer-params-145.cfg;
Table 2 has 0.407 and 0.182).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'krizhevsky2012'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
