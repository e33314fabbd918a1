"""Runs of a study: finished ones are kept, and no result is filed under another run."""

import dataclasses
import json
import shutil

import pytest

from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.experiment import build, training_run
from alexnet_jax.experiment import config as configuration
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.layers import AveragePool, MaxPool
from alexnet_jax.network.variants import with_stages
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import runs
from tests.studies.test_studies import SETTINGS, snapshot


def tiny(**given) -> configuration.Config:
    return configuration.complete(SETTINGS | {'train.epochs': 2}, given)


def test_runs_whose_loss_is_no_number_are_not_repeated(tmp_path, monkeypatch, played):
    played.lost = ('/bad',)
    expected = {'bad': {'fault': 'the loss of step 1 is nan'}}
    assert runs.train_all({'bad': tiny()}, tmp_path, lambda: False) == expected
    monkeypatch.setattr(training_run, 'train', None)
    assert runs.train_all({'bad': tiny()}, tmp_path, lambda: False) == expected


@pytest.mark.parametrize('step', [3, 5, 40])
def test_a_result_of_another_step_is_not_filed(step, tmp_path, monkeypatch, played):
    """The plan ends at step 4, under a protocol that looks for no plateau."""
    train = training_run.train

    def elsewhere(config, folder, stop_requested):
        train(config, folder, stop_requested)
        path = folder / 'eval' / 'val-1.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | {'step': step}))
        return True

    monkeypatch.setattr(training_run, 'train', elsewhere)
    message = rf'run has a result of step {step}, but its last step is 4'
    with pytest.raises(InputError, match=message):
        runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    assert not (tmp_path / 'results.json').exists()


def test_a_plateau_may_end_a_run_before_its_plan(tmp_path, monkeypatch, played):
    train = training_run.train

    def early(config, folder, stop_requested):
        return train(configuration.changed(config, {'train.epochs': 1}), folder, stop_requested)

    monkeypatch.setattr(training_run, 'train', early)
    plateau = configuration.complete(SETTINGS | {'train.epochs': 2, 'train.protocol': 'paper'}, {})
    results = runs.train_all({'run': plateau}, tmp_path, lambda: False)
    assert results is not None and results['run']['step'] == 2


def test_a_kept_result_is_checked_too(tmp_path, played):
    """A result of a longer run under the shorter configuration, as older versions filed it."""
    assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    kept = json.loads((tmp_path / 'results.json').read_text())
    kept['run']['result']['step'] = 12
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')
    (tmp_path / 'results.json').write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r'run has a result of step 12, but its last step is 4'):
        runs.train_all({'run': tiny()}, tmp_path, lambda: False)


def other_table(monkeypatch):
    net = with_stages(
        ARCHITECTURES['four_layer'], 'four_layer',
        lambda stage: AveragePool(stage.size, stage.stride) if isinstance(stage, MaxPool) else stage,
    )  # fmt: skip
    monkeypatch.setitem(ARCHITECTURES, 'four_layer', net)


def other_set(change):
    def apply(monkeypatch):
        images = synthetic_set(20, 2, 32, 0)
        monkeypatch.setattr(build, 'open_images', lambda config: change(images))

    return apply


@dataclasses.dataclass(frozen=True)
class WithIdentity:
    """An image set that has an identity."""

    splits: dict
    classes: tuple
    identity: dict


def with_digest(digest: str):
    return other_set(
        lambda images: WithIdentity(
            images.splits, images.classes, {'source': 'x', 'pictures': digest}
        )
    )


@pytest.mark.parametrize(('change', 'message'), [
    (other_table, "the net's table changed"),
    (other_set(lambda x: dataclasses.replace(x, classes=('class 0', 'z'))), 'the classes changed'),
    (other_set(lambda x: dataclasses.replace(x, classes=x.classes[::-1])), 'the classes changed'),
    (other_set(lambda x: dataclasses.replace(x, splits=x.splits | {'test': x.splits['val']})),
     'the number of images changed'),
    (with_digest('other'), 'pictures of the set changed'),
])  # fmt: skip
def test_a_finished_run_of_something_else_is_not_reused(
    change, message, tmp_path, monkeypatch, played
):
    """A table that was edited, average for max pooling; classes renamed, reordered; another set."""
    if 'pictures' in message:
        with_digest('first')(monkeypatch)
    assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    with monkeypatch.context() as patch:
        change(patch)
        before = snapshot(tmp_path)
        for config in (tiny(), tiny(**{'train.epochs': '9'})):  # longer, too
            with pytest.raises(InputError, match=f'run was trained with other inputs: .*{message}'):
                runs.train_all({'run': config}, tmp_path, lambda: False)
        assert snapshot(tmp_path) == before and len(played) == 1
        # As the message advises: once removed, the run is trained again.
        shutil.rmtree(tmp_path / 'run')
        patch.setattr(training_run, 'held_out_split', lambda config, images: 'val')
        assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
        assert len(played) == 2
    assert runs.train_all({'new': tiny()}, tmp_path, lambda: False)


def test_a_run_whose_folder_was_trained_differently_is_refused_before_others_train(
    tmp_path, played
):
    assert runs.train_all({'b': tiny()}, tmp_path, lambda: False)
    configs = {'a': tiny(), 'b': tiny(**{'optimizer.momentum': '0.5'})}
    with pytest.raises(InputError, match=r'optimizer\.momentum was 0\.9, now 0\.5'):
        runs.train_all(configs, tmp_path, lambda: False)
    assert len(played) == 1 and not (tmp_path / 'a').exists()
