"""One weird trick's tower (arXiv:1404.5997), with the rates of cuda-convnet2's file.

    python -m alexnet_jax.main --config configs/one_weird_trick.py --workdir runs/one_weird_trick

ε in four steps from 0.01 to a 250th of it over 90 epochs, biases from 0.02 in two.
Images and hardware as in configs/imagenet.py.
Error to expect: none given with the file.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'one_weird_trick'
    config.train.protocol = 'one_weird_trick'
    config.data.source = 'tfds:imagenet2012'
    return config
