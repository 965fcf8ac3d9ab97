"""How inputs find their sources, and what is said where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.core.selectors import Between, Newest, Pinned, Selector
from ctd.specs.load import load_pipeline
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import SpecProblems

STATS, SCHEMA = "  stats: {kind: statistics_gen}\n", "  schema: {kind: schema_gen}\n"
HEAD = """\
pipeline: p
module: m.py
nodes:
  examples: {kind: example_gen, input: "/d/{SPAN}"}
"""


def load(tmp_path: Path, nodes: str, head: str = HEAD) -> PipelineSpec:
    file = tmp_path / "p.yaml"
    file.write_text(head + nodes)
    return load_pipeline(file)


def said(tmp_path: Path, nodes: str, head: str = HEAD) -> list[str]:
    with pytest.raises(SpecProblems) as refused:
        load(tmp_path, nodes, head)
    return [str(p).replace(f"{tmp_path}/", "") for p in refused.value.problems]


def sources(spec: PipelineSpec, node: str, piece: str = "") -> dict[str, str]:
    (found,) = (w for w in spec.work if (w.node, w.piece.name) == (node, piece))
    return {key: f"{source.node}.{source.output}" for key, source in found.sources.items()}


def test_an_unambiguous_type_needs_no_words(tmp_path: Path) -> None:
    spec = load(tmp_path, "  statistics: {kind: statistics_gen}\n  schema: {kind: schema_gen}\n")
    assert sources(spec, "statistics") == {"examples": "examples.examples"}
    assert sources(spec, "schema") == {"statistics": "statistics.statistics"}


def test_a_trainer_prefers_what_transform_made_and_statistics_what_arrived(tmp_path: Path) -> None:
    nodes = STATS + SCHEMA + "  t: {kind: transform}\n  m: {kind: trainer}\n"
    spec = load(tmp_path, nodes)
    assert sources(spec, "m")["examples"] == "t.transformed_examples"
    assert sources(spec, "stats")["examples"] == "examples.examples"


def test_where_transform_writes_no_examples_the_trainer_takes_what_arrived(tmp_path: Path) -> None:
    nodes = STATS + SCHEMA + "  t: {kind: transform, window: 7, materialize: false}\n  m: {kind: trainer, window: 7}\n"
    assert sources(load(tmp_path, nodes), "m")["examples"] == "examples.examples"
    assert said(tmp_path, nodes.replace("trainer, window: 7", "trainer")) == [
        (
            "p.yaml:8: m needs a window: t writes no examples for it (materialize: false). "
            "Say how many spans it trains on: usually as many as t analyses."
        )
    ]


def test_transform_looks_back_at_the_analyzer_cache_that_it_made(tmp_path: Path) -> None:
    spec = load(tmp_path, STATS + SCHEMA + "  t: {kind: transform}\n")
    assert sources(spec, "t")["analyzer_cache"] == "t.updated_analyzer_cache"


def test_an_ambiguity_names_the_candidates_and_what_to_write(tmp_path: Path) -> None:
    nodes = '  other: {kind: example_gen, input: "/e/{SPAN}"}\n  stats: {kind: statistics_gen}\n'
    assert said(tmp_path, nodes) == [
        (
            "p.yaml:6: `examples` of stats could be examples.examples or other.examples. "
            "Say which, for instance `inputs: {examples: examples}`."
        )
    ]


def test_what_is_said_decides(tmp_path: Path) -> None:
    nodes = (
        '  other: {kind: example_gen, input: "/e/{SPAN}"}\n  stats: {kind: statistics_gen, inputs: {examples: other}}\n'
    )
    assert sources(load(tmp_path, nodes), "stats") == {"examples": "other.examples"}


def test_an_output_can_be_named(tmp_path: Path) -> None:
    nodes = (
        STATS + SCHEMA + "  t: {kind: transform}\n  m: {kind: trainer, inputs: {examples: t.transformed_examples}}\n"
    )
    assert sources(load(tmp_path, nodes), "m")["examples"] == "t.transformed_examples"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (
            "{exampels: examples}",
            "p.yaml:5: stats has no input 'exampels'. Did you mean 'examples'? stats takes examples and schema.",
        ),
        (
            "{examples: exmples}",
            (
                "p.yaml:5: `examples` of stats: there is no node 'exmples'. Did you mean 'examples'? "
                "There are examples and stats."
            ),
        ),
        (
            "{examples: examples.data}",
            "p.yaml:5: `examples` of stats: 'examples.data' does not name one Examples. examples makes examples.",
        ),
        (
            "{examples: stats}",
            "p.yaml:5: `examples` of stats: 'stats' does not name one Examples. stats makes statistics.",
        ),
    ],
)
def test_a_wrong_wire_is_explained_at_its_line(tmp_path: Path, inputs: str, expected: str) -> None:
    assert said(tmp_path, f"  stats: {{kind: statistics_gen, inputs: {inputs}}}\n") == [expected]


def test_a_missing_source_names_the_kinds_that_make_one(tmp_path: Path) -> None:
    nodes = STATS + "  v: {kind: example_validator}\n  m: {kind: trainer}\n  push: {kind: pusher, targets: [a]}\n"
    assert said(tmp_path, nodes) == [
        "p.yaml:6: v needs Schema as `schema`, and no node makes one. Add a node of kind importer or schema_gen.",
        (
            "p.yaml:8: push needs InfraBlessing as `infra_blessing`, and no node makes one. "
            "Add a node of kind infra_validator, or leave it out of `require`."
        ),
        (
            "p.yaml:8: push needs ModelBlessing as `model_blessing`, and no node makes one. "
            "Add a node of kind evaluator, or leave it out of `require`."
        ),
    ]


def test_a_missing_module_is_found_before_anything_runs(tmp_path: Path) -> None:
    head = HEAD.replace("module: m.py\n", "")
    assert said(tmp_path, "  m: {kind: trainer}\n", head) == [
        "p.yaml:4: m needs a module. Write `module: my_module.py` here or at the top."
    ]


def test_a_circle_is_named(tmp_path: Path) -> None:
    nodes = (
        STATS + SCHEMA + "  one: {kind: transform, inputs: {examples: two.transformed_examples}}\n"
        "  two: {kind: transform, inputs: {examples: one.transformed_examples}}\n"
    )
    (problem,) = said(tmp_path, nodes)
    assert problem.startswith("p.yaml:7: nodes need each other in a circle: one needs two needs one. Change one of")


def test_a_node_that_feeds_itself_is_a_circle(tmp_path: Path) -> None:
    nodes = STATS + SCHEMA + "  one: {kind: transform, inputs: {examples: one.transformed_examples}}\n"
    (problem,) = said(tmp_path, nodes)
    assert "in a circle: one needs one" in problem


def test_looking_back_at_blessed_models_is_no_circle(tmp_path: Path) -> None:
    nodes = (
        "  m: {kind: trainer, warm_start: latest_blessed}\n"
        "  e: {kind: evaluator, label_key: y, metrics: {AUC: {}}}\n"
        "  push: {kind: pusher, targets: [a], require: [model]}\n"
    )
    spec = load(tmp_path, nodes)
    assert sources(spec, "m")["base_model"] == "m.model"
    order = [w.id for w in spec.work]
    assert (
        order.index(("m", ""))
        < order.index(("e", "metrics"))
        < order.index(("e", "verdict"))
        < order.index(("push", "a"))
    )


def test_a_node_that_wants_each_span_needs_a_source_with_spans(tmp_path: Path) -> None:
    nodes = (
        STATS + SCHEMA + "  t: {kind: transform}\n"
        "  again: {kind: statistics_gen, inputs: {examples: t.transformed_examples}}\n"
        "  v: {kind: example_validator, inputs: {statistics: stats}}\n"
    )
    nodes = nodes.replace("schema_gen}", "schema_gen, inputs: {statistics: stats}}")
    (problem,) = said(tmp_path, nodes)
    assert problem.startswith("p.yaml:8: again takes `examples` of each span, but t does not run once per span.")


def test_every_complaint_is_made_once_and_all_at_once(tmp_path: Path) -> None:
    nodes = (
        "  a: {kind: trainer}\n  b: {kind: trainer}\n"
        "  e: {kind: evaluator, label_key: y, metrics: {AUC: {}}, inputs: {nothing: a}}\n"
    )
    found = said(tmp_path, nodes)
    assert len(found) == len(set(found)) == 3
    assert [line.split(":")[1] for line in found] == ["7", "7", "7"]


def test_a_pinned_span_that_is_denied_is_refused_at_its_window(tmp_path: Path) -> None:
    head = HEAD.replace('"/d/{SPAN}"', '"/d/{SPAN}", deny: [4]')
    (problem,) = said(tmp_path, STATS + "  schema:\n    kind: schema_gen\n    window: {pinned: [3, 4]}\n", head)
    assert problem.startswith("p.yaml:8: nodes.schema pins span 4, which nodes.examples denies: it would wait for ever")


def test_a_window_that_can_never_fill_is_refused(tmp_path: Path) -> None:
    nodes = STATS + "  schema:\n    kind: schema_gen\n    window: 3\n    min_spans: 4\n"
    (problem,) = said(tmp_path, nodes)
    assert problem.startswith("p.yaml:9: ")
    assert "min_spans is 4, but the window holds 3 at most: it can never fill" in problem


@pytest.mark.parametrize(
    "kind", ["schema_gen", "transform", "trainer", "evaluator\n    label_key: y\n    metrics: {AUC: {}}"]
)
def test_what_only_a_window_could_mean_is_refused_without_one(tmp_path: Path, kind: str) -> None:
    node = f"  node:\n    min_spans: 3\n    on_gap: wait\n    kind: {kind}\n"
    spans, gap = (problem for problem in said(tmp_path, node) if "no node makes one" not in problem)
    assert spans.startswith("p.yaml:6: `min_spans` says nothing without a `window`")
    assert gap.startswith("p.yaml:7: `on_gap` says nothing without a `window`")
    assert "`window: 7`" in spans


def test_a_range_whose_spans_are_denied_is_refused_where_it_can_never_fill(tmp_path: Path) -> None:
    head = HEAD.replace('"/d/{SPAN}"', '"/d/{SPAN}", deny: [2, 3, 9]')
    nodes = STATS + "  schema:\n    kind: schema_gen\n    window: {first: 1, last: 3}\n    min_spans: 2\n"
    (problem,) = said(tmp_path, nodes, head)
    assert problem.startswith(
        "p.yaml:8: nodes.schema needs 2 of the spans 1..3, of which nodes.examples leaves 1 undenied: "
        "it would wait for ever"
    )
    assert load(tmp_path, nodes.replace("min_spans: 2", "min_spans: 1"), head).nodes["schema"]


def test_dates_name_spans_in_windows(tmp_path: Path) -> None:
    assert window_of(tmp_path, "{YYYY}{MM}{DD}", "first: 1970-01-02, last: 1970-01-05") == Between(1, 4)


SERVING = """\
  served: {kind: example_gen, input: "/s/{SPAN}"}
  stats: {kind: statistics_gen, inputs: {examples: examples}}
  served_stats: {kind: statistics_gen, inputs: {examples: served}}
  schema: {kind: importer, artifact: Schema, path: s.pbtxt}
