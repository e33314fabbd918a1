"""Its ablation: columns that meet at fc8 alone (net 150 of the authors' code).

    python -m alexnet_jax.main --config configs/no_communication.py --workdir runs/no_communication

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. Validation set, ten views: top-1 0.4183, top-5 0.1933.
"""

config = {
    'network.name': 'no_communication',
    'train.protocol': 'diary',
    'data.source': 'tfds:imagenet2012',
}
