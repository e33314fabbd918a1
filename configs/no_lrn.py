"""Its ablation: no normalization (§3.3; net 148 of the authors' code), by its own diary.

    python -m alexnet_jax.main --config configs/no_lrn.py --workdir runs/no_lrn

configs/krizhevsky2012.py in all else. 97 epochs; the rate falls at epochs 22, 44 and 86, conv1 is
slowed at 69 and frozen from 73, the color shift ends at 69. Images and hardware as in
configs/imagenet.py.
Expected error on the validation set: top-1 0.4203, top-5 0.1936 over ten views
(layer-params-148.cfg).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_lrn'
    config.train.protocol = 'diary_no_lrn'
    config.data.source = 'tfds:imagenet2012'
    return config
