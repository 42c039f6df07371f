"""Documentation that is made from the code, so that the two can't disagree."""

from pathlib import Path

from selfrepair.ablation.chosen_heads import CHOSEN_HEADS
from selfrepair.ablation.schema import (
    ADDITIONS,
    ANSWERS,
    CLEAN_TOKENS,
    DISTRIBUTION_SUMS,
    HELD,
    LENS,
    LOSS_TOKENS,
    MOVES,
    NORM_CHECK,
    PARTNERS,
    SELECTED,
    ablated_tokens,
    document_sums,
    hand_off,
    hand_off_elsewhere,
)
from selfrepair.ablation.schema_family import ARM_SUMS, DISPLACED, LOSS_SUMS
from selfrepair.ablation.schema_neurons import NEURON_RANKS, NEURON_TOKENS, NEURONS
from selfrepair.analysis import overview
from selfrepair.analysis.schema import (
    ITERATIVE_SUMMARY,
    MOVING,
    NOISE,
    NORM,
    NORM_HISTOGRAM,
    REFERENCE_AGREEMENT,
    REFERENCE_HEADS,
    REPRESSION,
    RESPONDERS,
    SIMULATED,
    STATISTICS,
)
from selfrepair.analysis.schema_beyond import (
    ACCURACY,
    ATTRIBUTION,
    BY_THRESHOLD,
    DISTRIBUTION_HEADS,
    FINDINGS,
    HAND_OFF,
    KNOWN_ANSWER,
    LOSS,
    PAIRS,
    SPARSITY,
    UNITS,
)
from selfrepair.analysis.schema_family import ARM_COURSE, ARM_DIFFERENCES, ARM_ONSET, ARMS, EVIDENCE
from selfrepair.analysis.schema_neurons import (
    ERASURE_NEURONS,
    NEURON_CUMULATIVE,
    NEURON_FREQUENCY,
    NEURON_HISTOGRAMS,
    NEURON_SHARES,
    NEURON_SPARSITY,
)
from selfrepair.claims import published
from selfrepair.claims.schema import HEAD_STATISTICS, NEURON_STATISTICS
from selfrepair.claims.verdicts import MODEL_VERDICT, VERDICT
from selfrepair.core.tables import Column
from selfrepair.report import claims_table, findings, norm_table, tables
from selfrepair.report.costs import COSTS
from selfrepair.report.explorer.data import EXPLORER
from selfrepair.tokens.schema import DOCUMENTS, ROWS, TOKENS

