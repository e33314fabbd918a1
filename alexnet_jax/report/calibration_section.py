"""The section of a report on calibration: whether the net's confidence is its accuracy."""

from pathlib import Path

from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.report.figures import page, reliability
from alexnet_jax.runtime.errors import counted


def content(folder: Path, tally: Tally) -> list[str]:
    """Returns the section's parts; its figure is drawn in `folder`."""
    found = tally.calibration()
    error, bins = found['calibration_error'], found['calibration']
    path, filled = folder / 'reliability', [one for one in bins if one['images']]
    reliability.draw(bins, path)
    mean = sum(tally.confidences) / tally.images
    accuracy = sum(tally.right) / tally.images
    caption = (
        f'Expected calibration error {error:.4f}. A mark is a bin of confidences; its area is its share'
        f' of {counted(tally.images, "image")}, the line through it the 95 % interval of its accuracy.'
        ' Dashed: where accuracy equals confidence.'
    )
    described = (
        f'Accuracy by confidence in {len(filled)} bins, expected calibration error {error:.4f}: '
        + ', '.join(
            f'confidence {one["confidence"]:.2f} accuracy {one["accuracy"]:.2f}' for one in filled
        )
    )
    about = page.paragraph(
        'The confidence of a prediction is its probability. A net is calibrated if it is right for'
        ' 80 % of the images of which it is 80 % sure. Marks below the diagonal are predictions that are'
        f' surer than they are right. On average the confidence is {mean:.4f} and the accuracy'
        f' {accuracy:.4f}. The expected calibration error is the mean over the images of the distance'
        f' between accuracy and confidence in their bin, one of {len(bins)} of equal width'
        ' (arXiv:1706.04599).'
    )
    rows = [(f'{one["above"]:.2f}–{one["at_most"]:.2f}', one['images'], one['confidence'],
             one['accuracy']) for one in filled]  # fmt: skip
    table = page.table(('bin', 'images', 'confidence', 'accuracy'), rows)
    return [page.side_by_side(page.picture(path, described, caption), about + table)]
