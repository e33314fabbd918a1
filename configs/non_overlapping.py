"""Its ablation: pooling over 2×2 (§3.4; net 147 of the authors' code), by its own diary.

    python -m alexnet_jax.main --config configs/non_overlapping.py --workdir runs/non_overlapping

configs/krizhevsky2012.py in all else. 90 epochs; the rate falls at epochs 23, 51 and 79, from where on
conv1 is frozen; the color shift stays to the end. Images and hardware as in configs/imagenet.py.
Expected error on the validation set: top-1 0.4106, top-5 0.1851 over ten views
(layer-params-147.cfg).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'non_overlapping'
    config.train.protocol = 'diary_non_overlapping'
    config.data.source = 'tfds:imagenet2012'
    return config
