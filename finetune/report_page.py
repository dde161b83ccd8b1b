"""One self-contained HTML page about a run: the loss curve, the table, and examples won and lost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape

from finetune.evaluating import Case, Evaluation
from finetune.gate import Decision
from finetune.training import Trained
from server.lm.adapter_manifest import Manifest

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f6f6f4; padding: 1rem; overflow-x: auto; } svg { max-width: 100%; height: auto; }
td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; } code { white-space: pre-wrap; }
.right { color: #14691b; } .wrong { color: #a11; }"""


def page(evaluation: Evaluation, trained: Trained, decision: Decision, manifest: Manifest, lines: Sequence[str]) -> str:
    """The page's text."""
    verdict = "Published." if decision.publish else "Not published: " + " ".join(decision.reasons)
    table = "\n".join(lines)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Loracle: {escape(manifest.repository)}</title>
<style>{_STYLE}</style></head><body>
<h1>An adapter for {escape(manifest.repository)}</h1>
<p>{escape(verdict)} Made {escape(manifest.created_at)}; {evaluation.n_files} held-out files chose nothing.</p>
<h2>Before and after</h2><pre>{escape(table)}</pre>
<h2>Training</h2>{curve(trained)}
{_cases("Won: right with the adapter, wrong without", evaluation.won)}
{_cases("Lost: right without the adapter, wrong with it", evaluation.lost)}
</body></html>
"""


def curve(trained: Trained) -> str:
    """The losses as an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = [step for step, _, _ in trained.history]
    axes.plot(steps, [loss for _, loss, _ in trained.history], label="training")
    axes.plot([0, *steps], [trained.first, *(value for _, _, value in trained.history)], label="validation", marker=".")
    axes.axvline(trained.best_step, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("step")
    axes.set_ylabel("nats a token")
    axes.legend()
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _cases(title: str, cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(case.path)}:{case.line}</td><td><code>{escape(case.typed.lstrip())}</code>"
        f'<code class="right">{escape(case.target)}</code></td>'
        f"<td><code>{escape(case.before)}</code></td><td><code>{escape(case.after)}</code></td></tr>"
        for case in cases
    )
    heads = "<tr><th>where</th><th>as it was</th><th>base + index</th><th>adapter + index</th></tr>"
    return f"<h2>{escape(title)}</h2><table>{heads}{rows}</table>"
