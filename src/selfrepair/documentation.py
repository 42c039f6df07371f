"""Documentation that is made from the code, so that the two can't disagree."""

from selfrepair import store

INTRODUCTION = """\
# What a run leaves behind

`results/<run>/` holds everything of one run; `<run>` is the key `run` of its configuration. This page is written by
`workflow/scripts/document_results.py` from the schemas in `src/selfrepair/store.py`.

| path | what |
|---|---|
| `tokens/<model>/` | rows of tokens, where they come from, and which row replaces which |
| `models/<model>/folded.safetensors` | the model in its canonical form |
| `models/<model>/model.json` | its size, the SHA-256 of its weights, its largest error against Hugging Face |
| `trained/<model>/` | with `retrain: true`: the model trained anew, its log and settings |
| `ablation/<model>/clean/` | the clean pass: each head's top tokens; `means.safetensors` holds mean z of each head |
| `ablation/<model>/<ablation>/` | token rows and document sums of each shard |
| `analysis/<model>/<ablation>/` | statistics per head and layer, and who responds; CSV copies with 6 decimals |
| `analysis/models.csv` | one row per model: size, losses (nats per token), tokens, heads above 1 logit |
| `figures/` | every figure as Vega-Lite JSON, PDF, SVG, PNG and self-contained HTML |
| `tables/` | every table as LaTeX and CSV |
| `report/report.html` | report with claims, figures and costs, self-contained |
| `report/claims.json` | every claim: verdict, measured value, interval, the paper's value |
| `report/run.json` | configuration, seeds, versions, machine |
| `paper/` | `source.zip`, ready to compile, and `paper.pdf` where a TeX engine was found |
| `logs/`, `benchmarks/` | of every job |

Logits are centred: at every position their mean over the vocabulary is zero. `direct effect`, `scale` and `self-repair`
are defined in `src/selfrepair/sweep.py`. A direct effect is always taken with the clean scale of the final norm.

`self_repair = delta_logit - (ablated_direct_effect - direct_effect) = repair_norm + repair_attention + repair_mlp` on
every token; a run stops where that fails by more than 1e-4 of the row's largest logit.
"""


def results_readme() -> str:
    """Text of results/README.md."""
    parts = [INTRODUCTION]
    for path, schema in store.tables(n_layers=0).items():
        parts.append(f"\n## `{path}`\n\n| column | type | unit | meaning |\n|---|---|---|---|\n")
        parts += [f"| `{name}` | {_type(c)} | {c.unit} | {c.meaning} |\n" for name, c in schema.items()]
    return "".join(parts)


def _type(column: store.Column) -> str:
    name = str(column.dtype)
    return "array, one number per layer" if name.startswith("Array") else name
