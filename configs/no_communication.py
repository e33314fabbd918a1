"""Its ablation: columns that meet at fc8 alone (net 150 of the authors' code; not in the paper), by its
own diary.

    python -m alexnet_jax.main --config configs/no_communication.py --workdir runs/no_communication

configs/krizhevsky2012.py in all else. 92 epochs; the rate falls at epochs 25, 49 and 79, conv1 is
slowed at 66 and frozen from 72, the color shift ends at 66. Images and hardware as in
configs/imagenet.py.
Expected error on the validation set: top-1 0.4183, top-5 0.1933 over ten views
(layer-params-150.cfg).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_communication'
    config.train.protocol = 'diary_no_communication'
    config.data.source = 'tfds:imagenet2012'
    return config
