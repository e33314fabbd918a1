"""Two columns on made-up patterns, half of whose classes need orientation and half colour.

python -m alexnet_jax.main --config configs/patterns.py --workdir runs/patterns
"""

config = {
    'network.name': 'patterns',
    'data.source': 'patterns',
    'data.record_size': 32,
    'data.batch_size': 64,
    'data.color_std': 0.0,  # a colour shift would change a patch's hue
    'schedule.patience': 3,
    'train.epochs': 12,
}
