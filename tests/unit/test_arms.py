"""Arms of the controlled family: what is measured, what is compared, and whether the intervals hold."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from selfrepair.ablation.arms import measure_arm
from selfrepair.ablation.distributions import ablate_distribution
from selfrepair.ablation.schema_family import ARM_SUMS
from selfrepair.analysis.arms import BASE, PARTS, answer, between_seeds, compare_arms, half_time, multi_bootstrap
from selfrepair.analysis.bootstrap import student
from selfrepair.core.tables import write_table
from selfrepair.models.families import DECODER
from selfrepair.models.load import load_model
from selfrepair.models.train import train_model
from selfrepair.report.arms import family_found, family_macros, keep_arms, sentences, table_of_arms
from selfrepair.report.macros import definitions
from selfrepair.tokens.sample import sample_distributions
from selfrepair.tokens.tokenizer import save_tokenizer, train_bpe
from tests.helpers.study_drawings import evidence_table, family_tables

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "a",
    "dog",
    "lay",
    "on",
    "the",
    "log",
    "by",
    "the",
    "old",
    "red",
    "barn",
]
TRAINING = {
    "architecture": {"model_type": DECODER, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    "steps": 4,
    "batch_rows": 2,
    "row_length": 16,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "weight_decay": 0.1,
    "seed": 3,
    "checkpoints": [1, 4],
}
MEASURED = {"rows": 6, "row_length": 12, "top_fraction": 0.1}
DOCUMENTS, EFFECT = 12, 10.0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path, Path, Path]:
    """Corpus, tokenizer, a training, and what was measured of it."""
    folder = tmp_path_factory.mktemp("arm")
    generator = np.random.default_rng(1)
    texts = [" ".join(generator.choice(WORDS, 40)) for _ in range(24)]
    split = ["train", "held_out"] * 12
    table = {"text": texts, "split": split, "kind": ["prose"] * 24, "name": [str(i) for i in range(24)]}
    pl.DataFrame(table).write_parquet(folder / "corpus.parquet")
    save_tokenizer(train_bpe(texts, 270), folder / "tokenizer")
    train_model(folder / "corpus.parquet", folder / "tokenizer/tokenizer.json", json.dumps(TRAINING), folder / "base-3")
    settings = json.dumps({"arm": BASE, "seed": 3, "training": TRAINING, "measured": MEASURED})
    measure_arm(folder / "base-3", settings, folder / "corpus.parquet", folder / "tokenizer", folder / "out")
    return folder / "corpus.parquet", folder / "tokenizer", folder / "base-3", folder / "out"


def test_sums_are_those_of_all_late_heads_at_each_checkpoint(made) -> None:
    """Otherwise the share would not be the statistic that was written down."""
    corpus, tokenizer, trained, out = made
    sums = pl.read_parquet(out / "sums.parquet")
    assert sums.schema == {name: column.dtype for name, column in ARM_SUMS.items()}
    assert sums.select("step", "weights").unique().sort("step", "weights").rows() == [
        (1, "trained"),
        (4, "shuffled"),
        (4, "trained"),
    ]
    sampled = sample_distributions(corpus, tokenizer, ["text"], 6, 12, 16, 1, split="held_out")["text"]
    model = load_model(trained)
    table = ablate_distribution(model, "text", sampled, model.heads, 0.1)[0].filter(tokens="top")
    for half, layers in (("late", (2, 3)), ("early", (0, 1))):
        of_half = sums.filter(step=4, weights="trained", half=half)
        expected = table.filter(pl.col("layer").is_in(layers))
        for name in ("n", "direct_effect", *PARTS):
            # Checkpoints are kept in float16, the last weights in float32.
            assert of_half[name].sum() == pytest.approx(expected[name].sum(), rel=0.05, abs=0.01), name
    parts = pl.col("repair_norm") + pl.col("repair_attention") + pl.col("repair_mlp")
    assert sums.select((parts - pl.col("self_repair")).abs().max()).item() <= 1e-4


def arm(folder: Path, name: str, seed: int, share: float, losses: dict[int, float], documents: int = DOCUMENTS) -> Path:
    """An arm whose late heads are repaired by `share` after the last step, and by half of it before."""
    rows = [
        (step, weights, half, d, 5, EFFECT, repair, repair, 0.0, 0.0)
        for (step, weights), factor in {(s, "trained"): 1.0 if s == max(losses) else 0.5 for s in losses}.items()
        | {(max(losses), "shuffled"): 0.0}.items()
        for half in ("early", "late")
        for d in range(documents)
        for repair in [EFFECT * share * factor * (half == "late") * (1 + 0.1 * (-1) ** d)]
    ]
    out = folder / f"{name}-{seed}"
    out.mkdir(parents=True)
    columns = dict(zip(ARM_SUMS, map(list, zip(*rows, strict=True)), strict=True))
    pl.DataFrame(columns, {n: c.dtype for n, c in ARM_SUMS.items()}).write_parquet(out / "sums.parquet")
    log = {"step": list(losses), "held_out_loss": list(losses.values())}
    pl.DataFrame(log).write_csv(out / "training.csv")
    facts = {"arm": name, "seed": seed, "parameters": 10, "held_out_loss": losses[max(losses)]}
    (out / "arm.json").write_text(json.dumps(facts))
    return out


def test_an_arm_is_compared_at_the_same_step_and_at_the_same_loss(tmp_path: Path) -> None:
    """An arm that learns faster would otherwise be credited for its loss."""
    base = {10: 5.0, 20: 4.0}
    faster = {10: 4.0, 20: 3.0}
    folders = [arm(tmp_path, "faster", seed, 0.6, faster) for seed in (1, 2, 3)]
    folders += [arm(tmp_path, BASE, seed, 0.4 + 0.001 * seed, base) for seed in (1, 2, 3, 4)]
    found = compare_arms(folders, 0.05, 200, 1)
    assert found.arms["arm"].unique(maintain_order=True).to_list() == [BASE, "faster"]
    repair = found.differences.filter(part="self_repair")
    at_step, at_loss = (repair.filter(matched=by).row(0, named=True) for by in ("steps", "loss"))
    assert at_step["value"] == pytest.approx(0.198) and at_step["answer"] == "raises" and at_step["n_seeds"] == 3
    assert at_loss["value"] == pytest.approx(0.3 - 0.402) and at_loss["answer"] == "lowers"
    assert at_step["loss_gap"] == pytest.approx(1) and at_loss["loss_gap"] == pytest.approx(0)
    nothing = found.differences.filter(part="repair_mlp", matched="steps").row(0, named=True)
    assert nothing["value"] == 0 and nothing["answer"] == "no effect larger than 0.05"
    assert found.arms.filter(arm=BASE, seed=2, part="repair_norm")["value"].item() == pytest.approx(0.402)
    assert found.course.filter(arm=BASE, seed=2, part="self_repair")["value"].to_list() == pytest.approx([0.201, 0.402])


def test_what_is_finished_is_kept_and_the_page_says_what_was_found(tmp_path: Path) -> None:
    run, study, losses = tmp_path / "run", tmp_path / "study", {10: 5.0}
    folders = [arm(run / "arms", name, seed, 0.4, losses) for name in (BASE, "other") for seed in (1, 2, 3)]
    keep_arms(run, study)
    assert sorted(path.name for path in (study / "arms").iterdir()) == sorted(folder.name for folder in folders)
    assert not (study / "README.md").exists()
    compared = compare_arms(folders, 0.05, 200, 1)
    for name in ("arms", "differences", "onset"):
        write_table(getattr(compared, name), run / f"analysis/{name}.parquet")
    write_table(evidence_table(), run / "analysis/evidence.parquet")
    keep_arms(run, study)
    said = (study / "README.md").read_text()
    assert "\n| other | 0.00 [" in said and "| no effect larger than 0.05 | no effect larger than 0.05 |" in said
    assert "| repair | far | top | 0.32 [0.20, 0.40] |" in said


def test_the_papers_numbers_are_those_of_the_tables(tmp_path: Path) -> None:
    folders = [arm(tmp_path, BASE, seed, 0.4, {10: 5.0}) for seed in (1, 2, 3)]
    folders += [arm(tmp_path, "no-final-norm", seed, 0.6, {10: 5.0}) for seed in (1, 2, 3)]
    compared = compare_arms(folders, 0.05, 200, 1)
    macros = family_macros(vars(compared) | {"evidence": evidence_table()})
    assert macros["FamilyTrainings"] == "6" and macros["FamilyPairs"] == "3" and macros["FamilyBound"] == "0.05"
    assert (
        macros["FamilyRaisesAtSteps"].startswith("no-final-norm $0.20$ [$") and macros["FamilyLowersAtLoss"] == "none"
    )
    assert macros["FamilyPartsCompared"] == "3" and macros["FamilyPartsLowered"] == "none"
    assert macros["FamilyNoFinalNormRepairMlp"] == "$0.00$ [$0.00$, $0.00$] (no effect larger than 0.05)"
    assert macros["SaysArtefact"].startswith(
        "Of 3 comparisons of repair by the distance of the stream 3 lie above zero"
    )
    assert macros["SaysAdaptation"].startswith(
        "Of 5 kinds of text and prompts repair saves loss on top tokens in 5 and"
    )
    assert macros["EvidenceLossSavedTextTop"] == "$0.320$ [$0.200$, $0.400$]"
    assert definitions(macros).count("newcommand") == len(macros)
    rows, latex = table_of_arms(compared.differences)
    assert rows is compared.differences and latex.count("no-final-norm") == 2


def test_half_time_is_where_a_course_passes_half_of_its_end_for_good() -> None:
    """Otherwise a passing peak would count as the onset."""
    doublings = np.array([0.0, 1, 2, 3, 4])
    course = np.array([[0.0, 3, 0, 1, 2], [3, 2, 2.5, 2, 2], [0, 0, 0, 0, 2]])
    assert half_time(course, doublings).tolist() == pytest.approx([3, 0, 3.5])
    assert half_time(np.stack([course, -course], -1), doublings)[:, 1].tolist() == pytest.approx([3, 0, 3.5])


def test_repair_that_grows_after_direct_effects_is_said_to(tmp_path: Path) -> None:
    """Direct effects of the made-up arms are there from the start, repair is half there until the end."""
    folders = [arm(tmp_path, BASE, seed, 0.4, {1: 6.0, 2: 5.5, 4: 5.0, 8: 3.0}) for seed in (1, 2, 3)]
    onset = compare_arms(folders, 0.05, 200, 1).onset
    assert onset["quantity"].to_list() == [*PARTS, *PARTS, "held_out_loss"] and set(onset["n_seeds"]) == {3}
    assert set(onset.filter(quantity="repair_mlp")["answer"]) == {"not defined"}, "there is none at any step"
    loss = onset.filter(quantity="held_out_loss").row(0, named=True)
    assert loss["value"] == pytest.approx(2 + 0.25) and loss["answer"] == "after"  # 1.5 of 3 nats, between 1 and 3


def test_two_seeds_are_not_compared(tmp_path: Path) -> None:
    losses = {10: 5.0}
    folders = [arm(tmp_path, name, seed, 0.4, losses) for name in (BASE, "other") for seed in (1, 2)]
    assert compare_arms(folders, 0.05, 200, 1).differences.is_empty()


def test_arms_of_other_documents_are_refused(tmp_path: Path) -> None:
    folders = [arm(tmp_path, BASE, seed, 0.4, {10: 5.0}, DOCUMENTS + seed) for seed in (1, 2)]
    with pytest.raises(ValueError, match="other documents"):
        compare_arms(folders, 0.05, 200, 1)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "raises"),
        (-0.2, -0.06, "lowers"),
        (-0.04, 0.04, "no effect larger than 0.05"),
        (0.01, 0.04, "raises, by less than 0.05"),
        (-0.06, 0.02, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_an_answer_is_what_the_interval_allows(low: float, high: float, said: str) -> None:
    assert answer(low, high, 0.05) == said


@pytest.mark.parametrize("seeds", [3, 4])
@pytest.mark.parametrize(("between", "within"), [(1.0, 0.0), (1.0, 1.0), (0.2, 1.0)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, between: float, within: float) -> None:
    """With seeds and documents drawn anew; few seeds would make a plain bootstrap too narrow."""
    generator = np.random.default_rng(seeds)
    documents, replicates, covered = 20, 200, []
    for trial in range(300):
        of_seeds = generator.normal(0, between, (seeds, 1))
        of_documents = generator.normal(0, within * np.sqrt(documents), (1, documents))
        values = of_seeds + of_documents
        weights = generator.multinomial(documents, np.full(documents, 1 / documents), replicates) / documents
        samples = np.vstack([values.mean(1), weights @ values.T])
        value, half = multi_bootstrap(samples[..., None], replicates, trial)
        covered.append(abs(value[0]) <= half[0])
    assert 0.92 <= np.mean(covered) <= 1.0


def test_the_second_interval_takes_the_variance_of_all_trainings(tmp_path: Path) -> None:
    """Residuals of a plain least-squares fit of arm and seed; the seed that only the base has does not count."""
    generator = np.random.default_rng(2)
    shares = {(name, seed): 0.4 + 0.05 * generator.normal() for name in (BASE, "b", "c") for seed in (1, 2, 3)}
    folders = [arm(tmp_path, *key, share, {10: 5.0}) for key, share in (shares | {(BASE, 4): 0.9}).items()]
    arms, seeds = (np.array([key[i] for key in shares]) for i in (0, 1))
    fit = np.stack([*(arms == name for name in (BASE, "b", "c")), *(seeds == seed for seed in (1, 2))], 1).astype(float)
    values = np.array(list(shares.values()))
    rest = values - fit @ np.linalg.lstsq(fit, values, rcond=None)[0]
    variance = (rest**2).sum() / 4
    found = compare_arms(folders, 0.05, 200, 1).differences.filter(part="self_repair", matched="steps")
    for row in found.to_dicts():
        half = (row["pooled_high"] - row["pooled_low"]) / 2
        assert row["value"] - row["pooled_low"] == pytest.approx(half)
        assert half == pytest.approx(2.776 * np.sqrt(2 * variance / 3), rel=0.03)  # Student's t with four degrees
    at_loss = compare_arms(folders, 0.05, 200, 1).differences.filter(matched="loss")
    assert at_loss["pooled_low"].is_nan().all() and set(at_loss["pooled_answer"]) == {"undecided"}


@pytest.mark.parametrize("n_arms", [2, 6])
def test_the_second_interval_covers_the_truth_if_arms_vary_alike(tmp_path: Path, n_arms: int) -> None:
    generator, covered = np.random.default_rng(n_arms), []
    for _ in range(400):
        shares = generator.normal(size=(n_arms, 3)) + generator.normal(size=3)
        trainings = [
            SimpleNamespace(arm=str(i), seed=seed, shares=np.full((1, 1, 1), shares[i, seed]))
            for i in range(n_arms)
            for seed in range(3)
        ]
        variance, free = between_seeds(trainings)
        half = student(np.array(free)) * np.sqrt(2 * variance[0] / 3)
        covered.append(abs(shares[1].mean() - shares[0].mean()) <= half)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_answers_are_said_in_words() -> None:
    tables = family_tables()
    raising = pl.when(pl.col("arm") == "rotary").then(pl.lit("raises")).otherwise("answer")
    said = family_found(tables["differences"].with_columns(answer=raising), tables["onset"], tables["evidence"])
    assert "as by chance 0.3 of the 6 parts would be" in said
    assert "\n| rotary | **0.02 [-0.03, 0.07]** | **" in said and "| raises | raises | undecided [" in said
    assert "\n| no-final-norm | 0" in said
    assert (
        "self-repair in logits is not told apart in time from direct effects: it has half of its last size 0.5" in said
    )


def test_what_tests_nothing_is_not_counted() -> None:
    """Far rows that do not move the stream, and prompts that the model knows nothing of."""
    evidence = evidence_table()
    no_test = (pl.col("statistic") == "far_minus_near") & (pl.col("of") == "distance")
    guessed = (pl.col("statistic") == "gain_on_guessing") & (pl.col("of") == "induction")
    changed = evidence.with_columns(
        low=pl.when(no_test).then(-0.1).otherwise("low"), value=pl.when(guessed).then(-1.0).otherwise("value")
    )
    said = sentences(changed)
    assert said["Artefact"].startswith("Of 2 comparisons") and "is no test" in said["Artefact"]
    assert said["Adaptation"].startswith("Of 4 kinds") and said["Adaptation"].endswith("induction.")
