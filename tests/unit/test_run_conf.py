"""Which conf a run may have."""

from __future__ import annotations

import pytest

from iam_watcher import run_conf
from iam_watcher.errors import RunConfError

PARAMS = {"dry_run": False, "max_inactive_days": 90}


def check(conf, values=None, allowed=(), names=PARAMS):
    run_conf.check(
        conf, names=names, values={**PARAMS, **conf} if values is None else values, allowed=allowed
    )


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("dry-run", "dry_run"),
        ("dryRun", "dry_run"),
        ("DRY_RUN", "dry_run"),
        ("dry_run ", "dry_run"),
        ("dry", "dry_run"),
        ("max_inactive_day", "max_inactive_days"),
        ("max-inactive-days", "max_inactive_days"),
    ],
)
def test_a_misspelt_key_is_refused_and_the_param_is_named(key: str, near: str) -> None:
    with pytest.raises(RunConfError, match=rf"'{key}' is not a param of this DAG; did you mean '{near}'\?"):
        check({key: True})


def test_a_misspelt_dry_run_needs_no_further_advice() -> None:
    with pytest.raises(RunConfError, match=r"did you mean 'dry_run'\?.*trigger a new run$"):
        check({"dryRun": True})


def test_a_key_like_no_param() -> None:
    with pytest.raises(RunConfError) as caught:
        check({"ticket": "s3cret", "who": "me"})
    said = str(caught.value)
    assert "'ticket', 'who' are not params of this DAG. Its params: dry_run, max_inactive_days. " in said
    assert "conf_keys=['ticket']" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("key", ["dry_run", "dry-run", "is_dry_run", "DryRunMode", "only_dry_run"])
def test_a_dag_without_params(key: str) -> None:
    with pytest.raises(
        RunConfError, match=rf"'{key}' is not a param of this DAG. It has no params"
    ) as caught:
        check({key: True}, names=())
    assert 'the DAG needs params={"dry_run": False}, and each of its jobs' in str(caught.value)
    assert "conf_keys" not in str(caught.value)


@pytest.mark.parametrize("key", ["dry_run", "dryRun", "dry_run_mode", "is-dry-run"])
def test_a_slip_for_a_dry_run_in_any_dag(key: str) -> None:
    with pytest.raises(RunConfError, match=f"'{key}' is not a param"):
        run_conf.check_slips({key: True, "ticket": 7}, names=(), values={})
    run_conf.check_slips({"ticket": 7, "dry_runs_shown": 5, "no_dry_run": 1}, names=(), values={})


def test_a_conf_that_did_not_reach_the_params() -> None:
    with pytest.raises(RunConfError, match=r"sets 'dry_run', but.*dag_run_conf_overrides_params is False"):
        check({"dry_run": True, "max_inactive_days": 90}, values=PARAMS)


@pytest.mark.parametrize("conf", [None, {}, {"dry_run": True}, {"openlineage": {"parentRunId": "1"}}])
def test_what_is_right(conf) -> None:
    run_conf.check(conf, names=PARAMS, values={**PARAMS, **(conf or {})})


def test_the_whole_form_without_a_change_needs_no_override() -> None:
    check(dict(PARAMS), values=PARAMS)


def test_a_default_is_compared_as_the_form_sends_it() -> None:
    run_conf.check({"names": ["a"]}, names=["names"], values={"names": ("a",)})
    with pytest.raises(RunConfError, match="sets 'dry_run'"):
        run_conf.check({"dry_run": 0}, names=["dry_run"], values={"dry_run": False})


def test_a_key_that_the_file_allows() -> None:
    check({"ticket": 7, "dry_run": True}, allowed=["ticket"])


@pytest.mark.parametrize("key", ["dry-run", "dryRun", "Max_Inactive_Days"])
def test_a_slip_is_refused_in_any_dag(key: str) -> None:
    with pytest.raises(RunConfError, match=f"'{key}' is not a param of this DAG; did you mean "):
        run_conf.check_slips({key: True, "ticket": 7}, names=PARAMS, values=PARAMS)


def test_a_dry_run_that_is_no_param_is_refused_in_any_dag() -> None:
    with pytest.raises(RunConfError, match=r"'dry_run' is not a param of this DAG. It has no params"):
        run_conf.check_slips({"dry_run": True}, names=(), values={})


def test_a_param_that_does_not_arrive_is_refused_in_any_dag() -> None:
    with pytest.raises(RunConfError, match="the conf sets 'dry_run', but the tasks see other values"):
        run_conf.check_slips({"dry_run": True}, names=PARAMS, values=PARAMS)


def test_keys_that_are_meant_for_others_are_none_of_our_business() -> None:
    conf = {"ticket": 7, "days": 3, "dry_run": False}
    run_conf.check_slips(conf, names=PARAMS, values=PARAMS)
    run_conf.check_slips({"DryRun": 1}, names=PARAMS, values=PARAMS, allowed=["DryRun"])
    run_conf.check_slips(None, names=(), values={})
