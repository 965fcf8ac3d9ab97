"""The command line without a daemon: help, errors, exit codes, and the shapes that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ctd.api.models import PlanView, StatusView, ValidationView
from ctd.cli.main import COMMANDS, main

IMPORTER = "pipeline: {name}\nnodes:\n  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}\n"
HEAVY = {"pydantic", "rich", "yaml", "tensorflow", "ml_metadata", "starlette"}


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Cli:
    """Runs commands in this process, in a project folder."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out, err)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").out)

    def pipeline(self, name: str, text: str = IMPORTER) -> Path:
        path = self.root / "specs" / f"{name}.yaml"
        path.write_text(text.format(name=name))
        return path


@pytest.fixture
def ctd(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "schema.pbtxt").write_text('feature { name: "fare" }\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return Cli(tmp_path, capsys)


def tree(root: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime for p in root.rglob("*")}


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["statsu"]])
def test_help_and_misspelt_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["ctd", *{arguments!r}]
from ctd.cli.main import main
try:
    main()
finally:
    print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}} & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_help_names_every_command_in_its_group_and_the_exit_codes(ctd: Cli) -> None:
    said = ctd("--help")
    assert said.code == 0
    for title, section in COMMANDS.items():
        assert f"\n{title}:\n" in said.out
        for name in section:
            assert f"\n  {name} " in said.out
    assert "75 another daemon" in said.out


