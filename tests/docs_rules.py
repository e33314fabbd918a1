"""What becomes of each command that the pages show, when `test_docs.py` meets it."""

from typing import NamedTuple


class Rule(NamedTuple):
    """What becomes of the commands that `command` matches, by one of three at least.

    run: words to put after it, that make it short; it is run here.
    test: 'FILE::WORD', where it is run otherwise; the word stands there.
    needs: the page has the words 'needs' and this: in a comment at the command or above it, or,
      of a command within a sentence, in its section.
    """

    command: str
    run: str | None = None
    test: str = ''
    needs: str = ''
    slow: bool = False


ANY = '.*'
MAIN = 'python -m alexnet_jax.main '
DIGITS = MAIN + '--config configs/digits.py '
LAUNCH = 'tests/launch/'
SLURM = 'tests/launch/test_slurm.py::'
SCALING = 'tests/studies/test_tables.py::test_the_page_on_scaling_shows_what_the_commands_print'
SHORT = '--config.network.width=0.5 --config.train.steps=2 --config.data.dir={data}'
SHORT += ' --noconfig.train.report'
TINY = '--config.network.width=0.125 --config.network.input_size={size}'
TINY_RUN = f'{TINY} --config.data.batch_size=4 --config.train.steps=1 --noconfig.train.report'
MADE_UP = '--config.data.source=synthetic --config.data.synthetic_examples=20'
BENCH = '--width=0.125 --size=67 --rounds=1'
IN_A_STORE = 'tests/runtime/storage/test_object_store.py::'
RULES = [
    Rule('.*(prepare|train|eval|features) .*s3://.*',
         test=IN_A_STORE + 'test_a_run_in_an_object_store_is_killed_and_goes_on'),
    Rule(DIGITS + '--workdir runs/digits', SHORT),
    Rule(MAIN + '--workdir (RUN|runs/digits) --mode=(eval|predict|report)' + ANY, ''),
    Rule(MAIN + '--help(=data)?', ''),
    Rule('XLA_FLAGS=.*=4 ' + DIGITS + ANY, SHORT, slow=True,
         test='tests/test_main.py::test_a_mesh_of_four_from_the_command_line'),
    Rule(MAIN + '--config configs/imagenet.py --config.data.source=synthetic' + ANY,
         f'{TINY_RUN} {MADE_UP}'.format(size=67)),
    Rule(MAIN + '--config configs/imagenet.py --config.data.source=folder:' + ANY,
         TINY_RUN.format(size=67)),
    Rule(MAIN + '--config configs/NAME.py --workdir runs/NAME',
         f'{TINY_RUN} {MADE_UP}'.format(size=99)),
    Rule(MAIN + ANY + 'cifar10_from_tiny_imagenet' + ANY, needs='runs/tiny_imagenet',
         test='tests/training/test_warm_start_sources.py::test_the_recipe_for_fine_tuning'),
    Rule(MAIN + ANY + 'tiny_imagenet' + ANY, needs='Tiny ImageNet',
         test='tests/experiment/test_every_net.py::test_the_loss_leaves_chance_on_photographs'),
    Rule(MAIN + '--config configs/cifar10_18pct.py ' + ANY, needs='CIFAR-10',
         test='tests/experiment/test_every_net.py::test_the_loss_leaves_chance_on_photographs'),
    Rule(MAIN + '--config configs/six_conv.py' + ANY, needs='ImageNet',
         test='tests/experiment/test_exchange.py::test_training_starts_from_an_imported_net'),
    Rule(MAIN + ANY + '--processes=auto', needs='ImageNet',
         test='tests/runtime/test_multihost.py::test_what_slurm_tells_its_tasks_is_enough'),
    Rule(DIGITS + ANY + '--processes=2 --process=0' + ANY,
         test='tests/runtime/test_multihost.py::test_two_processes_stop_on_request_and_one_goes_on'),
    Rule('launch/local.sh 2 ' + ANY, SHORT, slow=True,
         test=LAUNCH + 'test_local.py::test_local_gives_each_process_its_arguments_and_environment'),
    Rule('sbatch --array' + ANY, needs='many hosts', test=SLURM + 'test_an_array_of_seeds'),
    Rule('sbatch ' + ANY, needs='many hosts', test=SLURM + 'test_nodes_and_tasks'),
    Rule(ANY + 'pytest -m slow tests/launch/test_slurm.py -k random', needs='Slurm',
         test=SLURM + 'test_random_kills'),
    Rule(ANY + 'pytest -m slow tests/launch/test_slurm.py', needs='Slurm', test=SLURM + 'slow'),
    Rule(ANY + 'launch/tpu_vm.sh ' + ANY, needs='many hosts',
         test=LAUNCH + 'test_scripts.py::test_tpu_starts_again_what_can_go_on'),
    Rule('scancel JOB|kubectl ' + ANY, needs='many hosts'),
    Rule('docker build ' + ANY, needs='Docker',
         test=LAUNCH + 'test_image.py::test_what_the_image_installs_trains_the_digits'),
    Rule('docker run ' + ANY, needs='Docker', test=LAUNCH + 'test_kubernetes.py::test_the_pod_runs_the_image'),
    Rule('pip install ' + ANY + '--target /tmp/site ' + ANY, needs='a download'),
    Rule('du -sm /tmp/site', needs='a download'),

    Rule('python -m alexnet_jax.report RUN RUN --out DIR', ''),
    Rule('chromium --headless --print-to-pdf' + ANY,
         test='tests/report/test_browser.py::test_a_printed_report'),
    Rule('python -m alexnet_jax.report runs/ensemble/' + ANY,
         test='tests/report/test_several.py::test_runs_beside_each_other'),
    Rule('python -m alexnet_jax.report runs/figure1',
         test='tests/report/test_several.py::test_figure1_draws_each_activation_at_its_own_rate'),
    Rule('python -m alexnet_jax.report runs/ablations',
         test='tests/report/test_several.py::test_ablations_show_differences_beside_the_published'),
    Rule('python -m alexnet_jax.specialization --config configs/imagenet.py' + ANY, needs='ImageNet',
         test='tests/studies/test_specialization.py::test_from_the_command_line'),
    Rule('python -m alexnet_jax.specialization ' + ANY, '--nets patterns --seeds 2'
         ' --config.train.steps=3 --config.network.width=0.5', slow=True,
         test='tests/studies/test_specialization.py::test_from_the_command_line'),
    Rule('tensorboard --logdir runs', needs='TensorBoard',
         test='tests/training/test_trackers.py::test_its_own_reader_finds_what_was_written'),
    Rule('python -m alexnet_jax.evaluation ensemble --config' + ANY, f'--seeds 1 {SHORT}'),
    Rule('python -m alexnet_jax.evaluation ensemble RUN1' + ANY,  # which has to be different runs
         test='tests/experiment/test_ensemble_command.py::test_an_ensemble_beside_its_members'),
    Rule('python -m alexnet_jax.evaluation (tables|features) ' + ANY, ''),
    Rule('alexnet-jax (features|rdm|explain|lesions|nets) ' + ANY, ''),
    Rule('alexnet-jax units ' + ANY, '--steps 3'),
    Rule('python -m alexnet_jax.weights import torchvision ' + ANY, needs='a download',
         test='tests/weights/test_published.py::test_names_in_commands'),
    Rule('python -m alexnet_jax.evaluation.compare rsa ' + ANY, '--bootstrap 20 --permutations 20'),
    Rule('python -m alexnet_jax.evaluation.compare (rdm|cka|probe) ' + ANY, ''),
    Rule(r'python -m alexnet_jax.weights import \S+\.caffemodel ' + ANY, TINY.format(size=99),
         needs='a download'),
    Rule('python -m alexnet_jax.weights import FILE ' + ANY,
         f'--classes names.txt {TINY}'.format(size=95)),
    Rule('python -m alexnet_jax.weights (export|push|pull) ' + ANY, ''),
    Rule('python -m alexnet_jax.data.prepare --source folder:tiny-imagenet-200 ' + ANY,
         needs='Tiny ImageNet',
         test='tests/data/prepare/test_tiny_imagenet.py::test_the_labels_of_validation_images_are_read_from_their_file'),
    Rule('python -m alexnet_jax.data.prepare --source tfds:cifar10 ' + ANY, needs='CIFAR-10'),
    Rule('python -m alexnet_jax.data.prepare --source folder:RENDITIONS ' + ANY,
         '--size=32 --workers=1'),
    Rule('python -m alexnet_jax.data.prepare --source folder:' + ANY, '--workers=1'),
    Rule('python -m alexnet_jax.data.prepare --help', ''),
    Rule('python -m alexnet_jax.data.prepare --resize=short_side',
         '--source folder:PATH --out SQUARES --workers=1'),
    Rule('python -m alexnet_jax.data.prepare --source tfds:imagenet2012' + ANY, needs='ImageNet',
         test='tests/data/prepare/test_imagenet.py::test_imagenet_from_its_tars'),
    Rule('python -m alexnet_jax.data.prepare ' + ANY + '--dask' + ANY, needs='a Dask cluster',
         test='tests/data/prepare/test_dask.py::test_with_ten_workers_killed_it_makes_the_same_files'),
    Rule('python -m alexnet_jax.data.prepare ' + ANY + '--beam_runner' + ANY, needs='Apache Beam',
         test='tests/data/prepare/test_prepare.py::test_beam_makes_the_same_files'),
    Rule('python -m alexnet_jax.network paper --mesh' + ANY, test=SCALING),
    Rule('python benchmarks/plan.py ' + ANY, test='tests/network/test_plan.py::test_the_page_on_scaling_shows_what_the_command_prints'),
    Rule('python -m alexnet_jax.network' + ANY, ''),
    Rule(MAIN + r'--config digits --config\.\S+=my\w+\.py:\w+ --workdir runs/my\w+',
         SHORT.replace('network.width=0.5', 'network.width=1')),  # a norm over 5 of a column's 8 maps
    Rule(MAIN + '--workdir runs/mynet --config.train.steps=50',
         '--config.train.steps=3 --noconfig.train.report'),
    Rule(MAIN + '--workdir runs/mynet --mode=eval', ''),
    Rule('python -m alexnet_jax.data.prepare --source mydata.py:SOURCE ' + ANY, '--workers=1'),
    Rule('python -m alexnet_jax.training ' + ANY, ''),
    Rule('alexnet-jax compile .*(tpu|gpu):' + ANY, needs='a compiler',
         test='tests/experiment/test_ahead_of_time.py::test_tpu_programs_are_no_larger'),
    Rule('python -m alexnet_jax compile .*cpu:2' + ANY,
         test='tests/experiment/test_ahead_of_time.py::test_a_program_s_figures_are_printed'),
    Rule('python -m alexnet_jax.ablations ' + ANY,
         '--ablations optimizer.momentum=0 --seeds 1 --config.train.epochs=1'
         ' --config.network.width=0.125 --config.data.dir={data} --noconfig.train.report',
         test='tests/studies/test_ablations.py::test_ablations_from_the_command_line_go_on_where_they_were_stopped',
         slow=True),
    Rule('python -m alexnet_jax.figure1 ' + ANY,
         '--activations relu --rates 0.01 --seeds 1 --config.train.epochs=1'
         ' --config.network.width=0.25 --config.data.source=digits --config.data.record_size=32'
         ' --config.data.dir={data} --noconfig.train.report', slow=True,
         test='tests/studies/test_figure1.py::test_figure_1_from_the_command_line'),

    Rule(r'python benchmarks/step_time.py ' + ANY + '4096', needs='a GPU'),
    Rule(r'python benchmarks/gpu.py ' + ANY, needs='a GPU',
         test='tests/test_benchmarks.py::test_all_that_needs_a_gpu_runs_dry'),
    Rule(r'python benchmarks/step_time.py' + ANY,
         f'{BENCH} --batches=2 --modes=train --no-compile', slow=True),
    Rule(r'python benchmarks/(memory|layers).py', f'{BENCH} --batch=2', slow=True),
    Rule(r'python benchmarks/layers_beside_pytorch.py', needs='PyTorch',
         test='tests/test_benchmarks.py::test_rows_stand_beside_pytorch_s'),
    Rule(r'python benchmarks/scaling.py', '--net=small --rounds=1 --batches=2 --sizes=28 --widths=0.5'
         ' --classes=10 --middle=2,28,1,10 --overhead_batch=2 --overhead_rounds=1', slow=True),
    Rule(r'python benchmarks/startup.py', '--rounds=1 --images=20 --batch=2'
         ' --set=network.width=0.125 --set=network.input_size=67', slow=True),
    Rule(r'python benchmarks/saving.py', '--net=small --batch=2 --steps=1 --rounds=1', slow=True),
    Rule(r'python benchmarks/input_rate.py', '--images=600 --rounds=1', slow=True),
    Rule(r'python benchmarks/prepare_rate.py', '--images=20 --rounds=1', slow=True),
    Rule(r'python benchmarks/features.py RUN', '--images=100 --rounds=1', slow=True),
    Rule(r'python benchmarks/loop.py', '--rounds=1 --steps=20', slow=True),
    Rule(r'python benchmarks/end_to_end.py', '--images=600 --rounds=1 --digits_steps=2 --steps=1'
         ' --batch=2 --set=network.width=0.125 --set=network.input_size=67', slow=True),

    Rule(r'python3 -m venv \.venv', test='.ci/run::python3 -m venv'),
    Rule(r'pip install ' + ANY + r'-e (\.|\.\[(test|docs|beam|dask|prepare)\])', test='.ci/run::pip install'),
    Rule(r'pip install -c constraints.txt -e \.\[storage\]', test='pyproject.toml::storage'),
    Rule(r'pip install -e \.\[wandb\]', test='tests/training/test_trackers.py::test_wandb_offline'),
    Rule('mkdocs build --strict', test='tests/test_site.py::mkdocs'),
    Rule('python -m tests.prose', test='tests/test_prose.py::test_reading_ease_of_a_page'),
    Rule(r'pip install tensorboard', test='pyproject.toml::tensorboard'),
    Rule(r'pip install ' + ANY + r'-e \.\[bench\]', needs='a download', test='pyproject.toml::bench'),
    Rule(r'ruff (check|format) \.', test='.ci/run::ruff'),
    Rule(r'pyright', test='.ci/run::pyright'),
    Rule(r'python -m pytest -q( -n 2| tests/faults)', test='.ci/run::test_command'),
    Rule(r'python -m pytest -q -n 2 -m thorough and not slow', test='.ci/run::thorough'),
    Rule(r'(python -m )?pytest .*-m slow tests/faults', test='tests/faults/test_kills.py::slow'),
    Rule(r'(python -m )?pytest -m slow tests/experiment/test_elastic.py tests/runtime/test_multihost.py',
         test='tests/experiment/test_elastic.py::slow'),
    Rule(r'(python -m )?pytest -m slow( tests/experiment/test_digits.py)?', test='tests/experiment/test_digits.py::slow'),
    Rule(r'pytest -m slow tests/experiment/test_every_net.py', test='tests/experiment/test_every_net.py::slow'),
    Rule(r'python -m tests.faults.soak --minutes 60', test='tests/faults/soak.py::minutes'),
    Rule(r'python -m tests.(network.parity|weights.authors)', needs='PyTorch'),
]  # fmt: skip
