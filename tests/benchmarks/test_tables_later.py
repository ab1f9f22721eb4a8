"""Tables of measures that take long: what they say of results, and that they wait for them."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import cells, jury_tables, tables


def rate(value: float, n: int = 20) -> dict[str, Any]:
    return {"rate": value, "n": n, "ci95": [value / 2, (1 + value) / 2]}


RESULTS: dict[str, Any] = {
    "default/attacked_tracks.json": {
        "attacks": [
            {
                "source": "real",
                "attack": "linf-8@jpeg-90@aimed",
                "n": 20,
                "wrong_at_any_frame": rate(0.2),
                "wrong_at_last_frame": rate(0.1),
                "each_frame_alone": {"wrong_at_any_frame": rate(0.5)},
                "classifier_fooled": {"share_of_frames": 0.8},
            }
        ],
        "benign": {"real": {"n": 71, "wrong_at_any_frame": rate(0), "right_by_the_end": rate(0.97)}},
    },
    "default/decision_only.json": {
        "attacks": [
            {
                "subspace": "shadow",
                "bound": "as drawn",
                "curve": [{"queries": at, **rate(at / 2000)} for at in (10, 300)],
            }
        ]
    },
    "left_out_families.json": {
        "families": {
            name: {"attacks": 2, "mean": worst / 2, "worst": {"attack": "shadow", **rate(worst)}, "with_all": 0.1}
            for name, worst in (("pose", 0.1), ("light", 0.3))
        },
        "rows": [0] * 4,
        "mean": 0.1,
        "with_all": 0.1,
        "benign_withheld": {"light": rate(0.02), "pose": rate(0.01)},
    },
    "own_jury.json": {
        "CIFAR-10": {
            "benign withheld": {
                "confidence": {"0.01": rate(0.01), "0.05": rate(0.05)},
                "confidence and jury": {"0.05": rate(0.06)},
            },
            "attacks": {
                "linf-8": {
                    "classifier fooled": rate(1),
                    "wrong release": {
                        "confidence": {"0.01": rate(0.95), "0.05": rate(0.9)},
                        "confidence and jury": {"0.05": rate(0.1)},
                    },
                }
            },
        }
    },
}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            jury_tables.attacked_tracks,
            ["all frames to one class", "**20.0 %", "50.0 %", "right label by the end: 97.0 %"],
        ),
        (jury_tables.decision_only, ["shadow", "0.5 %", "15.0 %", "1,000 queries"]),
        (jury_tables.left_out_families, ["| light | 2 | 15 % | **30.0 %", "| pose", "| all | 4 | 10 % |"]),
        (jury_tables.own_jury, ["| 90.0 %", "**10.0 %", "5 % / 6 % (5 % asked for)"]),
    ],
)
def test_what_was_measured_stands_in_them(monkeypatch: pytest.MonkeyPatch, make: Any, expected: list[str]) -> None:
    """Each figure where it belongs, the worst first, at a share of false alarms that both systems were set for; all
    rows have as many cells as the head."""
    monkeypatch.setattr(cells, "read", RESULTS.__getitem__)
    text = make()
    head, _, *rows = text.splitlines()
    assert all(row.count("|") == head.count("|") for row in rows)
    places = [text.find(cell) for cell in expected]
    assert min(places) >= 0, (expected, text)
    if make is jury_tables.left_out_families:
        assert places == sorted(places)


def test_a_table_waits_for_its_results() -> None:
    """Until the file is there, the table says that nothing was measured."""
    assert "not yet" in tables._later("nothing.json", lambda: "made")()
    assert tables._later("classifiers.json", lambda: "made")() == "made"
