"""The net behind the paper's tables, a quarter as wide, on handwritten digits: for ablations.

    python -m alexnet_jax.ablations --config configs/digits_krizhevsky2012.py --workdir runs/ablations
    python -m alexnet_jax.main --config configs/digits_krizhevsky2012.py --workdir runs/digits_k2012

Digits enlarged to 64 pixels, crops of 59; the authors' diary with batches of 32, of which
30 epochs see the first drop of the rate.

Hardware and time: 2 CPU cores, about a minute and a half a run.
Expected error: test top-1 0.021 (0.027, 0.013, 0.023: seeds 0 to 2); ablations in
docs/LOG.md.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'krizhevsky2012'
    config.network.input_size = 59
    config.network.width = 0.25
    config.data.source = 'digits'
    config.data.record_size = 64
    config.data.batch_size = 32
    config.train.protocol = 'diary'
    config.train.epochs = 30
    return config
