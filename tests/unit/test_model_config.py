"""The model config file of a server: our entry says what it should, and nothing else in the file changes."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from ctd.core.errors import TargetUnavailable
from ctd.core.timing import SystemClock
from ctd.deploy.model_config import CannotEdit, Entry, ModelConfigFile, edited, entry_of

OURS = Entry(frozenset({4, 5}), {"stable": 4, "canary": 5})
OTHERS = """\
# Who serves what: ask ana before you touch this.
model_config_list: {   # {not a brace}
  config {
    name: "fares \\"}\\" # no comment"   # the fares' model
    base_path: '/srv/fares'
    model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } }
    version_labels { key: "gold" value: 9 }
    logging_config { sampling_config { sampling_rate: 0.5 } }
  }
  config: < name: "tips", base_path: "/srv/tips" >
}
"""


def parsed(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def names(text: str) -> list[str]:
    return [entry.name for entry in parsed(text).model_config_list.config]


@pytest.mark.parametrize("text", ["", "\n# nothing yet", "model_config_list {\n}\n", "model_config_list{}", OTHERS])
def test_a_model_that_is_not_there_is_added_and_all_else_stays(text: str) -> None:
    new = edited(text, "taxi", "/srv/taxi", OURS)
    (ours,) = (entry for entry in parsed(new).model_config_list.config if entry.name == "taxi")
    assert (ours.base_path, ours.model_platform) == ("/srv/taxi", "tensorflow")
    assert entry_of(new, "taxi") == OURS
    assert names(new) == [*names(text), "taxi"]
    kept = text.rstrip().removesuffix("}").rstrip()
    assert new.startswith(kept)


def test_only_our_entry_is_written_anew() -> None:
    text = edited(OTHERS, "taxi", "/srv/taxi", OURS)
    promoted = Entry(frozenset({5}), {"stable": 5, "canary": 5})
    new = edited(text, "taxi", "/elsewhere", promoted)
    assert entry_of(new, "taxi") == promoted
    assert new.partition('name: "taxi"')[0] == text.partition('name: "taxi"')[0]
    assert 'base_path: "/srv/taxi"' in new, "the server's own view of the folder is its own business"
    assert edited(new, "taxi", "/elsewhere", promoted) == new


def test_an_entry_that_people_wrote_keeps_what_is_not_ours() -> None:
    text = 'model_config_list { config: [{name: "a" base_path: "/a"}, {name: "taxi", base_path: "/b", version_labels '
    text += '{key: "gold" value: 2}, logging_config { sampling_config { sampling_rate: 0.5 } } }] }  # end'
    new = edited(text, "taxi", "/srv/taxi", Entry(frozenset({2, 3}), {"gold": 2, "stable": 3}))
    ours = parsed(new).model_config_list.config[1]
    assert (dict(ours.version_labels), ours.base_path) == ({"gold": 2, "stable": 3}, "/b")
    assert ours.logging_config.sampling_config.sampling_rate == 0.5
    assert new.startswith('model_config_list { config: [{name: "a" base_path: "/a"}, {')
    assert new.endswith("] }  # end")


def test_without_a_version_no_policy_is_written() -> None:
    new = edited("", "taxi", "/srv/taxi", Entry())
    assert not parsed(new).model_config_list.config[0].HasField("model_version_policy")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_config_list {", "no ModelServerConfig"),
        ("models { }", "no ModelServerConfig"),
        ('custom_model_config { type_url: "x" }', "custom_model_config"),
    ],
)
def test_what_cannot_be_changed_in_one_place_is_refused(text: str, words: str) -> None:
    with pytest.raises(CannotEdit, match=words):
        edited(text, "taxi", "/srv/taxi", OURS)


TEXTS = st.text(st.sampled_from("ab {}<>[]#'\"\\/,:;\n"), max_size=8)
ENTRIES = st.lists(st.tuples(TEXTS, TEXTS, st.dictionaries(TEXTS, st.integers(1, 9), max_size=2)), max_size=4)
STYLES = st.sampled_from(["config {{ {} }}", "config: {{ {} }},", "config <{}>;", "# {{ }}\nconfig {{\n {}\n}} # '\n"])
NUMBERS = st.frozensets(st.integers(1, 99), max_size=3)


def written(name: str, base: str, labels: dict[str, int]) -> str:
    entry = model_server_config_pb2.ModelConfig(name=name, base_path=base)
    for label, version in labels.items():
        entry.version_labels[label] = version
    return text_format.MessageToString(entry, as_one_line=True)


@given(ENTRIES, st.lists(STYLES, min_size=4, max_size=4), TEXTS, NUMBERS, st.dictionaries(TEXTS, st.integers(1, 9)))
def test_whatever_a_file_looks_like_its_other_entries_stay_to_the_letter(
    entries: list[tuple[str, str, dict[str, int]]],
    styles: list[str],
    model: str,
    versions: frozenset[int],
    labels: dict[str, int],
) -> None:
    blocks = [style.format(written(*entry)) for style, entry in zip(styles, entries, strict=False)]
    text = "model_config_list {\n" + "\n".join(blocks) + "\n}\n"
    wanted = Entry(versions, labels)
    new = edited(text, model, "/srv/ours", wanted)
    assert entry_of(new, model) == wanted
    mine = next((i for i, (name, *_) in enumerate(entries) if name == model), None)
    for i, block in enumerate(blocks):
        assert i == mine or block in new
    others = [entry for i, entry in enumerate(parsed(text).model_config_list.config) if i != mine]
    place = len(blocks) if mine is None else mine
    assert [entry for i, entry in enumerate(parsed(new).model_config_list.config) if i != place] == others


def config_file(path: Path) -> ModelConfigFile:
    return ModelConfigFile(path, "taxi", "/srv/taxi", lock=timedelta(seconds=0.3), clock=SystemClock())


def test_the_file_appears_by_a_rename_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "models.config"
    config_file(path).write(OURS)
    assert config_file(path).read() == OURS
    path.chmod(0o640)
    before = path.stat()
    config_file(path).write(OURS)
    assert path.stat().st_ino == before.st_ino, "nothing was to be written"
    config_file(path).write(Entry(frozenset({6}), {"stable": 6}))
    assert (path.stat().st_ino != before.st_ino, stat.S_IMODE(path.stat().st_mode)) == (True, 0o640)
    assert not list(path.parent.glob(".*.ctd-new"))


def test_behind_a_link_the_file_itself_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.config", tmp_path / "models.config"
    real.write_text(OTHERS)
    link.symlink_to(real)
    config_file(link).write(OURS)
    assert link.is_symlink()
    assert entry_of(real.read_text(), "taxi") == OURS


def test_a_file_that_cannot_be_read_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text("model_config_list {")
    with pytest.raises(TargetUnavailable, match=r"models\.config: it is no ModelServerConfig: 1:19"):
        config_file(path).write(OURS)
    assert path.read_text() == "model_config_list {"
    with pytest.raises(TargetUnavailable, match="Is a directory"):
        config_file(tmp_path).read()
