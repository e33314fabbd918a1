"""Its ablation: one column (§3.2; net 145-half of the authors' code), by its own diary.

    python -m alexnet_jax.main --config configs/half.py --workdir runs/half

configs/krizhevsky2012.py in all else. 96 epochs; the rate falls at epochs 20 and 48, conv1 is
slowed at 66 and frozen from 72, the color shift ends at 66. Images and hardware as in
configs/imagenet.py.
Expected error: none published on ILSVRC-2012, which this file names. The authors trained and tested
the net on ILSVRC-2010 (ten views, layer-params-145-half.cfg): top-1 0.3917, top-5 0.1823, where two
columns have 0.3747, 0.1700 (layer-params-145-2010.cfg).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'half'
    config.train.protocol = 'diary_half'
    config.data.source = 'tfds:imagenet2012'
    return config
