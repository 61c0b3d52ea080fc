"""Reports of measurements as Markdown and JSON."""

import math
from collections.abc import Mapping, Sequence

import torch
from tabulate import tabulate

from metaprompt_d2.utils.errors import InputError

from .measure import Measurement
from .sweep import curves

__all__ = ["markdown", "rows"]

_GIB = 2**30


def rows(
    results: Sequence[Measurement], ceilings: Mapping[torch.dtype, float], images: int
) -> list:
    """Make a dict of plain numbers per variant; the seconds are None if it didn't fit.

    Args:
        results: Measurements. The first variant that ran is the reference of the outputs, and the
            first that isn't exact of the times.
        ceilings: FLOP/s of a matrix product by type.
        images: Images per call.

    Raises:
        InputError: No variant ran.
    """
    ran = [result for result in results if result.times]
    baseline = next((result for result in ran if not result.variant.exact), None)
    if baseline is None:
        raise InputError("no variant fits into the GPU's memory: choose a smaller --size")
    flops = max(result.flops for result in results)
    return [
        _row(result, ran[0], baseline.median, flops / ceilings[result.variant.computes_in], images)
        if result.times
        else {"variant": result.variant.name, "seconds": None}
        for result in results
    ]


def _row(
    result: Measurement,
    reference: Measurement,
    reference_seconds: float,
    least_seconds: float,
    images: int,
) -> dict:
    return {
        "variant": result.variant.name,
        "seconds": result.median,
        "fastest": min(result.times),
        "slowest": max(result.times),
        "calls": len(result.times),
        "speedup": reference_seconds / result.median,
        "images_per_second": images / result.median,
        "memory_gib": None if result.memory is None else result.memory / _GIB,
        "utilization": least_seconds / result.median,
        **result.difference(reference),
    }


def markdown(report: Mapping) -> str:
    """Write a page with all measurements."""
    machine = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    parts = [f"# {report['config']} {' '.join(map(str, report['opts']))}".rstrip(), machine]
    for name in ("inference", "training"):
        if name in report:
            parts += _comparison(name, report[name])
    if "sweep" in report:
        parts += ["## Sweep", "Seconds per image:", _sweep_table(report["sweep"])]
    if "data" in report:
        parts += ["## Data", _data_text(report)]
    return "\n\n".join(parts) + "\n"


def _comparison(name: str, section: Mapping) -> list[str]:
    height, width = section["size"]
    limits = ", ".join(f"{k} {v:.4g}" for k, v in section["ceilings_tflops"].items())
    head = (
        f"{section['batch_size']} image(s) of {height}x{width}: {section['tflop']:.4g} TFLOP. "
        f"Matrix products reach {limits} TFLOP/s."
    )
    texts = [f"## {name.capitalize()}", head, _variants_table(section["variants"])]
    if section.get("parts"):
        texts += ["Seconds by part:", _parts_table(section["parts"])]
    return texts


def _variants_table(measured: Sequence[Mapping]) -> str:
    ran = [row for row in measured if row["seconds"] is not None]
    baselines = [row for row in ran if row["variant"] in ("plain", "official-gpu")]
    headers = (
        "variant",
        "median s",
        "range",
        *(f"times {base['variant']}" for base in baselines),
        "images/s",
        "peak GiB",
        "utilization %",
        "RMS diff. % of std",
        "max diff. % of std",
        "max diff.",
    )
    too_large = ("out of memory", *[""] * (len(headers) - 2))
    body = [
        (row["variant"], *(_cells(row, baselines) if row in ran else too_large)) for row in measured
    ]
    return _table(body, headers)


def _cells(row: Mapping, baselines: Sequence[Mapping]) -> tuple[str, ...]:
    return (
        f"{row['seconds']:.4g}",
        f"{row['fastest']:.4g} - {row['slowest']:.4g}",
        *(f"{base['seconds'] / row['seconds']:.2f}" for base in baselines),
        f"{row['images_per_second']:.4g}",
        "?" if row["memory_gib"] is None else f"{row['memory_gib']:.2f}",
        f"{100 * row['utilization']:.0f}",
        f"{100 * row['rms_by_std']:.2g}",
        f"{100 * row['max_by_std']:.2g}",
        f"{row['max']:.2g}",
    )


def _parts_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(columns.values())))
    body = [(name, *(f"{column[name]:.4g}" for column in columns.values())) for name in names]
    return _table(body, ("part", *columns))


def _sweep_table(sweep: Mapping[str, Sequence[Mapping]]) -> str:
    names = list(sweep["pixels"][0]["seconds"])
    body: list[tuple[str, ...]] = []
    for axis, points in sweep.items():
        body += [
            (
                axis,
                "x".join(map(str, point["size"])),
                *(str(point[key]) for key in ("steps", "images", "prompts")),
                *(_seconds(point["seconds"][name]) for name in names),
            )
            for point in points
        ]
        body.append((f"{axis}: fit", *[""] * 4, *map(str, curves(axis, points).values())))
    return _table(body, ("varied", "size", "steps", "images", "prompts", *names))


def _seconds(value: float | None) -> str:
    return "out of memory" if value is None else f"{value:.4g}"


def _data_text(report: Mapping) -> str:
    data = report["data"]
    text = (
        f"The training loader gives {data['images_per_second']:.4g} images/s with "
        f"{data['workers']} workers; a core's time is worth "
        f"{data['images_per_core_second']:.4g} images/s."
    )
    trained = report.get("training", {}).get("variants", ())
    for row in [row for row in trained if row["seconds"] is not None][-1:]:
        factor = data["images_per_second"] / row["images_per_second"]
        text += (
            f" Training ({row['variant']}) consumes {row['images_per_second']:.4g}: the loader is "
            f"{factor:.3g} times as fast. "
            f"{math.ceil(row['images_per_second'] / data['images_per_core_second'])} core(s) of "
            "workers keep up with it."
        )
    return text


def _table(body: Sequence[Sequence], headers: Sequence[str]) -> str:
    return tabulate(body, headers, tablefmt="github", disable_numparse=True)
