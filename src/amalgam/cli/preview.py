"""`amalgam preview`: the real prompts, some responses to them, and the cost and time of the whole run."""

import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from amalgam.base_models import fetch_llm
from amalgam.cli.estimate import price_stages, print_estimate
from amalgam.cli.forecast import ASKING, Sources, estimate_stages, estimate_training, load_sources
from amalgam.dvc import iterate_shared_answers
from amalgam.errors import DataError
from amalgam.files import read_json
from amalgam.llm.answering import Answering, answer_requests
from amalgam.llm.journal import open_journal
from amalgam.llm.request import Answer, Request, load_prices
from amalgam.machine import notify
from amalgam.params import Params, load_params
from amalgam.synthesis.answers import tabulate_responses
from amalgam.synthesis.grading import check_personal, read_grades, select_gradable
from amalgam.synthesis.prompts import list_shortages

_ROWS = 5  # responses a label
_PATIENCE = 45.0  # seconds for all of them, unless -n sets their number
_WRITING = 4  # a token of an answer takes this many times as long as one of a prompt


def run_preview(project: Path, name: str | None, rows: int | None, *, as_json: bool) -> None:
    """Request the first `rows` responses of each label as the run will, and print the requests and the responses.

    None requests five, or as many as arrive within a minute. An error is the one with which the run would fail.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the stages, before llama.cpp is loaded
    params = load_params(project / "params.yaml")
    params = params.model_copy(update={"task": name}) if name else params
    sources = load_sources(project, params)
    for shortage in list_shortages(sources.task, sources.sets["train"], params.prompts):
        notify(shortage)
    answering = _open_answering(project, params, sources.model)
    if not sources.model:  # a hub file, which is here now
        sources = replace(sources, model=read_json(answering.folder / "identity.json")["model"])
    found = ask_first(sources, answering, rows)
    with open_journal(answering.journal) as journal:
        stages = estimate_stages(project, sources, list(ASKING), journal)
        whole = price_stages(params.llm, stages, load_prices(project / "data/prices.yaml"), journal)
    pace = found.pop("pace")
    to_come = [(one.to_send + one.again) * pace.get(one.stage, pace.get("judge", 0.0)) for one in stages]
    found["whole_run"] = whole | {
        "tokens": sum(one.held_tokens + one.prompt_tokens + one.completion_tokens for one in stages),
        "llm_minutes": round(sum(to_come) / 60, 1) if pace else None,
        "training_minutes": estimate_training(params, sources.sets["train"], len(sources.sets["unlabelled"])),
    }
    print(json.dumps(found, indent=2, ensure_ascii=False)) if as_json else _print_preview(found)


def ask_first(sources: Sources, answering: Answering, rows: int | None) -> dict[str, Any]:
    """Send the first requests of the run, and those of its judge for the responses; the journal keeps the answers.

    `pace` holds the seconds that a further request of each stage takes.
    """
    params, task = sources.params, sources.task
    tested = sources.list_tests()
    for name, held_out in tested.items():
        check_personal(task, held_out, name, params.llm.endpoint)
    pace, start = dict[str, float](), time.monotonic()
    several = answering.llm
    alone = several.model_copy(update={"concurrency": 1})  # reads their common beginning only once

    def answer(requests: list[Request], stage: str, title: str) -> list[Answer]:
        answering.llm = several if stage == "synthesize" or several.endpoint != "embedded" else alone
        begun, before = time.monotonic(), answering.sent
        answers = answer_requests(requests, answering, title) if requests else []
        if sent := answering.sent - before:
            pace[stage] = (time.monotonic() - begun) * _measure_share(requests, answers, sent)
        return answers

    most = -(-min(rows or _ROWS, params.synthesis.rows) // params.prompts.responses)
    slots = most if rows else 1  # one of each label shows how long they take
    while True:
        rounds = sources.start_rounds([*islice(sources.prompts, slots * len(task.labels))])
        writing = list(rounds.build_requests())
        rounds.add_answers(answer(writing, "synthesize", "preview"))
        responses = tabulate_responses(rounds.build_lines())
        graded = select_gradable(responses, sources.limit_grades())
        grading = sources.build_grading(graded)
        answers = answer(grading, "judge", "preview of the judge")
        fitting = min(most, int(slots * _PATIENCE / max(time.monotonic() - start, 1e-9)))
        if slots > 1 or fitting <= 1:
            break
        slots = fitting
    labelling = sources.build_labelling()[:_ROWS]
    answer(labelling, "label", "preview of the labels")
    grades = read_grades(answers, task.label_names, "the LLM as judge")[0]
    responses["judged"] = responses["id"].map(dict(zip(graded["id"], grades, strict=True))).fillna("")
    shown = [*writing[: len(task.labels)], *grading[:1], *labelling[:1]]
    shown += sources.build_grading(tested["test"].head(1)) if tested else []
    return {
        "task": params.task,
        "prompts": [{"id": request.id, "key": request.key, **request.body} for request in shown],
        "rows": responses[["label", "text", "fault", "judged"]].to_dict("records"),
        "sent": answering.sent,
        "seconds": round(time.monotonic() - start, 1),
        "pace": pace,
        "cut_short": slots < most,
    }


def _measure_share(requests: list[Request], answers: list[Answer], sent: int) -> float:
    """Return the time of one more request as a share of that of `sent`; their common beginning is read only once."""
    texts = [json.dumps(request.body["messages"]) for request in requests]
    common = len(os.path.commonprefix(texts)) if len(texts) > 1 else 0  # noqa: RUF071 - texts, not paths
    shared = common / max(map(len, texts)) * sum(answer.prompt_tokens for answer in answers) / len(answers)
    whole = sum(answer.prompt_tokens + _WRITING * answer.completion_tokens for answer in answers) / len(answers)
    own = max(whole - shared, 1.0)
    return own / (shared + sent * own)


def _open_answering(project: Path, params: Params, model: str) -> Answering:
    """Set who answers; the embedded LLM is fetched to a folder of its own if it is not among DVC's outputs."""
    folder, llm = project / "models/base/llm", params.llm
    if llm.endpoint == "embedded" and not _holds(folder, llm.model, model):
        folder = project / ".cache/llm"
        if not _holds(folder, llm.model, model):
            fetch_llm(llm.model, folder, project / ".cache/downloads")
    names = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY") if llm.api_version else ("OPENAI_API_KEY",)
    key = next((os.environ[name] for name in names if os.environ.get(name)), None)
    read_seeds = partial(iterate_shared_answers, project, cache(notify))  # each sentence once
    llm = llm.model_copy(update={"batch": False})  # nobody waits a day for a preview
    return Answering(llm, folder, project / ".cache/journal.sqlite", project / "data/prices.yaml", key, read_seeds)