INTRODUCTION = """\
# What a run leaves behind

`results/<run>/` holds everything of one run; `<run>` is the key `run` of its configuration. This page is written by
`workflow/scripts/document_results.py` from the schemas of the stages, `src/selfrepair/*/schema.py`.

| path | what |
|---|---|
| `tokens/<model>/` | rows of tokens, where they come from, and which row replaces which |
| `models/<model>/folded/` | the model in its canonical form: a file for each layer, and the rest |
| `models/<model>/model.json` | its size, SHA-256 of its weights and folded files, largest error against Hugging Face |
| `trained/<model>/` | with `retrain: true`: the model trained anew, its log and settings |
| `trained/<model>.state/` | state of a training in progress, from which it resumes: weights, optimiser, log and step |
| `ablation/<model>/clean/` | the clean pass: each head's top tokens; `means.safetensors` holds mean z of each head |
| `ablation/<model>/lens.parquet` | the tokens whose logits each head raises and lowers most, on its top tokens |
| `ablation/<model>/<ablation>/` | token rows and document sums of each shard |
| `analysis/<model>/<ablation>/` | statistics per head and layer, and who responds; CSV copies with 6 decimals |
| `analysis/<model>-as-published/` | with `as_published: true`: the same in the authors' units for Llama (below) |
| `analysis/reference/` | with `reference`: heads beside published ones; statistics of the latter |
| `ablation/<model>/units/` | the same of units: attention and MLP of every layer, and entries of `ablation.units` |
| `ablation/<model>/held.parquet` | heads ablated while the later head that repairs them most is held, or ablated too |
| `analysis/<model>/layers/` | self-repair of attention layers, MLP layers and heads; the study's findings |
| `analysis/<model>/hand-off/` | which later heads respond to which ablated head; the study's findings |
| `analysis/<model>/<ablation>/norm*` | the final norm: its scale, its part by three accountings, a check |
| `ablation/<model>/partners.parquet` | chosen heads ablated with several resample partners, in some rows |
| `ablation/<model>/distributions/` | all heads on several kinds of text and of generated prompts |
| `analysis/<model>/distributions/` | the same compared; `findings.*` are the statistics of `config/studies.yaml` |
| `analysis/<model>/noise.*` | rates of overcorrection; variance of self-repair by documents, tokens, partners |
| `ablation/<model>/losses.parquet` | loss, entropy and divergence on single tokens, clean, ablated and without repair |
| `analysis/<model>/loss/` | how much loss self-repair saves, per head and for groups; the study's findings |
| `ablation/<model>/estimates.parquet` | every head ablated in some rows, beside its gradient estimate: sums by rank |
| `analysis/<model>/threshold/` | self-repair against which tokens count; the study's findings |
| `analysis/<model>/attribution/` | gradient estimates beside exact changes of the logit; the study's findings |
| `ablation/<model>/neurons/` | single neurons while chosen heads are ablated: per token, summed, and by rank |
| `analysis/<model>/neurons/` | their sparsity, shares, frequency and erasure; CSV copies with 6 decimals |
| `analysis/<model>/chosen_heads.csv` | heads that single-head experiments look at, and why |
| `analysis/models.csv` | one row per model: size, losses (nats per token), tokens, heads above 1 logit |
| `figures/` | every figure as Vega-Lite JSON, PDF, SVG, PNG and self-contained HTML |
| `tables/` | every table as LaTeX and CSV |
| `analysis/<model>/explorer.json` | what the explorer shows of a model |
| `report/report.html` | report with claims, figures and costs, self-contained |
| `report/explorer.html` | every head to look at: statistics, who repairs it, tokens in context; self-contained |
| `report/claims.json` | every claim: verdict, measured value, interval, the paper's value |
| `report/run.json` | configuration, seeds, versions, machine |
| `report/costs.csv` | what the jobs of each rule took |
| `ro-crate-metadata.json` | record of the run, made last: SHA-256 of every file and input (`docs/artifact.md`) |
| `paper/` | `source.zip`, ready to compile, and `paper.pdf` where a TeX engine was found |
| `logs/`, `benchmarks/` | of every job |
| `results/studies/<name>/` | of the run `name`, what is small enough to be kept with the code (`docs/artifact.md`) |

Logits are centred: at every position their mean over the vocabulary is zero. `direct effect`, `scale` and `self-repair`
are defined in `src/selfrepair/ablation/sweep.py`. A direct effect is always taken with the clean scale of the final
norm.

`self_repair = delta_logit - (ablated_direct_effect - direct_effect) = repair_norm + repair_attention + repair_mlp` on
every token; a run stops where that fails by more than 1e-4 of the row's largest logit.

`<model>-as-published` is a model with RMSNorm measured a second time as the paper's authors measured Llama: changes of
logits are right, but direct effects and their changes lack the final norm's gain and scale, so they are not in logits,
and `repair_norm` is what the other parts leave over.
"""
MODEL_FACTS = {
    "name": "name of the model",
    "family": "its Hugging Face model_type",
    "n_layers": "number of layers",
    "n_heads": "attention heads per layer",
    "d_model": "width of the residual stream",
    "d_mlp": "neurons per layer",
    "d_vocab": "size of the vocabulary",
    "parallel": overview.MODELS["parallel"].meaning,
    "parameters": "number of parameters",
    "weights_sha256": "SHA-256 of each file of weights",
    "load_error": overview.MODELS["load_error"].meaning,
    "folded_sha256": "SHA-256 of each file of the folded model",
}
RUN_RECORD = {
    "config": "the whole configuration of the run, with seeds",
    "version": "of this package",
    "commit": "commit of the code; null outside a Git checkout",
    "date": "when that commit was made; outside a Git checkout the day of the record",
    "modified": "whether tracked files differ from the commit; null outside a Git checkout",
    "python": "version of Python",
    "snakemake": "version of Snakemake",
    "machine": "of what wrote the record: system, architecture, processor, number of cores, memory in MB",
    "devices": "devices that the models ran on",
    "precisions": "number formats of their matrix products",
    "jobs": "device, number format and version of torch of each measuring job",
    "fetched": "hub id, commit and SHA-256 of every file of each model and corpus that was fetched",
    "packages": "version of every installed package",
}
FILES = {
    "models/<model>/model.json": MODEL_FACTS,
    "analysis/<model>/explorer.json": EXPLORER,
    "report/run.json": RUN_RECORD,
    "report/claims.json": {
        "claims": "a list, an entry per claim of config/claims.yaml with the keys below",
        "recognised": "by model: paper_name and by (commit, weights or shape) where it is the paper's; else null",
        "expected_by_chance": "how many counted claims a model like its null would hold on average, at most",
    },
    "report/claims.json: claims": VERDICT,
    "report/claims.json: models of a claim": MODEL_VERDICT,
}


