"""Figures of glucose statistics: times in ranges, means, variability and risk of a histogram.

The formulas and their sources are in docs/statistics.md.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from bg_ingest.domain.histogram import Histogram
from bg_ingest.domain.readings import MG_DL_PER_MMOL_L

MAX_VALUE = 1_000
"""Upper end of the highest range in mg/dL, above all stored values."""

RANGES: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "standard": {
            "very_low": (0, 53),
            "low": (54, 69),
            "in_range": (70, 180),
            "high": (181, 250),
            "very_high": (251, MAX_VALUE),
            "in_tight_range": (70, 140),
        },
        "pregnancy": {
            "very_low": (0, 53),
            "low": (54, 62),
            "in_range": (63, 140),
            "high": (141, MAX_VALUE),
        },
    }
)
"""First and last value of each range in mg/dL: Battelino 2023, 10.1016/S2213-8587(22)00319-9, and Battelino 2019,
10.2337/dci19-0028, for pregnancy."""

PERCENTILES = (5, 10, 25, 50, 75, 90, 95)

SUFFICIENT_DAYS, SUFFICIENT_ACTIVE_PERCENT = 14, 70
"""Span and coverage from which the figures of a window are representative: Danne 2017, 10.2337/dc17-1600."""

_GRI_ZONES = ((20, "A"), (40, "B"), (60, "C"), (80, "D"), (100, "E"))


class Gri(msgspec.Struct, frozen=True):
    """Glycemia risk index: Klonoff 2022, 10.1177/19322968221085273."""

    value: float
    zone: str
    hypo: float
    hyper: float


class Figures(msgspec.Struct, frozen=True):
    """Figures of a histogram, rounded to two decimals. Without readings, all but ``time_seconds`` are None."""

    mean_mg_dl: float | None
    mean_mmol_l: float | None
    sd_mg_dl: float | None
    cv_percent: float | None
    gmi_percent: float | None
    gmi_mmol_mol: float | None
    time_seconds: dict[str, int]
    time_percent: dict[str, float] | None
    gri: Gri | None
    lbgi: float | None
    hbgi: float | None
    percentiles_mg_dl: dict[str, int] | None
    lowest: int | None
    highest: int | None


def compute_figures(histogram: Histogram, ranges: str) -> Figures:
    """Return the figures of a histogram; ``ranges`` is a name in ``RANGES``."""
    mean, deviation, risks = histogram.mean(), histogram.standard_deviation(), histogram.risks()
    seconds = {name: histogram.weight_between(*bounds) for name, bounds in RANGES[ranges].items()}
    weight = histogram.weight
    percents = {name: 100 * share / weight for name, share in seconds.items()} if weight else None
    mmol = None if mean is None else mean / MG_DL_PER_MMOL_L
    return Figures(
        mean_mg_dl=_round_figure(mean),
        mean_mmol_l=_round_figure(mmol),
        sd_mg_dl=_round_figure(deviation),
        cv_percent=_round_figure(None if deviation is None or mean is None else 100 * deviation / mean),
        gmi_percent=_round_figure(
            None if mean is None else 3.31 + 0.02392 * mean
        ),  # Bergenstal 2018, 10.2337/dc18-1581
        gmi_mmol_mol=_round_figure(None if mmol is None else 12.71 + 4.70587 * mmol),
        time_seconds=seconds,
        time_percent={name: round(percent, 2) for name, percent in percents.items()} if percents else None,
        gri=_compute_gri(percents) if percents and ranges == "standard" else None,
        lbgi=_round_figure(risks[0] if risks else None),
        hbgi=_round_figure(risks[1] if risks else None),
        percentiles_mg_dl={str(key): value for key, value in histogram.percentiles(PERCENTILES).items()} or None,
        lowest=histogram.lowest,
        highest=histogram.highest,
    )


def _compute_gri(percents: Mapping[str, float]) -> Gri:
    hypo = percents["very_low"] + 0.8 * percents["low"]
    hyper = percents["very_high"] + 0.5 * percents["high"]
    value = min(3.0 * hypo + 1.6 * hyper, 100.0)
    zone = next(name for bound, name in _GRI_ZONES if value <= bound)
    return Gri(round(value, 2), zone, round(hypo, 2), round(hyper, 2))


def _round_figure(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