def _holds(folder: Path, name: str, model: str) -> bool:
    with suppress(DataError):  # there is none
        about = read_json(folder / "identity.json")
        return (folder / "model.gguf").is_file() and bool(about["model"] == model if model else about["name"] == name)
    return False


def _print_preview(found: dict[str, Any]) -> None:
    for prompt in found["prompts"]:
        print(f"\n── request {prompt['id']} " + "─" * 40)
        for turn in prompt["messages"]:
            print(f"[{turn['role']}] {turn['content']}")
    print("\n── responses " + "─" * 40)
    for row in found["rows"]:
        verdict = row["fault"] or (f"judged {row['judged']}" if row["judged"] else "")
        print(f"{row['label']}: {row['text']}" + (f"  ({verdict})" if verdict else ""))
    print(f"\n{found['sent']} requests were sent in {found['seconds']:.0f} s; the run that follows reuses the answers.")
    if found["cut_short"]:
        print(f"More would take longer than a minute: `-n {_ROWS}` requests them anyway.")
    whole = found["whole_run"]
    print(f"The whole run, including these requests, takes about {whole['tokens']} tokens. Still to come:\n")
    print_estimate(whole, batch=False)
    asking = "" if whole["llm_minutes"] is None else f"{whole['llm_minutes']:.0f} min of the LLM at this pace, and "
    print(f"time, roughly: {asking}{whole['training_minutes']} min of training on two cores with bfloat16")
