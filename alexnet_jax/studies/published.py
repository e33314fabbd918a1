"""Published ablations of the paper and its authors, with their changes of the error."""

import dataclasses

from alexnet_jax.network.architectures import ABLATED


@dataclasses.dataclass(frozen=True)
class Ablation:
    """One change of the base, and the published rises of its top-1 and top-5 errors, as fractions.

    changes: values as text by setting, as on the command line.
    """

    name: str
    changes: dict[str, str]
    published: tuple[float | None, float | None] = (None, None)
    source: str = ''

    @property
    def net(self) -> str:
        """The name of the net that the ablation trains, or '' if it changes only settings."""
        return self.changes.get('network.name', '')


# Differences from net 145 (`krizhevsky2012`). The authors evaluated ten views of the validation images
# of ILSVRC-2012; `half` was evaluated on the test images of ILSVRC-2010.
PUBLISHED = (
    Ablation('half', {'network.name': 'half'}, (0.017, 0.012), '§3.2, ILSVRC-2010'),
    Ablation('no_lrn', {'network.name': 'no_lrn'}, (0.014, 0.012), '§3.3'),
    Ablation('non_overlapping', {'network.name': 'non_overlapping'}, (0.004, 0.003), '§3.4'),
    Ablation('no_communication', {'network.name': 'no_communication'},
             (0.0117, 0.0112), "the authors' code, net 150"),
    Ablation('six_conv', {'network.name': 'six_conv'}, (-0.017, -0.016),
             'Table 2, started from a net of 22,000 classes'),
    Ablation('no_conv4', {'network.name': 'no_conv4'}, (0.02, None), '§7, "about 2 %"'),
    Ablation('no_color', {'data.color_std': '0'}, (0.01, None), '§4.1, "over 1 %"'),
    # Without numbers: the paper states that these nets overfit, and does not compare columns with one
    # column of the same kernels.
    Ablation('no_dropout', {'network.name': 'no_dropout'}, source='§4.2, "substantial overfitting"'),
    Ablation('no_crops', {'data.random_crop': 'false', 'data.mirror': 'false'},
             source='§4.1, "substantial overfitting"'),
    Ablation('one_column', {'network.name': 'one_column'}, source='not published: kernels read all'),
)  # fmt: skip


def published(base: str) -> list[Ablation]:
    """Returns the published ablations for the net `base`; [] for nets without any."""
    if base not in ABLATED:
        return []
    rows = []
    for row in PUBLISHED:
        name = ABLATED[base] + row.net if row.net else row.name
        changes = {'network.name': name} if row.net else row.changes
        rows.append(dataclasses.replace(row, name=name, changes=changes))
    return rows
