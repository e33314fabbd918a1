"""The paper's net (§3.5), its normalization reaching over both columns as §3.3 can be read.

    python -m alexnet_jax.main --config configs/paper_lrn_across.py --workdir runs/paper_lrn_across

Otherwise configs/imagenet.py. Images and hardware as in configs/imagenet.py.
Expected error: as configs/imagenet.py; the paper's text allows both readings.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'paper_lrn_across'
    config.data.source = 'tfds:imagenet2012'
    return config
