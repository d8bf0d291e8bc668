from amalgam.evaluation.counts import gather_counts, sum_costs


def test_requests_tokens_and_dollars_are_summed_over_all_work():
    costs = sum_costs(
        {
            "synthesis": {"completions": 5, "kept": 4, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.25},
            "judge": {"rows": 3, "unparsed": 0, "prompt_tokens": 30, "completion_tokens": 3, "cost_usd": 0.5},
            "grader": None,
        }
    )
    assert costs["synthesis"] == {"requests": 5, "prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.25}
    assert costs["llm"] == {"requests": 8, "prompt_tokens": 130, "completion_tokens": 13, "cost_usd": 0.75}
    assert list(costs) == ["synthesis", "judge", "llm"]


def test_a_cost_that_is_not_known_makes_the_sum_unknown():
    known = {"requests": 1, "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": 1.0}
    costs = sum_costs({"judge": known, "grader": known | {"cost_usd": None}})
    assert "cost_usd" not in costs["grader"]
    assert costs["llm"] == {"requests": 2, "prompt_tokens": 2, "completion_tokens": 2}


def test_what_stages_counted_goes_into_three_files():
    asked = {"prompt_tokens": 1, "completion_tokens": 2, "cost_usd": 0.0}
    run = {"steps": 8, "best_step": 4}
    summaries = {
        "prepared": {"rows": {"train": 3}, "rater_kappa": None},
        "synthesis": {"completions": 4, "kept": 3, **asked},
        "judge": {"rows": 2, **asked},
        "baselines": {"human_only": {"seeds": {"1": run}}, "llm_grader": {"requests": 5, "unparsed": 1, **asked}},
        "teacher": {"seeds": {"1": run}, "guard": {"helps": 1}, "learned": {"human": 1, "synthetic": 2}, "held_out": 0},
        "student": {"seeds": {"1": run}, "undistilled": {"1": run}},
    }
    counts = gather_counts(summaries, {"synthetic": 2, "human": 1})
    rows = {"human": 1, "synthetic": 2}
    assert counts["data"] == {
        "rows": {"train": 3},
        "mixed": rows,
        "learned": rows,
        "held_out": 0,
        "grader": {"rows": 5, "unparsed": 1},
    }
    assert list(counts["training"]["training"]) == ["teacher", "student", "student_undistilled", "human_only"]
    assert counts["training"]["training"]["student"] == {"seed_1": run}
    assert counts["training"]["guard"] == {"helps": 1}
    assert counts["cost"]["llm"]["requests"] == 11
    del summaries["baselines"]["llm_grader"], summaries["student"]["undistilled"], summaries["teacher"]["guard"]
    fewer = gather_counts(summaries, {"human": 1})
    assert "grader" not in fewer["data"] | fewer["cost"]
    assert list(fewer["training"]) == ["training"]
    assert list(fewer["training"]["training"]) == ["teacher", "student", "human_only"]