@pytest.mark.parametrize("name", [n for section in COMMANDS.values() for n in section if n != "serve"])
def test_every_command_has_help_that_begins_with_its_usage(ctd: Cli, name: str) -> None:
    said = ctd(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: ctd {name}")


def test_serve_shows_the_flags_of_the_server_without_tensorflow() -> None:
    code = "import sys; sys.argv = ['ctd', 'serve', '--help']; from ctd.cli.main import main; main()"
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert "--model_base_path" in done.stdout
    assert "ctd.serving.flags" in done.stderr, "it is the server's own help"
    assert "tensorflow" not in done.stderr


def test_a_wrong_flag_of_the_server_is_refused_with_2() -> None:
    code = "import sys; sys.argv = ['ctd', 'serve', '--no_such_flag']; from ctd.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no_such_flag" in done.stderr


def test_a_misspelt_command_is_answered_with_the_one_meant(ctd: Cli) -> None:
    assert ctd("pln") == Said(2, "", "ctd: there is no command 'pln'. Did you mean 'plan'?\n     See `ctd --help`.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["explain", "taxy"], "Did you mean 'taxi'?", id="pipeline"),
        pytest.param(["plan", "taxy"], "Did you mean 'taxi'?", id="pipeline of a plan"),
        pytest.param(["status", "taxy"], "Did you mean 'taxi'?", id="pipeline of a status"),
        pytest.param(["explain", "taxi", "shema"], "Did you mean 'schema'?", id="node"),
        pytest.param(["logs", "taxi", "schema"], "has not run yet", id="node without executions"),
        pytest.param(["logs", "12"], "there is no execution 12", id="execution"),
        pytest.param(["logs", "taxi"], "name a pipeline and a node", id="no node"),
        pytest.param(["explain", "taxi", "--execution", "12"], "there is no execution 12", id="execution to explain"),
        pytest.param(["run", "--specs", "nowhere"], "there is no folder", id="folder"),
        pytest.param(["run", "--parallel", "none"], "--parallel=none", id="number"),
        pytest.param(["validate", "nowhere.yaml"], "does not exist", id="file"),
        pytest.param(["validate", "schema.pbtxt"], "does not end in .yaml", id="other file"),
        pytest.param(["accept", "taxi", "3"], "needs a reason", id="accept without reason"),
        pytest.param(["run-now", "taxi", "--again"], "--again is for one NODE", id="again of everything"),
        pytest.param(["backfill", "taxi"], "name the first and the last span", id="no range"),
        pytest.param(["backfill", "taxi", "3", "4.v2"], "'4.v2' is no span but a version", id="no span"),
        pytest.param(["backfill", "taxi", "2026-03-02", "2026-03-01"], "swap them", id="backwards"),
        pytest.param(["backfill", "taxi", "1", "2", "--stop"], "--stop takes only", id="stop of a range"),
        pytest.param(["backfill", "taxi", "1", "2", "--dry-run"], "taxi reads no spans", id="no spans"),
        pytest.param(["backfill", "taxi", "1", "2", "--node", "shema", "--dry-run"], "'schema'?", id="node of a range"),
        pytest.param(["retry", "taxi"], "name a pipeline and a node", id="retry of everything"),
        pytest.param(["cancel", "-1"], "No such option", id="no execution"),
        pytest.param(["pause", "taxi", "--reason", "a\x1b[31m"], "cannot be shown", id="terminal codes"),
        pytest.param(["pause", "taxi", "--reason", "x" * 3000], "at most 2000 characters", id="novel"),
        pytest.param(["status", "--watch"], "--watch is for terminals", id="watch in a pipe"),
        pytest.param(["schema", "pipelines"], "'pipelines' is not one of", id="choice"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(ctd: Cli, arguments: list[str], said: str) -> None:
    ctd.pipeline("taxi")
    answer = ctd(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("ctd: ")
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["accept", "taxi", "2024-03-01", "--reason", "known"], ["approve", "taxi", "schema"],
        ["reject", "taxi", "schema"], ["pause", "taxi"], ["pause", "taxi", "schema"], ["resume", "taxi"],
        ["run-now", "taxi"], ["run-now", "taxi", "schema", "--again"], ["retry", "taxi", "schema"], ["retry", "12"],
        ["cancel", "12"], ["backfill", "taxi", "1", "2"], ["backfill", "taxi", "--stop"],
    ],
)  # fmt: skip
def test_without_a_daemon_nobody_takes_requests(ctd: Cli, arguments: list[str]) -> None:
    ctd.pipeline("taxi")
    answer = ctd(*arguments)
    assert (answer.code, answer.out) == (1, "")
    assert "no daemon works on" in answer.err
    assert "`ctd run`" in answer.err
    assert json.loads(ctd(*arguments, "--json").err)["exit"] == 1
    assert not (ctd.root / "state").exists()


def test_errors_of_json_commands_are_json_on_stderr(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    answer = ctd("explain", "taxy", "--json")
    assert answer.out == ""
    assert json.loads(answer.err) == {
        "error": "there is no pipeline 'taxy'",
        "hint": "Did you mean 'taxi'? Pipelines: taxi.",
        "exit": 2,
    }


def test_what_users_write_cannot_drive_the_terminal(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    evil = "a\x1b[31m\rb\x9b"
    answer = ctd("explain", evil)
    assert "\\x1b[31m\\rb\\x9b" in answer.err
    assert all(c.isprintable() or c == "\n" for c in answer.err)


def test_a_plan_without_a_state_directory_is_that_of_an_empty_world_and_leaves_no_trace(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    before = tree(ctd.root)
    plan = ctd.json("plan")
    assert plan["pipeline"] == "taxi"
    assert [(d["node"], d["key"], d["action"], d["because"]) for d in plan["decisions"]] == [
        ("schema", "", "run", "first run")
    ]
    PlanView.model_validate(plan, strict=True)
    assert tree(ctd.root) == before


def test_a_backfill_can_be_rehearsed_without_a_daemon(ctd: Cli) -> None:
    node = "{{kind: example_gen, input: '../data/{{YYYY}}-{{MM}}-{{DD}}', start: 2026-03-05}}"
    ctd.pipeline("taxi", f"pipeline: taxi\nnodes: {{{{examples: {node}, statistics: {{{{kind: statistics_gen}}}}}}}}\n")
    for day in range(1, 6):
        folder = ctd.root / f"data/2026-03-0{day}"
        folder.mkdir(parents=True)
        (folder / "trips.csv").write_text("fare\n1.5\n")
        (folder / "_SUCCESS").touch()
    before = tree(ctd.root)
    said = ctd("backfill", "taxi", "2026-03-01", "2026-03-04", "--dry-run", "--order", "oldest")
    head, *rows = said.out.splitlines()
    assert head == "taxi 2026-03-01..2026-03-04, 4 spans, oldest first: 8 would run"
    assert [row.split("  ")[1].strip() for row in rows] == [
        "examples span-2026-03-01 to span-2026-03-04 (4)", "statistics span-2026-03-01 to span-2026-03-04 (4)",
    ]  # fmt: skip
    view = ctd.json("backfill", "taxi", "2026-03-03", "2026-03-04", "--dry-run")
    assert [e["key"] for e in view["forecast"]] == ["span-2026-03-04", "span-2026-03-03"] * 2
    assert tree(ctd.root) == before
    plan = ctd("plan").out
    assert "4 spans before 2026-03-05 are not read (start); `ctd backfill taxi 2026-03-01 2026-03-04` reads" in plan


def test_a_draft_that_would_be_refused_is_refused_at_its_lines(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    draft = ctd.root / "draft.yaml"
    draft.write_text(
        "pipeline: taxi\nnodes:\n  examples: {kind: example_gen, input: '../data/{SPAN}'}\n"
        "  schema: {kind: schema_gen}\n  statistics: {kind: statistics_gen}\n"
        "  trainer: {kind: trainer, module: m.py, when: schedule, schedule: {cron: 'at dawn'}}\n"
        "  pusher: {kind: pusher, targets: [nowhere], require: []}\n"
    )
    said = ctd("plan", "--spec", "draft.yaml")
    assert (said.code, said.out) == (2, "")
    assert "draft.yaml:6: schedule 'at dawn'" in said.err
    assert "draft.yaml:7: there is no target 'nowhere'" in said.err
    assert json.loads(ctd("plan", "--spec", "draft.yaml", "--json").err)["exit"] == 2
    draft.write_text("pipeline: taxi\nnodes: {schema: {kind: importer, artifact: Schema, path: schema.pbtxt}}\n")
    said = ctd("plan", "clicks", "--spec", "draft.yaml")
    assert (said.code, "declares the pipeline 'taxi', not 'clicks'" in said.err) == (2, True)


def test_a_forecast_says_what_would_not_run_and_why(ctd: Cli) -> None:
    ctd.pipeline("taxi", IMPORTER + "  validator: {{kind: example_validator}}\n  statistics: {{kind: statistics_gen}}\n"
        "  examples: {{kind: example_gen, input: '../data/{{SPAN}}'}}\n")  # fmt: skip
    (ctd.root / "schema.pbtxt").unlink()
    (ctd.root / "data/3").mkdir(parents=True)
    (ctd.root / "data/3/trips.csv").touch()
    said = ctd("plan", "--forecast")
    assert said.out.splitlines()[0] == "taxi: nothing would run, 1 waiting, 1 blocked"
    assert "schema.pbtxt does not exist" in said.out
    assert "span-3" in said.out
    view = ctd.json("plan", "--with-span", "3")
    assert [e["node"] for e in view["forecast"]] == ["examples"]
    held = [(d["node"], d["action"]) for d in view["held"]]
    assert held == [("schema", "blocked"), ("statistics", "wait"), ("validator", "wait")]
    assert {"pipeline", "decisions", "forecast", "seconds"} <= view.keys()


def test_a_supposition_that_would_change_nothing_is_wrong_usage(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    said = ctd("plan", "--with-span", "3")
    assert (said.code, said.out) == (2, "")
    assert "taxi reads no spans" in said.err
    assert ctd("plan", "--with-span", "3.vx").code == 2
    assert "--with-span" in ctd("plan", "--input", "examples").err


def test_plans_of_several_pipelines_are_a_list_and_a_named_one_is_not(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    ctd.pipeline("clicks")
    assert [p["pipeline"] for p in ctd.json("plan")["pipelines"]] == ["clicks", "taxi"]
    assert ctd.json("plan", "taxi")["pipeline"] == "taxi"
    assert ctd.json("plan", "taxi")["decisions"]


def test_large_spans_are_read_to_the_end_before_a_plan_is_shown(ctd: Cli) -> None:
    ctd.pipeline("taxi", "pipeline: taxi\nnodes: {{examples: {{kind: example_gen, input: '../data/{{SPAN}}'}}}}\n")
    (ctd.root / "data/1").mkdir(parents=True)
    (ctd.root / "data/1/trips.csv").write_bytes(b"fare\n" + b"1.5\n" * (5 << 18))
    spec = ctd.root / "specs/taxi.yaml"
    spec.write_text(spec.read_text().replace("'../data/{SPAN}'", "'../data/{SPAN}', complete: {marker: DONE}"))
    (ctd.root / "data/1/DONE").touch()
    (decision,) = ctd.json("plan")["decisions"]
    assert (decision["action"], decision["key"]) == ("run", "span-1")


def test_a_status_without_a_daemon_says_so(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    said = ctd("status")
    assert said.code == 0, "there is work to do, and a daemon would do it"
    assert "No daemon works on" in said.out
    assert "queued" in said.out
    status = StatusView.model_validate(ctd.json("status"), strict=True)
    assert status.daemon is None
    assert [(n.node, n.state, n.because) for n in status.pipelines[0].nodes] == [("schema", "queued", "first run")]


def test_the_exit_code_of_a_status_says_what_is_missing_or_invalid(ctd: Cli) -> None:
    spec = ctd.pipeline(
        "taxi", "pipeline: taxi\nnodes: {{examples: {{kind: example_gen, input: '../data/{{SPAN}}'}}}}\n"
    )
    assert ctd("status").code == 3, "waits for data"
    spec.write_text("pipeline: taxi\nnodes: {}\n")
    assert ctd("status").code == 2
    assert "taxi.yaml:2" in ctd("status").out


def test_validate_says_what_it_checked(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "deploy_targets/serving.yaml").write_text("target: serving\nkind: tf_serving\npath: ../serving\n")
    assert ctd("validate") == Said(0, "1 pipeline and 1 target in order (taxi, serving).\n", "")
    view = ValidationView.model_validate(ctd.json("validate"), strict=True)
    assert (view.pipelines, view.targets, view.problems) == (["taxi"], ["serving"], [])


def test_validate_names_every_problem_with_file_line_column_and_hint(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    ctd.pipeline("bad", "pipeline: bad\nnodes:\n  a: {{kind: importr}}\n  b: {{kind: statistics_gen, atempts: 2}}\n")
    said = ctd("validate")
    assert said.code == 2
    assert "bad.yaml:3:7: error:" in said.out
    assert "bad.yaml:4:" in said.out
    assert "Did you mean 'importer'?" in said.out
    assert "Did you mean 'attempts'?" in said.out
    assert "nodes.a lacks the key 'artifact'" in said.out, "an importer was meant"
    assert "b needs Examples as `examples`, and no node makes one" in said.out
    assert said.out.endswith("1 pipeline and 0 targets in order (taxi); 5 errors.\n")
    problems = ctd.json("validate")["problems"]
    assert [set(p) for p in problems] == [{"file", "line", "column", "message", "hint", "warning"}] * 5


def test_validate_checks_single_files_with_the_targets_beside_them(ctd: Cli) -> None:
    pusher = "  push: {{kind: pusher, targets: [servng], require: []}}\n"
    model = "  model: {{kind: importer, artifact: Model, path: ../model}}\n"
    good = ctd.pipeline("good")
    bad = ctd.pipeline("bad", f"pipeline: bad\nnodes:\n{model}{pusher}")
    target = ctd.root / "deploy_targets/serving.yaml"
    target.write_text("target: serving\nkind: tf_serving\npath: ../serving\n")
    assert ctd("validate", str(good)).code == 0
    assert ctd("validate", str(target)).code == 0
    said = ctd("validate", str(bad))
    assert said.code == 2
    assert "there is no target 'servng'" in said.out
    assert ctd("validate", str(good), str(bad)).code == 2


DRAFT = (
    "pipeline: {name}\nnodes:\n  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}\n"
    "  pusher: {{kind: pusher, targets: [serving], require: []}}\n"
    "  model: {{kind: importer, artifact: Model, path: ../model}}\n"
)
SERVING = "target: serving\nkind: tf_serving\npath: ../serving\n"


@pytest.mark.parametrize("place", ["draft.yaml", "drafts/of/mine/draft.yaml", "specs/taxi.yaml"])
def test_validate_and_plan_read_a_file_in_the_same_way_wherever_it_lies(ctd: Cli, place: str) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "model").mkdir()
    (ctd.root / "model/saved_model.pb").touch()
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    draft = ctd.root / place
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(DRAFT.format(name="taxi"))
    assert ctd("validate", place) == Said(0, "1 pipeline and 0 targets in order (taxi).\n", "")
    plan = ctd.json("plan", "--spec", place)
    assert {d["node"]: d["action"] for d in plan["decisions"]} == {"schema": "run", "model": "run", "pusher": "wait"}
    (ctd.root / "schema.pbtxt").unlink()
    assert f"{ctd.root}/schema.pbtxt does not exist" in ctd("validate", place).out
    assert f"{ctd.root}/schema.pbtxt" in ctd("plan", "--spec", place).out


def test_a_draft_from_elsewhere_is_checked_against_the_folders_that_are_named(
    ctd: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "model").mkdir()
    draft = tmp_path_factory.mktemp("away") / "draft.yaml"
    draft.write_text(DRAFT.format(name="taxi"))
    said = ctd("validate", str(draft))
    assert "there is no target 'serving'" in said.out
    assert "does not exist" not in said.out, "paths are those of specs/"
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    assert ctd("validate", str(draft)).code == 0


def test_a_draft_takes_the_place_of_the_file_that_it_is_a_draft_of(ctd: Cli) -> None:
    ctd.pipeline("taxi", DRAFT)
    (ctd.root / "model").mkdir()
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    (ctd.root / "draft.yaml").write_text(DRAFT.format(name="taxi"))
    assert ctd("validate", "draft.yaml").code == 0, "it pushes to where its own older version pushes"
    (ctd.root / "draft.yaml").write_text(DRAFT.format(name="other"))
    assert "other would push to" in ctd("validate", "draft.yaml").out


def test_a_target_may_be_a_draft_too(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    (ctd.root / "target.yaml").write_text(SERVING.replace("serving\nkind", "second\nkind"))
    assert "it is the path of target 'serving' as well" in ctd("validate", "target.yaml").out
    (ctd.root / "target.yaml").write_text(SERVING + "keep: 3\n")
    assert ctd("validate", "target.yaml") == Said(0, "0 pipelines and 1 target in order (serving).\n", "")


def test_a_file_of_another_project_is_looked_at_there(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    other = ctd.root / "projects/clicks"
    for folder in ("specs", "deploy_targets", "model"):
        (other / folder).mkdir(parents=True)
    (other / "schema.pbtxt").touch()
    (other / "deploy_targets/serving.yaml").write_text(SERVING)
    (other / "specs/clicks.yaml").write_text(DRAFT.format(name="clicks"))
    assert ctd("validate", "projects/clicks/specs/clicks.yaml").code == 0
    assert ctd("validate", "projects/clicks/deploy_targets/serving.yaml").code == 0
    said = ctd("validate", "--specs", "specs", "projects/clicks/specs/clicks.yaml")
    assert "there is no target 'serving'" in said.out, "it was asked for by name"


def test_without_a_folder_of_specs_the_files_own_is_it(ctd: Cli) -> None:
    (ctd.root / "specs").rmdir()
    mine = ctd.root / "pipelines"
    mine.mkdir()
    (ctd.root / "model").mkdir()
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    (mine / "taxi.yaml").write_text(DRAFT.format(name="taxi"))
    assert ctd("validate", "pipelines/taxi.yaml").code == 0
    assert ctd.json("plan", "--spec", "pipelines/taxi.yaml")["pipeline"] == "taxi"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["taxi"], 1, "nothing of taxi was pushed to serving yet", id="nothing served"),
        pytest.param(["taxi", "--target", "servng"], 2, "taxi pushes to no target 'servng'", id="no such target"),
        pytest.param(["taxy"], 2, "there is no pipeline 'taxy'", id="no such pipeline"),
        pytest.param(["taxi", "--row", "{price: 1}"], 2, "--row is no JSON", id="no JSON"),
        pytest.param(["taxi", "--row", "[1]"], 2, "--row is to be an object of columns", id="no object"),
        pytest.param(["taxi", "--row", '{"price": NaN}'], 2, "NaN is no JSON number", id="no number"),
        pytest.param(["files"], 1, "pushes to no target that a model server serves: mobile (tflite)", id="only files"),
    ],
)
def test_a_request_that_cannot_be_made_is_told_why(ctd: Cli, arguments: list[str], code: int, message: str) -> None:
    ctd.pipeline("taxi", DRAFT)
    ctd.pipeline("files", DRAFT.replace("serving", "mobile"))
    (ctd.root / "deploy_targets/serving.yaml").write_text(SERVING)
    (ctd.root / "deploy_targets/mobile.yaml").write_text("target: mobile\nkind: tflite\npath: ../mobile\n")
    said = ctd("request", *arguments)
    assert (said.code, said.out) == (code, "")
    assert message in said.err


def test_a_warning_does_not_make_a_spec_invalid(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "schema.pbtxt").unlink()
    said = ctd("validate")
    assert said.code == 0
    assert "warning: " in said.out


def test_schemas_are_printed_for_editors(ctd: Cli) -> None:
    assert json.loads(ctd("schema").out)["title"] == "ctd pipeline"
    assert json.loads(ctd("schema", "target").out)["title"] == "ctd target"


def test_a_store_that_is_not_one_ends_with_a_message(ctd: Cli) -> None:
    ctd.pipeline("taxi")
    (ctd.root / "state").mkdir()
    (ctd.root / "state/metadata.sqlite").write_text("not a database")
    said = ctd("plan")
    assert said.code == 1
    assert said.err.startswith("ctd: ")
    assert "metadata.sqlite" in said.err
    said = ctd("status")
    assert (said.code, said.err) == (1, "")
    assert said.out.startswith("TROUBLE: ")
    assert "metadata.sqlite" in said.out
    assert "No pipelines" not in said.out, "that is not known"


def test_variables_say_what_flags_do_not(ctd: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ctd.pipeline("taxi")
    monkeypatch.setenv("CTD_SPECS", str(ctd.root / "elsewhere"))
    (ctd.root / "elsewhere").mkdir()
    assert ctd.json("status")["pipelines"] == []
    assert len(ctd.json("status", "--specs", "specs")["pipelines"]) == 1


@pytest.mark.parametrize(
    ("pattern", "arguments", "said"),
    [
        ("{SPAN}", ["plan", "--with-span", "2026-03-01"], "2026-03-01 is a day, but these spans have numbers ({SPAN})"),
        ("{SPAN}", ["backfill", "taxi", "2026-03-01", "2026-03-02", "--dry-run"], "is a day, but these spans have"),
        ("{SPAN}", ["lineage", "taxi", "--span", "2026-03-01T23"], "is an hour, but these spans have numbers"),
        ("{YYYY}/{MM}/{DD}/{HH}", ["plan", "--with-span", "2026-03-01"], "is a day, and one hour is asked for"),
        ("{YYYY}/{MM}/{DD}/{HH}", ["plan", "--with-span", "2026-03-01T25"], "no such time as 2026-03-01T25"),
        (
            "{YYYY}/{MM}/{DD}/{HH}",
            ["lineage", "taxi", "--span", "2026-03-01"],
            "such as 2026-03-01T00, the first of it",
        ),
        (
            "{YYYY}/{MM}/{DD}/{HH}",
            ["backfill", "taxi", "2026030123", "2026030123", "--dry-run"],
            "2026030123 is no hour",
        ),
        ("{YYYY}-{MM}-{DD}", ["backfill", "taxi", "2026-03-01T00", "2026-03-02", "--dry-run"], "these spans are days"),
    ],
)
def test_a_span_of_another_kind_than_the_input_has_is_an_error_that_says_so(
    ctd: Cli, pattern: str, arguments: list[str], said: str
) -> None:
    node = f"{{{{kind: example_gen, input: '../data/{pattern.replace('{', '{{').replace('}', '}}')}'}}}}"
    ctd.pipeline("taxi", f"pipeline: taxi\nnodes: {{{{examples: {node}, statistics: {{{{kind: statistics_gen}}}}}}}}\n")
    (ctd.root / "data").mkdir()
    answer = ctd(*arguments)
    assert answer.code == 2
    assert said in answer.err


def test_numbers_that_look_like_hours_are_warned_of_at_their_line(ctd: Cli) -> None:
    node = "{{kind: example_gen, input: '../data/{{SPAN:10}}'}}"
    ctd.pipeline("taxi", f"pipeline: taxi\nnodes: {{{{examples: {node}, statistics: {{{{kind: statistics_gen}}}}}}}}\n")
    for hour in ("2026112923", "2026113000"):
        (ctd.root / "data" / hour).mkdir(parents=True)
    answer = ctd("validate")
    assert answer.code == 0
    assert "taxi.yaml:2" in answer.out
    assert "warning: span 2026113000 looks like an hour, 2026-11-30T00" in answer.out
    assert "{YYYY}{MM}{DD}{HH}" in answer.out
