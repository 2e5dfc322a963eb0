"""The comparison as a LaTeX table, for papers: it needs the package booktabs and UTF-8."""

from __future__ import annotations

from l2s_nmt.evaluation.score import LABELS
from l2s_nmt.evaluation.texts import decoding_text, verdict
from l2s_nmt.evaluation.types import Comparison, MetricResult, SystemResult
from l2s_nmt.plain_text import visible

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # behind a line's end it would open an argument
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def render_latex(comparison: Comparison) -> str:
    """Return the main table, with what it needs to be understood in its caption."""
    names = [
        LABELS[name] + (r" $\downarrow$" if name == "ter" else r" $\uparrow$") for name in comparison.metrics
    ]
    lines = [
        "% \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * (len(names) + 1) + "}",
        r"\toprule",
        " & ".join(["System", *names, "Length ratio"]) + r" \\",
        r"\midrule",
        *(_row(comparison, system) for system in comparison.systems),
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{" + _caption(comparison) + "}",
        r"\label{tab:comparison}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Write foreign text so that LaTeX sets it as it is."""
    return "".join(_ESCAPED.get(character, character) for character in visible(text))


def _row(comparison: Comparison, system: SystemResult) -> str:
    cells = [_cell(name, system.metrics[name]) for name in comparison.metrics]
    return " & ".join([escape_latex(system.name), *cells, f"{system.length_ratio:.3f}"]) + r" \\"


def _cell(metric: str, result: MetricResult) -> str:
    deviation = "" if result.deviation is None else rf" $\pm$ {result.deviation:.2f}"
    marks = {"better": r"$^{\dagger}$", "worse": r"$^{\ddagger}$"}
    return f"{result.score:.2f}{deviation}{marks.get(verdict(metric, result), '')}"


def _caption(comparison: Comparison) -> str:
    of = f" ({escape_latex(', '.join(comparison.splits))})" if comparison.splits else ""
    counts = [len(system.runs) for system in comparison.systems]
    parts = [f"{comparison.sentences:,} sentences{of}."]
    if decoding := decoding_text(comparison):
        parts.append(f"Decoded with {escape_latex(decoding)}.")
    if max(counts) > 1:
        parts.append(
            rf"Means over seeds $\pm$ standard deviation ({', '.join(map(str, counts))} seeds from top to bottom)."
        )
    if len(counts) > 1:
        parts.append(
            rf"$\dagger$ better, $\ddagger$ worse than {escape_latex(comparison.baseline.name)}, $p < 0.05$ "
            f"({_tests(comparison)})."
        )
    signatures = [f"{LABELS[name]} {escape_latex(text)}" for name, text in comparison.signatures.items()]
    return " ".join([*parts, f"Signatures: {'; '.join(signatures)}."])


def _tests(comparison: Comparison) -> str:
    """Those by which the systems were compared with the first."""
    over_seeds = {system.bleu.over_seeds for system in comparison.systems[1:]}
    tests = {True: "two-level bootstrap and $t$ test", False: "approximate randomisation"}
    if len(over_seeds) == 1:
        return tests[over_seeds.pop()]
    return f"{tests[True]}; of systems with one seed {tests[False]}"
