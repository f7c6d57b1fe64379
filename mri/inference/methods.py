"""The explanation methods: what each one shows, where it comes from and what it is computed from.

The one list of them, free of PyTorch so that the service can read it. Maps of PyTorch networks are computed in
`mri.explanation.maps`, those of packaged ones in `service.explainer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# What methods are computed from.
FEATURES = "features"  # of the last layer
FINE_FEATURES = "fine features"  # of the stage before the last: four times the cells, less specific to the class
GRADIENT = "gradient"  # of the class's logit with respect to the pixels
GUIDED_GRADIENT = "guided gradient"  # the same with the rectifiers' rule replaced


@dataclass(frozen=True)
class Method:
    """An explanation method. shown: whether people see its maps; the other methods are only scored."""

    description: str
    needs: frozenset[str]
    shown: bool = False


METHODS = {
    "gradcam": Method(
        "class-weighted features of the last layer, upsampled (Selvaraju et al. 2017)",
        frozenset({FEATURES}),
        shown=True,
    ),
    "gradcam_aligned": Method(
        "gradcam with each cell drawn where it looks, not where an even grid puts it", frozenset({FEATURES})
    ),
    "gradcam_fine": Method("gradcam of the stage before the last", frozenset({FINE_FEATURES})),
    "guided_backprop": Method(
        "gradient with only positive evidence passed back through active units (Springenberg et al. 2015)",
        frozenset({GUIDED_GRADIENT}),
        shown=True,
    ),
    "guided_gradcam": Method(
        "guided_backprop times gradcam (Selvaraju et al. 2017)", frozenset({GUIDED_GRADIENT, FEATURES}), shown=True
    ),
    "gradient": Method(
        "magnitude of the gradient (Simonyan et al. 2014), the reference for the guided ones", frozenset({GRADIENT})
    ),
}
SHOWN_METHODS = [name for name, method in METHODS.items() if method.shown]


def needs_of(methods: Iterable[str]) -> frozenset[str]:
    """Return everything that these methods are computed from."""
    return frozenset().union(*(METHODS[name].needs for name in methods))