FAMILY = {  # of the run of a controlled family, and of what is kept of it
    "arms/<arm>-<seed>/sums.parquet": ARM_SUMS,
    "arms/base-<seed>/displaced.parquet": DISPLACED,
    "arms/base-<seed>/losses.parquet": LOSS_SUMS,
    "analysis/arms.parquet": ARMS,
    "analysis/course.parquet": ARM_COURSE,
    "analysis/onset.parquet": ARM_ONSET,
    "analysis/differences.parquet": ARM_DIFFERENCES,
    "analysis/evidence.parquet": EVIDENCE,
}


def parquet_tables(n_layers: int, n_heads: int) -> dict[str, dict[str, Column]]:
    """Schema of every result table, by its path within a run's folder."""
    return {
        "tokens/<model>/tokens.parquet": TOKENS,
        "tokens/<model>/rows.parquet": ROWS,
        "tokens/<model>/documents.parquet": DOCUMENTS,
        "ablation/<model>/clean/tokens.parquet": CLEAN_TOKENS,
        "ablation/<model>/clean/candidates.parquet": SELECTED,
        "ablation/<model>/clean/selected.parquet": SELECTED,
        "ablation/<model>/lens.parquet": LENS,
        "ablation/<model>/<ablation>/tokens-<shard>.parquet": ablated_tokens(n_layers),
        "ablation/<model>/<ablation>/sums-<shard>.parquet": document_sums(n_layers),
        "ablation/<model>/clean/units.parquet": SELECTED,
        "ablation/<model>/<ablation>/hand_off-<shard>.parquet": hand_off(n_layers, n_heads),
        "ablation/<model>/held.parquet": HELD,
        "analysis/<model>/layers/units.parquet": UNITS,
        "analysis/<model>/hand-off/hand_off.parquet": HAND_OFF,
        "analysis/<model>/hand-off/sparsity.parquet": SPARSITY,
        "analysis/<model>/hand-off/pairs.parquet": PAIRS,
        "ablation/<model>/neurons/tokens.parquet": NEURON_TOKENS,
        "ablation/<model>/neurons/neurons.parquet": NEURONS,
        "ablation/<model>/neurons/ranks.parquet": NEURON_RANKS,
        "analysis/<model>/neurons/sparsity.parquet": NEURON_SPARSITY,
        "analysis/<model>/neurons/histograms.parquet": NEURON_HISTOGRAMS,
        "analysis/<model>/neurons/shares.parquet": NEURON_SHARES,
        "analysis/<model>/neurons/cumulative.parquet": NEURON_CUMULATIVE,
        "analysis/<model>/neurons/frequency.parquet": NEURON_FREQUENCY,
        "analysis/<model>/neurons/erasure.parquet": ERASURE_NEURONS,
        "analysis/<model>/<ablation>/heads.parquet": STATISTICS,
        "analysis/<model>/<ablation>/layers.parquet": STATISTICS,
        "analysis/<model>/<ablation>/responders.parquet": RESPONDERS,
        "analysis/<model>/resample/head_statistics.parquet": HEAD_STATISTICS,
        "analysis/<model>/neurons/statistics.parquet": NEURON_STATISTICS,
        "ablation/<model>/iterative/moves.parquet": MOVES,
        "ablation/<model>/iterative/additions.parquet": ADDITIONS,
        "analysis/<model>/iterative/moving.parquet": MOVING,
        "analysis/<model>/iterative/simulated.parquet": SIMULATED,
        "analysis/<model>/iterative/repression.parquet": REPRESSION,
        "analysis/<model>/iterative/iterative_summary.csv": ITERATIVE_SUMMARY,
        "analysis/<model>/<ablation>/norm.parquet": NORM,
        "analysis/<model>/<ablation>/norm_histogram.parquet": NORM_HISTOGRAM,
        "analysis/<model>/<ablation>/norm_check.parquet": NORM_CHECK,
        "ablation/<model>/partners.parquet": PARTNERS,
        "analysis/<model>/noise.parquet": NOISE,
        "ablation/<model>/losses.parquet": LOSS_TOKENS,
        "analysis/<model>/loss/losses.parquet": LOSS,
        "ablation/<model>/distributions/sums.parquet": DISTRIBUTION_SUMS,
        "ablation/<model>/distributions/answers.parquet": ANSWERS,
        "ablation/<model>/distributions/hand_off.parquet": hand_off_elsewhere(n_layers, n_heads),
        "analysis/<model>/distributions/heads.parquet": DISTRIBUTION_HEADS,
        "analysis/<model>/distributions/accuracy.parquet": ACCURACY,
        "analysis/<model>/distributions/findings.parquet": FINDINGS,
        "analysis/<model>/threshold/thresholds.parquet": BY_THRESHOLD,
        "analysis/<model>/attribution/heads.parquet": ATTRIBUTION,
        "analysis/<model>/<study>/findings.parquet": FINDINGS,
        "analysis/reference/heads.parquet": REFERENCE_HEADS,
        "analysis/reference/agreement.parquet": REFERENCE_AGREEMENT,
    }


