from pathlib import Path

import pytest

from affectus.cli.main import main
from affectus.corpus import Corpus, save_corpus
from affectus.errors import AffectusError
from affectus.evaluation import PROTOCOLS
from affectus.labels import emotions_scheme, sentiment_scheme
from affectus.metrics import METRICS
from affectus.models import MODELS
from affectus.objectives import available_tasks
from affectus.studies.published import experiment_path, experiments, load_experiment, reported
from affectus.training import load_run

AKHTAR = "akhtar2019_mtmm_es_mosei"
KNOWN = {*METRICS, *(rule for name in PROTOCOLS for rule in PROTOCOLS[name].intensity)}
COUNTS = {"videos", "utterances", "emotion_labels", "positive", "negative"}


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_resolves(name: str) -> None:
    experiment = load_experiment(name)
    options, settings = experiment.settings
    assert set(options) == set(MODELS[experiment.model].options)
    assert all(getattr(settings, key) == value for key, value in experiment.training.items())
    schemes = {scheme.name: scheme for scheme in (sentiment_scheme(), emotions_scheme())}
    assert set(experiment.tasks) <= set(available_tasks(schemes))
    assert name.split("_")[0].endswith(str(experiment.paper.year))
    assert f"_{experiment.model}_" in name
    for rows in experiment.results.tables.values():
        seen = [tuple(sorted(row.row.items())) for row in rows]
        assert len(set(seen)) == len(seen), "two rows that nothing tells apart"
        for row in rows:
            assert row.figures
            assert all(figure in COUNTS or figure.rsplit(".", 1)[-1] in KNOWN for figure in row.figures)
            in_unit = [value for figure, value in row.figures.items() if figure not in COUNTS]
            assert all(0 <= value <= (100 if experiment.results.unit == "percent" else 1) for value in in_unit)


def test_a_figure_comes_as_a_share_with_its_doubt() -> None:
    results = load_experiment(AKHTAR).results
    joint = {"system": "mtmm_es", "learning": "multi"}
    assert results.figure("7", joint, "emotions.weighted_accuracy") == (pytest.approx(0.628), None)
    found = results.figure("4", {"modalities": "TAV", "learning": "single"}, "emotions.weighted_f1")
    assert found is not None
    assert found[0] == pytest.approx(0.777)
    assert "seven classes" in str(found[1])
    majority = results.figure("7", {"system": "majority", "learning": "single"}, "emotions.fear.weighted_f1")
    assert majority is not None
    assert "Not in the paper" in str(majority[1])
    assert results.figure("7", joint, "polarity.accuracy") is None  # not at hand, so not there
    assert results.count("2", {"split": "test"}, "videos") == (679, None)


# acc2 and MAE of MMSA's table of CH-SIMS; its table of CH-SIMS v2 has others
SIMS = {
    **{"ef_lstm": (0.6937, 0.5907), "lf_dnn": (0.7702, 0.4463), "tfn": (0.7838, 0.4322), "lmf": (0.7777, 0.4412)},
    **{"mfn": (0.779, 0.4349), "graph_mfn": (0.7877, 0.445), "mult": (0.7856, 0.4532), "self_mm": (0.8004, 0.425)},
    **{"mlf_dnn": (0.8044, 0.3958), "mtfn": (0.8109, 0.3954), "mlmf": (0.7934, 0.4091)},
}


@pytest.mark.parametrize("model", SIMS)
def test_figures_of_ch_sims_are_not_those_of_its_second_version(model: str) -> None:
    (found,) = [one for one in reported(model, "sims") if one.own and one.table.lower() == "mmsa"]
    assert (found.figures["intensity.acc2"], found.figures["intensity.mae"]) == SIMS[model]


@pytest.mark.parametrize("model", ["self_mm", "mmim", "misa"])
def test_a_figure_that_two_experiments_hold_is_reported_once(model: str) -> None:
    found = reported(model)
    for data, table in (("mosi", "3"), ("mosei", "4"), ("sims", "5")):
        here = [one for one in found if one.data == data and "Cai et al. 2025" in f"{one.paper} {one.table}"]
        assert [(one.paper, one.table) for one in here] == [("Cai et al. 2025", table)]


def test_a_name_is_an_experiment_and_a_path_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiment_path(AKHTAR).name == f"{AKHTAR}.yaml"
    assert experiment_path("some/file") == Path("some/file")
    assert experiment_path("file.yaml") == Path("file.yaml")
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("model: linear")
    assert experiment_path("mine") == Path("mine")
    with pytest.raises(
        AffectusError, match=rf"Unknown packaged experiment 'akhtar2019_mtmmes_mosei'.*Did you mean '{AKHTAR}'"
    ):
        experiment_path("akhtar2019_mtmmes_mosei")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("model: mtmm_es", "model: mtmm_se"), "Unknown model 'mtmm_se'.*Did you mean 'mtmm_es'"),
        (("hidden: 200", "hiden: 200"), "Unknown option 'hiden'.*Did you mean 'hidden'"),
        (("epochs: 50", "epoch: 50"), "Unknown training setting 'epoch'.*Did you mean 'epochs'"),
        (("venue: NAACL-HLT", "place: NAACL-HLT"), r"'paper\.venue'"),
        (("chosen_on: test", "chosen_by: test"), r"'results\.chosen_on'"),
        (("unit: percent", "unit: points"), r"'results\.unit' has a wrong value.*'points'.*percent"),
        (("uncertain: {all:", "uncertain: {everything:"), "a doubt about 'everything', which is no figure of the row"),
        (("seeds: 5", "sedes: 5"), "'sedes' has a wrong value.*Did you mean 'seeds'"),
    ],
)
def test_a_wrong_experiment_is_one_sentence(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    text = experiments()[AKHTAR].read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(AffectusError, match=sentence):
        load_experiment(path)


@pytest.mark.parametrize(
    ("text", "sentence"), [("- a list", "not a mapping"), ("a: [", "Not a YAML file"), (None, "no experiment file")]
)
def test_no_experiment_at_all_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "wrong.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AffectusError, match=sentence):
        load_experiment(path)


def test_train_takes_an_experiment_by_name(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_corpus(corpus, tmp_path / "corpus")
    out = tmp_path / "run"
    train = ["train", str(tmp_path / "corpus"), "--out", str(out), "-q", "--seeds", "1"]
    small = ["--modalities", "text,audio", "--set", "epochs=1", "--set", "hidden=8"]
    assert main([*train, *small, "--config", AKHTAR]) == 0
    config = load_run(out).config
    # what is given goes over what the file says, the number of seeds too
    assert (config.model, config.tasks, config.seeds) == ("mtmm_es", ("polarity", "emotions"), (0,))
    assert (config.options["dense"], config.options["hidden"], config.training.batch_size) == (100, 8, 16)
    capsys.readouterr()
    assert main([*train, "--config", "akhtar2019_mtmm_es_mosi"]) == 2
    assert f"Did you mean '{AKHTAR}'" in capsys.readouterr().err
