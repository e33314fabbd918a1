config = {
    'network.name': 'four_layer',
    'data.source': 'digits',
    'data.record_size': 32,
    'train.protocol': 'constant',
    'train.epochs': 20,
}
