"""Calibration section of a report: confidence against accuracy."""

from pathlib import Path

from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.report.figures import page, reliability
from alexnet_jax.runtime.errors import counted


def content(folder: Path, tally: Tally) -> list[str]:
    """Returns the parts of the section; its figure is drawn in `folder`."""
    found = tally.calibration()
    error, bins = found['calibration_error'], found['calibration']
    path, filled = folder / 'reliability', [one for one in bins if one['images']]
    reliability.draw(bins, path)
    caption = (
        'Each mark is a bin of predictions with similar confidence. Its area is the fraction of the'
        f' {counted(tally.images, "image")} in the bin, and its line is the 95 % interval of the'
        ' accuracy. On the dashed line the accuracy equals the confidence; marks below it are'
        ' overconfident.'
    )
    described = (
        f'Accuracy by confidence in {len(filled)} bins, expected calibration error {error:.3f}: '
        + ', '.join(
            f'confidence {one["confidence"]:.2f} accuracy {one["accuracy"]:.2f}' for one in filled
        )
    )
    mean = sum(tally.confidences) / tally.images
    about = page.paragraph(explanation(error, len(bins), mean, sum(tally.right) / tally.images))
    rows = [
        (f'{one["above"]:.2f} to {one["at_most"]:.2f}', one['images'], one['confidence'], one['accuracy'])
        for one in filled
    ]  # fmt: skip
    names = ('range of confidence', 'images', 'mean confidence', 'accuracy')
    return [
        page.side_by_side(page.picture(path, described, caption), about + page.table(names, rows))
    ]


def explanation(error: float, bins: int, confidence: float, accuracy: float) -> str:
    """Returns the paragraph on the expected calibration error (ECE).

    Args:
      error: the ECE. bins: their number. confidence, accuracy: means over the images.
    """
    verdict = 'as high as'
    if f'{confidence:.3f}' != f'{accuracy:.3f}':
        verdict = 'higher than' if confidence > accuracy else 'lower than'
    return (
        'The confidence of a prediction is its probability. A net is calibrated if predictions with a'
        f' confidence of 0.8 are correct for 80 % of the images. The mean confidence, {confidence:.3f}, is'
        f' {verdict} the accuracy, {accuracy:.3f}. The expected calibration error (ECE) is {error:.3f}:'
        ' among images with similar confidence, accuracy and confidence differ by'
        f' {100 * error:.1f} percentage points on average ({bins} bins of equal width,'
        ' arXiv:1706.04599).'
    )