def results_readme() -> str:
    """Text of results/README.md."""
    parts = [INTRODUCTION]
    csv = {
        "analysis/models.csv": overview.MODELS,
        "analysis/<model>/chosen_heads.csv": CHOSEN_HEADS,
        "analysis/reference/models.csv": published.MODELS,
        "analysis/reference/published.csv": published.PUBLISHED,
        "tables/models.csv": overview.MODELS,
        "tables/layers.csv": tables.LAYERS,
        "tables/heads.csv": tables.HEADS,
        "tables/erasure_neurons.csv": ERASURE_NEURONS,
        "tables/norm.csv": norm_table.NORM_TABLE,
        "tables/claims.csv": claims_table.CLAIMS,
        "tables/findings.csv": findings.FOUND,
        "tables/features.csv": ARM_DIFFERENCES,
        "tables/claims_of_studies.csv": claims_table.CLAIMS,
        "report/costs.csv": COSTS,
        "analysis/known-answer/known_answer.csv": KNOWN_ANSWER,
        "tables/published_norm_share.csv": published.PUBLISHED_NORM_SHARE,
    }
    for path, schema in (parquet_tables(n_layers=0, n_heads=0) | csv | FAMILY).items():
        parts.append(f"\n## `{path}`\n\n| column | type | unit | meaning |\n|---|---|---|---|\n")
        parts += [f"| `{name}` | {_type(c)} | {c.unit} | {c.meaning} |\n" for name, c in schema.items()]
    for path, keys in FILES.items():
        file, _, part = path.partition(": ")
        parts.append(f"\n## `{file}`{part and f', {part}'}\n\n| key | meaning |\n|---|---|\n")
        parts += [f"| `{key}` | {meaning} |\n" for key, meaning in keys.items()]
    return "".join(parts)


def write_results_readme(output: Path = Path("results/README.md")) -> None:
    """Write results/README.md: every file of a run, and every column of its tables with type, unit and meaning.

    Args:
        output: file to write.
    """
    output.write_text(results_readme())


def _type(column: Column) -> str:
    name = str(column.dtype)
    if name.startswith("Array"):
        return f"array of {column.dtype.size}" if column.dtype.size else "array, one number per layer or head"
    return name
