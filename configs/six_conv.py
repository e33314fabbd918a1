"""The paper's CNN*: a sixth convolution (§6, Table 2; net 146-2012-2011), by its own diary.

    python -m alexnet_jax.main --config configs/six_conv.py --workdir runs/six_conv \
        --config.start.from=WORKDIR --config.start.layers=conv1,conv2,conv3,conv4,conv5,conv6,fc6,fc7

The diary is that of a warm start: WORKDIR is of the same net, trained on the 22,000 classes of
ImageNet's Fall 2011 release (docs/protocols.md has its rates). 54 epochs at 0.001, conv1 at 0.0001 and
frozen from 7; fc8, which is new, at 0.01 in the first nine. A net that starts from nothing learns
slowly so: --config.train.protocol=diary gives it net 145's. Images and hardware as in
configs/imagenet.py.
Expected error on the validation set: top-1 0.3899, top-5 0.1662 over ten views
(layer-params-146-2012-2011.cfg; Table 2 has 0.390 and 0.166). From nothing: none published.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'six_conv'
    config.train.protocol = 'diary_six_conv'
    config.data.source = 'tfds:imagenet2012'
    return config
