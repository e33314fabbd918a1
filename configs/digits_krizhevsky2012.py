"""The net behind the paper's tables, a quarter as wide, on handwritten digits: for ablations.

    python -m alexnet_jax.ablations --config configs/digits_krizhevsky2012.py --workdir runs/ablations
    python -m alexnet_jax.main --config configs/digits_krizhevsky2012.py --workdir runs/digits_k2012

Digits enlarged to 64 pixels, crops of 59; the authors' diary with batches of 32, of which
30 epochs see the first drop of the rate.

Hardware and time: 2 CPU cores, about a minute and a half a run.
Error to expect: test top-1 0.021 (0.027, 0.013, 0.023: seeds 0 to 2); ablations in
docs/LOG.md.
"""

config = {
    'network.name': 'krizhevsky2012',
    'network.input_size': 59,
    'network.width': 0.25,
    'data.source': 'digits',
    'data.record_size': 64,
    'data.batch_size': 32,
    'train.protocol': 'diary',
    'train.epochs': 30,
}
