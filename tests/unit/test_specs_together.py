"""What only shows when pipelines, targets and the daemon's pools are looked at together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.cli.main import main
from ctd.daemon.wanted import Wanted
from ctd.specs.load import load_folder

PIPELINE = """\
pipeline: taxi
module: taxi.py
nodes:
  examples: {kind: example_gen, input: '../data/{SPAN}', format: csv, complete: {marker: _SUCCESS}}
  statistics: {kind: statistics_gen}
  schema: {kind: schema_gen}
  trainer: {kind: trainer}
  evaluator: {kind: evaluator, label_key: tip, metrics: {AUC: {}, BinaryAccuracy: {}}}
  pusher: {kind: pusher, targets: [mobile], require: []}
"""
TARGET = "target: mobile\nkind: tflite\npath: ../mobile\nparity:\n  metrics:\n    AUC: 0.01\n"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for folder, file, text in (("specs", "taxi", PIPELINE), ("deploy_targets", "mobile", TARGET)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{file}.yaml").write_text(text)
    (tmp_path / "specs/taxi.py").touch()
    return tmp_path


def edit(folders: Path, file: str, old: str, new: str) -> None:
    path = folders / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def said(folders: Path, *pools: str) -> list[str]:
    loaded = load_folder(folders / "specs", folders / "deploy_targets", pools=pools)
    return [str(p).replace(f"{folders}/", "") for found in loaded.problems.values() for p in found]


def test_what_fits_together_is_not_complained_of(folders: Path) -> None:
    edit(folders, "specs/taxi.yaml", "{kind: trainer}", "{kind: trainer, pool: gpu}")
    edit(folders, "specs/taxi.yaml", "{kind: statistics_gen}", "{kind: statistics_gen, pool: train}")
    edit(folders, "deploy_targets/mobile.yaml", "AUC", "ExampleCount")
    assert said(folders, "gpu") == []


def test_a_pool_that_nobody_declared_is_told_at_its_line_and_stops_nothing(folders: Path) -> None:
    edit(folders, "specs/taxi.yaml", "{kind: trainer}", "{kind: trainer, pool: tarin}")
    (told,) = said(folders)
    assert told == (
        "specs/taxi.yaml:7: warning: nobody declared the pool 'tarin': it limits nothing. Did you mean 'train'? "
        "Pools are beam and train; `ctd run --pool tarin=1` or CTD_POOLS=tarin=1 declares it."
    )
    loaded = load_folder(folders / "specs", folders / "deploy_targets", pools=())
    assert [spec.name for spec in loaded.pipelines.values()] == ["taxi"]


def test_validate_knows_the_pools_that_the_daemon_is_given(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folders, "specs/taxi.yaml", "{kind: trainer}", "{kind: trainer, pool: gpu}")

    def validated(*more: str) -> tuple[int, bool]:
        with pytest.raises(SystemExit) as ended:
            main(["validate", "--json", "--specs", str(folders / "specs"), *more])
        return int(str(ended.value.code)), "nobody declared the pool 'gpu'" in capsys.readouterr().out

    assert validated() == (0, True)
    assert validated("--pool", "gpu=2") == (0, False)
    monkeypatch.setenv("CTD_POOLS", "gpu=1")
    assert validated() == (0, False)
    assert validated(str(folders / "specs/taxi.yaml")) == (0, False)


def test_a_metric_that_there_is_not_is_an_error_of_the_target(folders: Path) -> None:
    edit(folders, "deploy_targets/mobile.yaml", "AUC", "BinaryAcuracy")
    problem, consequence = sorted(said(folders))
    assert problem == (
        "deploy_targets/mobile.yaml:6: there is no metric 'BinaryAcuracy'. Did you mean BinaryAccuracy? Metrics are "
        "named by their class in TFMA or Keras, such as BinaryAccuracy."
    )
    assert "specs/taxi.yaml:9: warning: the file of target 'mobile' has problems" in consequence


def test_a_metric_that_no_evaluator_measures_is_told_at_the_targets_line(folders: Path) -> None:
    edit(folders, "deploy_targets/mobile.yaml", "AUC", "Recall")
    (told,) = said(folders)
    assert told == (
        "deploy_targets/mobile.yaml:6: warning: taxi pushes here, and evaluator does not measure Recall: its pushes "
        "would fail. Measured are AUC, BinaryAccuracy and ExampleCount. Add Recall to `metrics:` of evaluator in "
        "taxi.yaml, without limits if need be."
    )


def test_metrics_that_no_conversion_can_be_held_to_are_errors_of_the_target(folders: Path) -> None:
    edit(
        folders,
        "deploy_targets/mobile.yaml",
        "    AUC: 0.01",
        "    SymmetricFlipRate: 0.1\n    Rouge: 0.1\n    NDCG: 1",
    )
    flips, rouge, ranks = sorted(line for line in said(folders) if line.startswith("deploy_targets"))
    assert "mobile.yaml:6: SymmetricFlipRate compares models, and is no metric of one. The gate compares" in flips
    assert "mobile.yaml:7: metrics.Rouge can have no limit: Rouge is three numbers. Take it out." in rouge
    assert "mobile.yaml:8: NDCG cannot be measured: it is of groups of examples" in ranks


def test_metrics_by_names_of_the_users_own_are_looked_for_in_the_pipelines(folders: Path) -> None:
    edit(folders, "deploy_targets/mobile.yaml", "AUC", "best_five")
    assert "evaluator does not measure best_five: its pushes would fail" in said(folders)[0]
    edit(folders, "specs/taxi.yaml", "AUC: {}", "best_five: {metric: Precision, config: {top_k: 5}}")
    assert said(folders) == []
    edit(folders, "specs/taxi.yaml", "top_k: 5", "thresholds: [0.1, 0.5]")
    assert "evaluator does not measure best_five as one number of one model: its" in said(folders)[0]
    edit(folders, "specs/taxi.yaml", "Precision, config: {thresholds: [0.1, 0.5]}", "SymmetricFlipRate")
    assert "evaluator does not measure best_five as one number of one model: its" in said(folders)[0]


def test_of_several_evaluators_the_one_that_the_pusher_names_counts(folders: Path) -> None:
    other = "  other: {kind: evaluator, label_key: tip, metrics: {Recall: {}}}\n"
    (folders / "specs/taxi.yaml").write_text(PIPELINE + other)
    edit(folders, "specs/taxi.yaml", "require: []", "require: [], inputs: {evaluation: other}")
    (told,) = said(folders)
    assert "taxi pushes here, and other does not measure AUC" in told
    edit(folders, "specs/taxi.yaml", "evaluation: other", "evaluation: evaluator.evaluation")
    assert said(folders) == []


def test_a_pipeline_without_evaluator_is_told_and_one_that_pushes_elsewhere_is_not(folders: Path) -> None:
    edit(folders, "specs/taxi.yaml", "  evaluator: {kind: evaluator, label_key: tip,", "  # {")
    (told,) = said(folders)
    assert "taxi pushes here, and has no evaluator that could measure AUC" in told
    assert "Add an evaluator to taxi.yaml, or take the metric out." in told
    (folders / "deploy_targets/other.yaml").write_text("target: other\nkind: hub\npath: ../other\n")
    edit(folders, "specs/taxi.yaml", "[mobile]", "[other]")
    assert said(folders) == []


def second(folders: Path, name: str = "tips") -> Path:
    file = folders / f"specs/{name}.yaml"
    file.write_text(PIPELINE.replace("pipeline: taxi", f"pipeline: {name}"))
    return file


def test_of_two_pipelines_on_one_path_the_second_is_refused_at_its_line_and_the_first_goes_on(folders: Path) -> None:
    second(folders, "tips")
    (told,) = said(folders)
    assert told == (
        f"specs/tips.yaml:9: tips would push to {folders}/mobile, where taxi pushes: each would take the other's place "
        "again and again. Write {pipeline} into `path:` of mobile.yaml: each then has a folder of its own."
    ).replace(f"{folders}/", "")
    loaded = load_folder(folders / "specs", folders / "deploy_targets")
    assert [spec.name for spec in loaded.pipelines.values()] == ["taxi"]
    assert [target.target for target in loaded.targets.values()] == ["mobile"]
    edit(folders, "deploy_targets/mobile.yaml", "../mobile", "../mobile/{pipeline}")
    assert said(folders) == []


def test_one_path_that_two_targets_spell_differently_is_one_path(folders: Path) -> None:
    second(folders, "tips")
    (folders / "deploy_targets/other.yaml").write_text("target: other\nkind: hub\npath: ../x/../mobile\n")
    edit(folders, "specs/tips.yaml", "[mobile]", "[other]")
    refused, consequence = sorted(said(folders))
    assert refused == (
        "deploy_targets/other.yaml:3: it is the path of target 'mobile' as well. Give each target a folder of its own."
    )
    assert consequence.startswith("specs/tips.yaml:9: warning: the file of target 'other' has problems")


def test_the_name_of_a_pipeline_in_a_path_does_not_hide_that_it_is_one(folders: Path) -> None:
    second(folders, "tips")
    edit(folders, "deploy_targets/mobile.yaml", "../mobile", "../mobile/{pipeline}")
    (folders / "deploy_targets/other.yaml").write_text("target: other\nkind: hub\npath: ../mobile/taxi\n")
    edit(folders, "specs/tips.yaml", "[mobile]", "[other]")
    (told,) = said(folders)
    assert told.startswith("specs/tips.yaml:9: tips would push to mobile/taxi, where taxi pushes as target 'mobile'.")
    edit(folders, "specs/tips.yaml", "[other]", "[mobile]")
    edit(folders, "specs/taxi.yaml", "[mobile]", "[mobile, other]")
    (told,) = said(folders)
    assert told.startswith("specs/taxi.yaml:9: taxi would push to mobile/taxi, where taxi pushes as target 'mobile'.")


def test_while_the_daemon_runs_the_pipeline_that_pushes_there_already_is_the_first(folders: Path) -> None:
    wanted = Wanted(folders / "specs", folders / "deploy_targets")
    wanted.reload()
    newcomer = second(folders, "aaa")
    wanted.reload()
    assert (list(wanted.pipelines), list(wanted.problems)) == (["taxi"], [str(newcomer)])
    edit(folders, "specs/taxi.yaml", "kind: trainer", "kind: trayner")  # its last good version goes on, and pushes
    wanted.reload()
    assert list(wanted.pipelines) == ["taxi"]
    edit(folders, "specs/taxi.yaml", "kind: trayner", "kind: trainer")
    edit(folders, "deploy_targets/mobile.yaml", "../mobile", "../mobile/{pipeline}")
    wanted.reload()
    assert (sorted(wanted.pipelines), wanted.problems) == (["aaa", "taxi"], {})


def test_an_edit_of_a_target_that_would_put_two_pipelines_on_one_path_is_refused_there(folders: Path) -> None:
    second(folders, "tips")
    edit(folders, "deploy_targets/mobile.yaml", "../mobile", "../mobile/{pipeline}")
    wanted = Wanted(folders / "specs", folders / "deploy_targets")
    wanted.reload()
    edit(folders, "deploy_targets/mobile.yaml", "/{pipeline}", "")
    wanted.reload()
    (told,) = (str(p) for found in wanted.problems.values() for p in found)
    assert "deploy_targets/mobile.yaml:3: tips would push to" in told
    assert sorted(wanted.pipelines) == ["taxi", "tips"]
    assert wanted.targets["mobile"].base_path("tips") == str(folders / "mobile/tips")


def test_a_target_that_takes_the_path_of_one_in_force_is_refused_whatever_its_file_is_called(folders: Path) -> None:
    wanted = Wanted(folders / "specs", folders / "deploy_targets")
    wanted.reload()
    (folders / "deploy_targets/aaa.yaml").write_text("target: aaa\nkind: hub\npath: ../mobile\n")
    wanted.reload()
    assert (list(wanted.targets), [Path(file).name for file in wanted.problems]) == (["mobile"], ["aaa.yaml"])
