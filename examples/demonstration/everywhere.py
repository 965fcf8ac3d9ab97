"""The act in which one model goes to a server, phones, browsers and a model repository, and says the same in each."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ctd.core.errors import TargetUnavailable
from ctd.deploy import tfjs
from demonstration.acts import MONDAY, Play
from demonstration.seen import Unexpected
from demonstration.stage import FIRST_TARGETS, TARGETS

RUNTIMES = {"serving": "gRPC", "mobile": "TFLite", "web": "TF.js in Node", "hub": "hub.load over HTTP"}
AGREE = 1e-5


def the_same_model_everywhere(play: Play) -> None:
    """The last act."""
    stage, screen, seen = play.stage, play.screen, play.seen
    screen.say(
        "Until now models went to the server alone. The one in service is to go to phones, browsers and a model "
        "repository too: their files are in deploy_targets/, the spec only has to name them. A model in another form "
        "is asked about real examples before it ships, in the runtime that it is for."
    )
    targets = list(TARGETS)
    try:
        node, modules = tfjs.runtime()
    except TargetUnavailable as error:
        screen.say(f"{error.message}. {error.hint} The target `web` is left out here; the others need none of it.")
        targets.remove("web")
        node, modules = "", ""
    before, model = seen.last, _live(play)["serving"]["model"]
    stage.edit(_listed(FIRST_TARGETS), _listed(targets))
    with screen.runs(seen, before):
        seen.until("each target has the model", lambda: _there(play, targets, model), 240)
    pushed = {run.piece for run in seen.since(before) if run.node == "pusher"}
    ran = ", ".join(run.work for run in seen.since(before)) or "nothing"
    _expect(pushed == set(targets) - {"serving"}, "each of the other targets is pushed to", ran)
    _expect(len(seen.since(before)) == len(pushed), "nothing else runs, least of all training", ran)
    _show_parity(play)

    screen.say("Monday's rides again, each target asked with its own runtime:")
    answers = _answers(play, targets, node, modules)
    rides = [f"{trip['fare']} $ at {trip['trip_start_hour']} h" for trip in answers["trips"]]
    numbers = {target: answers[target] for target in targets}
    rows = [(ride, *(f"{numbers[target][row]:.6f}" for target in targets)) for row, ride in enumerate(rides)]
    screen.table(("ride, paid by card", *(f"{target}: {RUNTIMES[target]}" for target in targets)), rows)
    apart = max(abs(p - q) for said in numbers.values() for p, q in zip(said, numbers["serving"], strict=True))
    _expect(apart <= AGREE, f"the answers are the same within {AGREE:g}", f"{apart:.3g} apart: {numbers}")
    screen.proved(
        f"Model #{model} is at {len(targets)} targets, and nothing was trained for it. "
        f"The answers differ by {apart:.1g} at most."
    )


def _there(play: Play, targets: Sequence[str], model: int) -> bool:
    """Whether all targets have the model. Raises Unexpected where a conversion was refused."""
    for run in play.seen.runs.values():
        if run.result.startswith("not pushed"):
            raise Unexpected("converted models answer as the model does", f"{run.work}: {run.result}", play.seen.log)
    live = _live(play)
    at_rest = play.seen.status()["state"] == "as wanted"
    return at_rest and all(live.get(target, {}).get("model") == model for target in targets)


def _live(play: Play) -> Mapping[str, Mapping[str, Any]]:
    return {said["target"]: said for said in play.seen.status()["live"]}


def _show_parity(play: Play) -> None:
    """What was compared before the converted models shipped, as their reports say."""
    found = sorted((play.stage.folder / "state/artifacts/taxi/pusher").glob("pushed_model/*/parity.json"))
    rows = []
    for report in (json.loads(path.read_text()) for path in found):
        most = max(output["most"] for output in report["outputs"].values())
        metrics = ", ".join(f"{name} {c['model']:.4f}, {c['converted']:.4f}" for name, c in report["metrics"].items())
        limit = report["limits"]["max_difference"]
        rows.append((report["target"], str(report["examples"]), f"{most:.1e} of {limit:g}", metrics or "not asked for"))
    play.screen.table(("compared with the SavedModel", "examples", "furthest answer", "its metric, converted"), rows)


def _answers(play: Play, targets: Sequence[str], node: str, modules: str) -> dict[str, Any]:
    """What each target says about Monday's rides, and the rides."""
    stage = play.stage
    found = stage.ask_grpc(MONDAY, 3, show=True, to="answer.json")
    versions = {target: said["version"] for target, said in _live(play).items()}
    asked = {
        "mobile": [sys.executable, "ask_mobile.py", f"mobile/taxi/{versions['mobile']}"],
        "hub": [sys.executable, "ask_hub.py", f"http://127.0.0.1:{stage.rest}/ctd/taxi/{versions['hub']}"],
    }
    if "web" in targets:
        asked["web"] = [node, "ask_web.mjs", f"web/taxi/{versions['web']}", modules]
    said = stage.ask_beside(asked, "answer.json")
    return {"trips": found["trips"], "serving": found["probabilities"], **said}


def _listed(targets: Sequence[str]) -> str:
    return f"targets: [{', '.join(targets)}]"


def _expect(holds: bool, expected: str, seen: str) -> None:
    if not holds:
        raise Unexpected(expected, seen)
