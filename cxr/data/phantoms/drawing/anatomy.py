"""The anatomy of a made-up patient."""

from dataclasses import dataclass
from typing import Self

from numpy.random import Generator


@dataclass(frozen=True)
class Anatomy:
    """What the images of one patient share. Lengths are fractions of the image side.

    Attributes:
        torso: Half the width of the trunk.
        lung_width: Half the width of a lung.
        lung_top: Height of the lungs' apex, from the top.
        lung_base: Height of the lungs' base, from the top.
        heart: Size of the heart, 1 on average.
        heart_tilt: How much the heart leans, 0 to 1.
        rib_gap: From one rib to the next.
        rib_start: Height of the first rib, from the top.
        rib_slope: How strongly the ribs bend.
        clavicle: Height of the clavicles, 0 on average; above 0 is lower.
        dome: Rise of the diaphragm.
        stomach_gas: How much darker the gas bubble of the stomach is, 0 without one.
        tissue: Brightness of the soft tissue.
        markings: Seed of the lung vessels.
    """

    torso: float
    lung_width: float
    lung_top: float
    lung_base: float
    heart: float
    heart_tilt: float
    rib_gap: float
    rib_start: float
    rib_slope: float
    clavicle: float
    dome: float
    stomach_gas: float
    tissue: float
    markings: int

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """Return the anatomy of a new patient."""
        # Equal seeds give equal data sets as long as the order of the draws stays.
        return cls(
            torso=rng.uniform(0.39, 0.45),
            lung_width=rng.uniform(0.145, 0.172),
            lung_top=rng.uniform(0.10, 0.16),
            lung_base=rng.uniform(0.80, 0.90),
            heart=rng.uniform(0.88, 1.12),
            heart_tilt=rng.uniform(0.3, 0.8),
            rib_gap=rng.uniform(0.066, 0.082),
            rib_start=rng.uniform(0.10, 0.16),
            rib_slope=rng.uniform(1.7, 2.8),
            clavicle=rng.uniform(-0.03, 0.03),
            dome=rng.uniform(0.07, 0.12),
            stomach_gas=_draw_stomach_gas(rng),
            tissue=rng.uniform(0.46, 0.56),
            markings=int(rng.integers(2**31)),
        )


def _draw_stomach_gas(rng: Generator) -> float:
    """Return how much darker the gas bubble is; half of the patients have none."""
    darkness = rng.uniform(0.05, 0.16)
    stomach_gas: float = rng.choice([0.0, darkness])
    return stomach_gas
