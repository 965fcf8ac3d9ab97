"""Beam pipelines of a library, run in this thread: the transforms as they are, without Beam's machinery around them.

The pipelines of TFT over a few batches have hundreds of transforms and little data. Translating them to protos,
fusing, pickling and encoding takes Beam's own runner far longer than the work; calling the DoFns does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from apache_beam import Pipeline, pvalue
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.runners.common import DoFnRunner, DoFnSignature, DoFnState, Receiver
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms import core, util
from apache_beam.transforms.sideinputs import SideInputMap
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.counters import CounterFactory

Values = Sequence[Any]  # Beam's WindowedValues, all in the global window


def run_beam(build: Callable[[Pipeline], None]) -> None:
    """Run the pipeline that `build` makes, in memory; with Beam's own runner if it has what we do not know."""
    try:
        _run(build, InMemoryRunner())
    except UnknownTransform:
        _run(build, FnApiRunner())


class UnknownTransform(Exception):
    """The pipeline has a transform that only Beam's own runner can run. Nothing has run yet."""


class InMemoryRunner(PipelineRunner):
    """Runs batch pipelines in the global window, transform after transform, collections as lists."""

    def __init__(self, ends: Collection[type] = ()) -> None:
        """`ends` are transforms that are neither expanded nor run: whoever wants their outputs sees to it."""
        super().__init__()
        self._ends = frozenset(ends)

    def apply(self, transform: Any, input: Any, options: PipelineOptions) -> Any:
        # What is run as one is not expanded into parts either.
        if type(transform) is core.Create:
            return pvalue.PCollection(input.pipeline)
        if type(transform) in (core.CombinePerKey, util.Reshuffle):
            return pvalue.PCollection.from_(input)
        if type(transform) in self._ends:
            return pvalue.PCollection.from_(input[0])
        return transform.expand(input)

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> PipelineResult:
        """Raises UnknownTransform, or what a transform raises."""
        _run_all(_leaves(pipeline), {}, ())
        return _Done(PipelineState.DONE)


class Graph:
    """A pipeline of which parts are run, as often as needed: construction takes longer than the work."""

    def __init__(self, ends: Collection[type] = ()) -> None:
        self.pipeline = _pipeline(InMemoryRunner(ends))
        self._same: dict[pvalue.PCollection, Values] = {}  # what is made of nothing that was ever given

    def sources(
        self, wanted: Iterable[pvalue.PCollection], given: Collection[pvalue.PCollection]
    ) -> set[pvalue.PCollection]:
        """All collections that `wanted` are made of, back to those given."""
        return {source for node in self._needed(wanted, given) for source in _sources(node)}

    def run(
        self, wanted: Sequence[pvalue.PCollection], given: Mapping[pvalue.PCollection, Sequence[Any]]
    ) -> list[list[Any]]:
        """The elements of each collection wanted, from the elements of those given; what is not needed is not run."""
        windowed = {source: [*map(GlobalWindows.windowed_value, values)] for source, values in given.items()}
        known = {**self._same, **windowed}
        nodes = self._needed(wanted, known)
        changing = set(given)
        for node in nodes:
            if not changing.isdisjoint(_sources(node)):
                changing.update(node.outputs.values())
        same = [output for node in nodes for output in node.outputs.values() if output not in changing]
        made = _run_all(nodes, known, [*wanted, *known, *same])
        self._same.update((output, made[output]) for output in same)
        return [[each.value for each in made[collection]] for collection in wanted]

    def _needed(
        self, wanted: Iterable[pvalue.PCollection], given: Collection[pvalue.PCollection]
    ) -> list[AppliedPTransform]:
        needed = set(wanted)
        found = []
        for node in reversed(_leaves(self.pipeline)):
            if not needed.isdisjoint(set(node.outputs.values()) - set(given)):
                found.append(node)
                needed |= _sources(node)
        return found[::-1]


class _Done(PipelineResult):
    def wait_until_finish(self, duration: int | None = None) -> str:
        return str(self.state)


class _Leaves(PipelineVisitor):
    """The transforms without parts, each after those that it reads."""

    def __init__(self) -> None:
        self.nodes: list[AppliedPTransform] = []

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        if transform_node.transform is not None:
            self.nodes.append(transform_node)


class _Options(PipelineOptions):
    """Beam asks for views of its options by the hundred, and parses arguments anew for each."""

    def __init__(self, flags: Any = None, **said: Any) -> None:
        super().__init__(flags, **said)
        self.__dict__["_views"] = {}

    def view_as(self, cls: type) -> Any:
        views = self.__dict__["_views"]
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


class _Collected(Receiver):
    def __init__(self) -> None:
        self.values: list[Any] = []

    def receive(self, windowed_value: Any) -> None:
        self.values.append(windowed_value)


def _pipeline(runner: PipelineRunner) -> Pipeline:
    return Pipeline(runner, _Options([], direct_running_mode="in_memory", pipeline_type_check=False))


