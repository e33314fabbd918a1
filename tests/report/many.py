"""What the commands for many runs leave behind, written by hand."""

import csv
import json
from pathlib import Path


def figure1(folder: Path) -> None:
    rows = [
        {'activation': 'relu', 'learning_rate': 0.01, 'epochs': [2.0, 3.0], 'mean': 2.5,
         'standard_deviation': 0.7071, 'lowest_error': [0.1, 0.1]},
        {'activation': 'tanh', 'learning_rate': 0.003, 'epochs': [5.0, None], 'mean': None,
         'standard_deviation': None, 'lowest_error': [0.2, 0.3]},
    ]  # fmt: skip
    faults = {'tanh/rate-0.1/seed-0': 'the loss of step 3 is nan'}
    kept = {'error': 0.25, 'rows': rows, 'faults': faults}
    (folder / 'figure1.json').write_text(json.dumps(kept))
    with (folder / 'curves.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'epoch', 'training_error'])
        for name, rate in (('relu/rate-0.01/seed-0', 2), ('relu/rate-0.1/seed-0', 9),
                           ('tanh/rate-0.003/seed-0', 5), ('relu/rate-0.01/seed-1', 3)):  # fmt: skip
            writer.writerows((name, epoch, 0.5 * rate / (rate + epoch)) for epoch in range(1, 9))


def ablations(folder: Path) -> None:
    def errors(mean, difference, error, published):
        return {'seeds': [mean, mean], 'mean': mean, 'difference': difference,
                'standard_error': error, 'published': published}  # fmt: skip

    rows = [
        {'name': 'krizhevsky2012', 'source': '', 'top1_error': errors(0.02, None, None, None),
         'top5_error': errors(0.0, None, None, None)},
        {'name': 'no_lrn', 'source': '§3.3', 'top1_error': errors(0.05, 0.03, 0.01, 0.014),
         'top5_error': errors(0.01, 0.01, 0.002, 0.012)},
        {'name': 'data.mirror=off', 'source': '', 'top1_error': errors(None, None, None, None),
         'top5_error': errors(0.0, -0.004, None, None)},
    ]  # fmt: skip
    kept = {
        'split': 'test',
        'views': 10,
        'notes': ['no_lrn/seed-1 is excluded: nan'],
        'rows': rows,
    }
    (folder / 'ablations.json').write_text(json.dumps(kept))


def specialization(folder: Path) -> None:
    def measure(*values):
        mean = sum(values) / len(values)
        return {'values': list(values), 'mean': mean, 'low': mean - 0.1, 'high': mean + 0.1}

    def apart(difference):
        means = [0.3, 0.3 + difference]
        return {'means': means, 'difference': difference, 'by_chance': 0.05, 'p': 0.04}

    rows = [
        {'net': net, 'runs': 2, 'apart': {'color': 2, 'orientation': 0},
         'measures': {'top1 error': measure(0.01, 0.02), f'CKA at {layer}': measure(0.5, 0.7)}}
        for net, layer in (('patterns', 'conv1'), ('patterns_no_communication', 'conv1'),
                           ('patterns_one_column', 'none'))
    ]  # fmt: skip
    runs = {
        f'{row["net"]}/seed-{seed}': {
            'over_training': {
                str(step): {'color': apart(step / 1000 + seed / 100), 'orientation': apart(-0.05)}
                for step in (0, 64, 128)
            }
        }
        for row in rows for seed in (0, 1)
    }  # fmt: skip
    (folder / 'specialization.json').write_text(json.dumps({'rows': rows, 'runs': runs}))


ALL = {'figure1': figure1, 'ablations': ablations, 'specialization': specialization}
