"""A short run on the digits for several processes."""

import pytest

STEPS = 30


@pytest.fixture
def command(data_dir, tmp_path):
    """(workdir, more arguments) -> the arguments of a short run of half the net on the digits."""

    def command(name: str, *more: str) -> list[str]:
        return [
            '--config', 'configs/digits.py', '--workdir', str(tmp_path / name),
            '--noconfig.train.report',
            f'--config.data.dir={data_dir}', '--config.network.width=0.5',
            f'--config.train.steps={STEPS}', *more,
        ]  # fmt: skip

    return command
