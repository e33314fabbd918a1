"""The paper's CNN*: a sixth convolution (§6, Table 2; net 146 of the authors' code).

    python -m alexnet_jax.main --config configs/six_conv.py --workdir runs/six_conv

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. Validation set, ten views: top-1 0.3899, top-5 0.1662 if started from a net trained on the
22,000 classes of ImageNet's Fall 2011 release: --config.start.from=WORKDIR and
--config.start.layers=conv1,conv2,conv3,conv4,conv5,conv6,fc6,fc7.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'six_conv'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
