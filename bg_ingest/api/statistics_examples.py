"""Examples of the answers of the statistics, for the documentation of the routes."""

from typing import Any

STATISTICS: dict[str, Any] = {
    "user_id": "ada",
    "from": "2016-10-24T00:00:00Z",
    "to": "2016-11-02T00:00:00Z",
    "zone": "own",
    "ranges": "standard",
    "readings": 2148,
    "first": "2016-10-24T11:24:17Z",
    "last": "2016-11-01T09:19:02Z",
    "covered_seconds": 644060,
    "active_percent": 82.83,
    "mean_mg_dl": 111.9,
    "mean_mmol_l": 6.21,
    "sd_mg_dl": 28.8,
    "cv_percent": 25.74,
    "gmi_percent": 5.99,
    "gmi_mmol_mol": 41.94,
    "time_seconds": {
        "very_low": 2400,
        "low": 8100,
        "in_range": 605372,
        "high": 26088,
        "very_high": 2100,
        "in_tight_range": 564295,
    },
    "time_percent": {
        "very_low": 0.37,
        "low": 1.26,
        "in_range": 93.99,
        "high": 4.05,
        "very_high": 0.33,
        "in_tight_range": 87.62,
    },
    "lbgi": 0.91,
    "hbgi": 0.94,
    "lowest": 49,
    "highest": 261,
    "flagged": {"low": 0, "high": 0},
    "change": 217,
    "days": 9.0,
    "sufficient": False,
    "gri": {"value": 7.9, "zone": "A", "hypo": 1.38, "hyper": 2.35},
    "percentiles_mg_dl": {"5": 81, "10": 86, "25": 97, "50": 105, "75": 119, "90": 144, "95": 178},
}
_ENVELOPE = {name: STATISTICS[name] for name in ("user_id", "from", "to", "zone", "ranges")}
_SUMMARY_NAMES = [
    name for name in STATISTICS if name not in {*_ENVELOPE, "days", "sufficient", "gri", "percentiles_mg_dl"}
]
DAILY = {
    **_ENVELOPE,
    "days": [{**{name: STATISTICS[name] for name in _SUMMARY_NAMES}, "date": "2016-10-30", "seconds": 90000}],
}
PROFILE = {
    **_ENVELOPE,
    "bin_minutes": 15,
    "profile": [{"time": "00:00", "readings": 18, "days": 6, "p5": 99, "p25": 103, "p50": 105, "p75": 116, "p95": 127}],
    "change": 217,
}
SERIES = {
    "user_id": "ada",
    "bin_seconds": 3600,
    "t": [1477303200, 1477306800, 1477310400],
    "min": [None, 94, 97],
    "mean": [None, 98.5, 102.92],
    "max": [None, 103, 119],
    "n": [0, 8, 12],
}