def _run(build: Callable[[Pipeline], None], runner: PipelineRunner) -> None:
    pipeline = _pipeline(runner)
    build(pipeline)
    pipeline.run().wait_until_finish()


def _leaves(pipeline: Pipeline) -> list[AppliedPTransform]:
    leaves = _Leaves()
    pipeline.visit(leaves)
    return leaves.nodes


def _run_all(
    nodes: Sequence[AppliedPTransform],
    given: Mapping[pvalue.PCollection, Values],
    wanted: Collection[pvalue.PCollection],
) -> Mapping[pvalue.PCollection, Values]:
    """Run transforms, each after those that it reads; what nobody wants or reads any more is forgotten."""
    for node in nodes:
        _check_known(node)
    uses = Counter([*wanted, *(source for node in nodes for source in _sources(node))])
    collections = dict(given)
    for node in nodes:
        made = _outputs(node, collections)
        collections.update({output: values for output, values in made.items() if uses[output] and output not in given})
        for source in _sources(node):
            uses[source] -= 1
            if not uses[source]:
                del collections[source]
    return collections


def _sources(node: AppliedPTransform) -> set[pvalue.PCollection]:
    found = {*node.inputs, *(side.pvalue for side in node.side_inputs)}
    return {source for source in found if isinstance(source, pvalue.PCollection)}


def _check_known(node: AppliedPTransform) -> None:
    transform = node.transform
    known = transform.__class__ in _RUN or isinstance(transform, core.ParDo)
    if isinstance(transform, core.CombinePerKey):
        known = known and not node.side_inputs
    if isinstance(transform, core.ParDo):
        signature = DoFnSignature(transform.dofn)
        known = not signature.is_stateful_dofn() and not signature.is_splittable_dofn()
    windowed = any(not isinstance(output.windowing.windowfn, GlobalWindows) for output in node.outputs.values())
    if windowed or not known:
        raise UnknownTransform(node.full_label)


def _outputs(
    node: AppliedPTransform, collections: Mapping[pvalue.PCollection, Values]
) -> Mapping[pvalue.PCollection, Values]:
    if isinstance(node.transform, core.ParDo):
        return _par_do(node, collections)
    made = _RUN[node.transform.__class__](node.transform, [collections.get(source, ()) for source in node.inputs])
    (output,) = node.outputs.values()
    return {output: list(made)}


def _par_do(
    node: AppliedPTransform, collections: Mapping[pvalue.PCollection, Values]
) -> Mapping[pvalue.PCollection, Values]:
    (source,) = node.inputs
    receivers = {tag: _Collected() for tag in {None, *node.outputs}}
    sides = [SideInputMap(type(s), s._view_options(), collections[s.pvalue]) for s in node.side_inputs]  # noqa: SLF001
    runner = DoFnRunner(
        node.transform.dofn,
        getattr(node.transform, "args", ()),
        getattr(node.transform, "kwargs", {}),
        sides,
        source.windowing,
        receivers,
        step_name=node.full_label,
        state=DoFnState(CounterFactory()),
    )
    runner.setup()
    try:
        runner.start()
        for value in collections[source]:
            runner.process(value)
        runner.finish()
    finally:
        runner.teardown()
    return {collection: receivers[tag].values for tag, collection in node.outputs.items()}


def _grouped(values: Values) -> Mapping[Hashable, list[Any]]:
    groups: dict[Hashable, list[Any]] = {}
    for windowed in values:
        key, value = windowed.value
        groups.setdefault(key, []).append(value)
    return groups


def _group_by_key(_: core.GroupByKey, inputs: Sequence[Values]) -> Iterable[Any]:
    return map(GlobalWindows.windowed_value, _grouped(inputs[0]).items())


def _combine_per_key(transform: core.CombinePerKey, inputs: Sequence[Values]) -> Iterable[Any]:
    combine, args, kwargs = transform.fn, transform.args, transform.kwargs
    combine.setup(*args, **kwargs)
    for key, values in _grouped(inputs[0]).items():
        state = combine.add_inputs(combine.create_accumulator(*args, **kwargs), values, *args, **kwargs)
        # Beam's runner merges at least once, and some combiners finish their work in it.
        state = combine.compact(combine.merge_accumulators([state], *args, **kwargs), *args, **kwargs)
        yield GlobalWindows.windowed_value((key, combine.extract_output(state, *args, **kwargs)))
    combine.teardown(*args, **kwargs)


_RUN: Mapping[type, Callable[[Any, Sequence[Values]], Iterable[Any]]] = {
    core.Create: lambda transform, _: map(GlobalWindows.windowed_value, transform.values),
    core.Impulse: lambda *_: [GlobalWindows.windowed_value(b"")],
    core.Flatten: lambda _, inputs: [value for values in inputs for value in values],
    util.Reshuffle: lambda _, inputs: inputs[0],
    core.GroupByKey: _group_by_key,
    core.CombinePerKey: _combine_per_key,
}
