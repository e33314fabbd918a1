"""The two-column net, reduced, on 1,797 real handwritten digits."""

config = {
    'network.name': 'small',
    'data.source': 'digits',
    'data.record_size': 32,
    'data.batch_size': 64,
    'train.epochs': 60,
}