"""


def test_skew_needs_statistics_of_other_data(tmp_path: Path) -> None:
    nodes = STATS + "  schema: {kind: importer, artifact: Schema, path: s.pbtxt}\n"
    assert said(tmp_path, nodes + "  v: {kind: example_validator, skew: {fare: 0.1}}\n") == [
        (
            "p.yaml:7: v needs ExampleStatistics as `serving_statistics`, and no other node makes one. "
            "Add a node of kind statistics_gen of the data to compare with, or leave the comparison out."
        )
    ]
    validator = "  v: {kind: example_validator, skew: {fare: 0.1}, inputs: {serving_statistics: stats}}\n"
    assert said(tmp_path, nodes + validator) == [
        (
            "p.yaml:7: v needs ExampleStatistics as `statistics`, and no other node makes one. "
            "Add a node of kind statistics_gen."
        )
    ]


def test_data_is_not_compared_with_itself(tmp_path: Path) -> None:
    validator = (
        "  v: {kind: example_validator, skew: {fare: 0.1}, inputs: {statistics: stats, serving_statistics: stats}}\n"
    )
    assert said(tmp_path, SERVING + validator) == [
        (
            "p.yaml:9: `serving_statistics` of v: stats would be compared with itself. "
            "Name a node that looks at other data."
        )
    ]


def test_of_two_statistics_the_candidates_are_named_and_one_wire_is_enough(tmp_path: Path) -> None:
    ambiguous = said(tmp_path, SERVING + "  v: {kind: example_validator, skew: {fare: 0.1}}\n")
    assert [text.partition(". ")[0] for text in ambiguous] == [
        "p.yaml:9: `serving_statistics` of v could be stats.statistics or served_stats.statistics",
        "p.yaml:9: `statistics` of v could be stats.statistics or served_stats.statistics",
    ]
    expected = {
        "statistics": "stats.statistics", "schema": "schema.schema", "serving_statistics": "served_stats.statistics",
    }  # fmt: skip
    for wire in ("statistics: stats", "serving_statistics: served_stats"):
        validator = f"  v: {{kind: example_validator, skew: {{fare: 0.1}}, inputs: {{{wire}}}}}\n"
        assert sources(load(tmp_path, SERVING + validator), "v") == expected


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        pytest.param(
            "{feature: fare, expression: num_stats.min > 0}",
            "p.yaml:7: nodes.v.validations.0: the expression does not name `feature`. Its statistics are",
            id="of nothing",
        ),
        pytest.param(
            "{feature: fare, expression: feature.num_stats.min > feature_base.num_stats.min}",
            "p.yaml:7: nodes.v.validations.0: the expression names both `feature` and `feature_base`.",
            id="of two kinds",
        ),
        pytest.param(
            "{feature: fare, expression: feature.num_stats.min > 0, severity: INFO}",
            "p.yaml:7: nodes.v.validations.0.severity must be ERROR or WARNING, not the text 'INFO'",
            id="of no severity",
        ),
        pytest.param(
            "{expression: feature.num_stats.min > 0}",
            "p.yaml:7: nodes.v.validations.0 lacks the key 'feature'",
            id="of no feature",
        ),
    ],
)
def test_a_validation_that_cannot_be_is_refused_at_its_line(tmp_path: Path, validation: str, expected: str) -> None:
    nodes = STATS + "  schema: {kind: importer, artifact: Schema, path: s.pbtxt}\n"
    (problem,) = said(tmp_path, nodes + f"  v: {{kind: example_validator, validations: [{validation}]}}\n")
    assert problem.startswith(expected)


def test_the_span_before_is_taken_where_something_compares_with_it(tmp_path: Path) -> None:
    nodes = STATS + "  schema: {kind: importer, artifact: Schema, path: s.pbtxt}\n  v: {kind: example_validator, "
    alone = "validations: [{feature: fare, expression: feature.num_stats.min > 0}]}\n"
    pair = "validations: [{feature: fare, expression: feature_test.num_stats.max < 2 * feature_base.num_stats.max}]}\n"
    assert "previous_statistics" not in sources(load(tmp_path, nodes + alone), "v")
    for takes_it in (pair, "drift: {fare: 0.1}}\n", "inputs: {previous_statistics: stats}}\n"):
        assert sources(load(tmp_path, nodes + takes_it), "v")["previous_statistics"] == "stats.statistics"


def test_what_a_verdict_means_is_no_part_of_it(tmp_path: Path) -> None:
    nodes = STATS + "  schema: {kind: importer, artifact: Schema, path: s.pbtxt}\n  v: {kind: example_validator, "
    settings = [
        next(w for w in load(tmp_path, nodes + f"on_anomaly: {policy}}}\n").work if w.node == "v").piece.settings
        for policy in ("block", "quarantine")
    ]
    assert settings[0] == settings[1]


def window_of(tmp_path: Path, pattern: str, window: str, more: str = "", node: str = "") -> Selector:
    """What a schema_gen takes that has this window, over spans of this pattern."""
    head = HEAD.replace('input: "/d/{SPAN}"', f'input: "/d/{pattern}"{more}')
    spec = load(tmp_path, STATS + f"  schema: {{kind: schema_gen, window: {{{window}}}{node}}}\n", head)
    (wired,) = (w for w in spec.work if w.node == "schema")
    return wired.piece.takes["statistics"].select


HOURS = "{YYYY}/{MM}/{DD}/{HH}"
NOON = 498_864 + 12  # 2026-11-29T12


@pytest.mark.parametrize(
    ("pattern", "window", "select"),
    [
        (HOURS, "first: 2026-11-29T12", Between(NOON, None)),
        (HOURS, "first: 2026-11-29 12, last: 2026-11-29T13", Between(NOON, NOON + 1)),
        (HOURS, "first: 2026-11-29, last: 2026-11-29", Between(NOON - 12, NOON + 11)),
        (HOURS, "last: 498876", Between(None, NOON)),
        (HOURS, "pinned: [2026-11-29T12, 498877]", Pinned((NOON, NOON + 1))),
        (HOURS, "pinned: [2026-11-29]", Pinned(tuple(range(NOON - 12, NOON + 12)))),
        ("{YYYY}-{MM}-{DD}", "first: 2026-11, last: 2026-11", Between(20_758, 20_787)),
        ("{GGGG}W{WW}", "first: 2026-W48", Between(2969, None)),
    ],
)
def test_windows_name_spans_as_people_write_them(tmp_path: Path, pattern: str, window: str, select: Selector) -> None:
    assert window_of(tmp_path, pattern, window) == select


def test_a_pinned_day_has_the_hours_that_its_clocks_show(tmp_path: Path) -> None:
    select = window_of(tmp_path, HOURS, "pinned: [2026-03-29]", ", timezone: Europe/Berlin")
    assert isinstance(select, Pinned)
    assert len(select.spans) == 23


@pytest.mark.parametrize(
    ("pattern", "window", "message"),
    [
        ("{SPAN}", "first: 2026-11-29", "2026-11-29 is a day, but these spans have numbers ({SPAN})"),
        ("{SPAN}", "pinned: [2026-11-29T23]", "2026-11-29T23 is an hour, but these spans have numbers ({SPAN})"),
        (HOURS, "first: 2026-11-29T12:30", "2026-11-29T12:30 is a minute, but these spans are hours"),
        (HOURS, "first: 2026-11-30, last: 2026-11-29", "ends at 2026-11-29T23, before it begins at 2026-11-30T00"),
        (HOURS, "first: 2026112912", "2026112912 is no hour"),
        ("{SPAN}", "first: 3, last: 2", "ends at 2, before it begins at 3"),
    ],
)
def test_windows_that_name_spans_of_another_kind_are_refused(
    tmp_path: Path, pattern: str, window: str, message: str
) -> None:
    with pytest.raises(SpecProblems) as refused:
        window_of(tmp_path, pattern, window)
    (problem,) = refused.value.problems
    assert problem.line == 6
    assert message in problem.message


def test_what_is_denied_and_where_to_start_is_said_as_people_write_it(tmp_path: Path) -> None:
    said_so = "start: 2026-11-29, deny: [2026-11-29T12, 2026-11-30], timezone: Europe/Berlin, every: 1h"
    spec = load(tmp_path, STATS, HEAD.replace('"/d/{SPAN}"', f'"/d/{HOURS}", {said_so}'))
    node = spec.inputs["examples"]
    assert node.start == NOON - 12
    assert node.deny == (NOON, *range(NOON + 12, NOON + 36))
    assert node.calendar.step == 1


@pytest.mark.parametrize(
    ("pattern", "key", "message"),
    [
        ("{SPAN}", "start: 2026-11-29", "start: 2026-11-29 is a day, but these spans have numbers"),
        ("{SPAN}", "deny: [1, 2026-11-29]", "deny: 2026-11-29 is a day, but these spans have numbers"),
        ("{SPAN}", "start: '42'", "'42' names no span"),
        (HOURS, "deny: [2026-11-29T12.v2]", "names no span"),
        (HOURS, "start: 2026-11-29T25", "there is no such time as 2026-11-29T25"),
        (HOURS, "timezone: Europe/Berlim", "there is no time zone 'Europe/Berlim'"),
        (HOURS, "timezone: ../etc/passwd", "there is no time zone '../etc/passwd'"),
        ("{SPAN}", "timezone: Europe/Berlin", "`timezone` says nothing where spans are numbers"),
        (HOURS, "every: 90m", "spans are hours, and `every` is 1h30m"),
        (HOURS, "every: 15m", "spans are hours, and `every` is 15m"),
        (HOURS, "every: 2", "spans are hours, and `every` is 2"),
        (HOURS, "every: often", "every"),
        ("{YYYY}-{MM}", "every: 30d", "spans are months, and `every` is 30d"),
        ("{SPAN}", "every: 1h", "spans are numbers, and `every` is a time"),
        ("{SPAN}", "every: 0", "0 does not say how often"),
    ],
)
def test_what_an_input_cannot_say_of_its_spans_is_refused_at_its_line(
    tmp_path: Path, pattern: str, key: str, message: str
) -> None:
    (problem,) = said(tmp_path, STATS, HEAD.replace('"/d/{SPAN}"', f'"/d/{pattern}", {key}'))
    assert problem.startswith("p.yaml:4:")
    assert message in problem


def test_a_window_that_waits_for_gaps_must_know_which_minutes_are_to_come(tmp_path: Path) -> None:
    minutes = "{YYYY}{MM}{DD}{HH}{mm}"
    with pytest.raises(SpecProblems, match="nothing says which minutes have spans"):
        window_of(tmp_path, minutes, "newest: 4", node=", on_gap: wait")
    assert window_of(tmp_path, minutes, "newest: 4", ", every: 15m", ", on_gap: wait") == Newest(4, 1, True)
    with pytest.raises(SpecProblems, match="nothing says which minutes have spans"):
        window_of(tmp_path, minutes, "pinned: [2026-11-29T23]")
    quarters = window_of(tmp_path, minutes, "pinned: [2026-11-29T23]", ", every: 15m")
    assert isinstance(quarters, Pinned)
    assert len(quarters.spans) == 4


def test_spans_of_one_kind_are_compared_with_each_other(tmp_path: Path) -> None:
    nodes = SERVING.replace("/s/{SPAN}", "/s/{YYYY}{MM}{DD}{HH}") + (
        "  v: {kind: example_validator, skew: {fare: 0.1},"
        " inputs: {statistics: stats, serving_statistics: served_stats}}\n"
    )
    head = HEAD.replace("/d/{SPAN}", "/d/{YYYY}{MM}{DD}")
    (problem,) = said(tmp_path, nodes, head)
    assert "`serving_statistics` of v: its spans are hours, and those of `statistics` days" in problem
    assert load(tmp_path, nodes.replace("{HH}", ""), head)


CURATED = "  schema: {kind: importer, artifact: Schema, path: s.pbtxt}\n"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param(CURATED, "schema.schema", id="a curated one"),
        pytest.param("  schema: {kind: schema_gen}\n", None, id="an inferred one is made of the statistics"),
        pytest.param(CURATED + "  inferred: {kind: schema_gen}\n", "schema.schema", id="a curated one of both"),
        pytest.param(CURATED + CURATED.replace("schema:", "other:"), None, id="no guess between two"),
    ],
)
def test_statistics_take_a_schema_only_from_outside(tmp_path: Path, nodes: str, expected: str | None) -> None:
    assert sources(load(tmp_path, STATS + nodes), "stats").get("schema") == expected


def test_an_inferred_schema_is_not_wired_to_the_statistics_that_it_is_made_of(tmp_path: Path) -> None:
    nodes = STATS.replace("{kind: statistics_gen", "{kind: statistics_gen, inputs: {schema: schema}")
    (problem,) = said(tmp_path, nodes + "  schema: {kind: schema_gen}\n")
    assert problem.startswith("p.yaml")
    assert "schema" in problem
    named = nodes.replace("schema: schema", "schema: other") + CURATED + CURATED.replace("schema:", "other:")
    assert sources(load(tmp_path, named), "stats")["schema"] == "other.schema"
