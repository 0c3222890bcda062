"""Canaries: each one fails when Airflow changes a name that iam_watcher.airflow_internals relies on.

Each name has its canary here, in the order of the modules of the package: hence the length.
"""

from __future__ import annotations

import ast
import inspect
import json
import socket
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import airflow
import pytest
from airflow.sdk import DAG, BaseOperator, task, task_group
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import BaseTrigger
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import iam_watcher
from dev.airflow import ROOT
from iam_watcher import timetables
from iam_watcher.airflow_internals import TESTED, check_version, dag_files, deployment, runs, tasks
from iam_watcher.errors import IamWatcherError, UntestedAirflow
from iam_watcher.timetables import TIMETABLES

NOW = datetime(2026, 11, 27, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def source(module: str) -> str:
    """Return the text of a module of Airflow's without importing it."""
    core, sdk = Path(airflow.__file__).parent, Path(sys.modules[DAG.__module__].__file__).parents[2]
    parts = module.split(".")[1:]
    return (sdk if parts[0] == "sdk" else core).joinpath(*parts).with_suffix(".py").read_text()


def functions(module: str) -> set[str]:
    nodes = ast.walk(ast.parse(source(module)))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


# The version


@pytest.mark.parametrize("version", ["3.3.0", "3.3.2", "3.3.9rc1"])
def test_a_version_that_was_tested(version):
    check_version(version)


@pytest.mark.parametrize("version", ["3.2.9", "3.4.0", "3.30.0", "2.11.0", "4.0.0.dev0"])
def test_a_version_that_was_not_tested(version):
    with pytest.raises(
        UntestedAirflow, match=rf"this is Airflow {version}; expected 3.3.x. Install a"
    ) as info:
        check_version(version)
    assert isinstance(info.value, IamWatcherError)


def test_the_requirement_says_the_same():
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    following = f"{TESTED.split('.')[0]}.{int(TESTED.split('.')[1]) + 1}"
    assert f"apache-airflow>={TESTED},<{following}" in needs


def test_a_dag_file_gets_the_message_as_its_import_error(tmp_path):
    file = tmp_path / "a_dag.py"
    file.write_text("from iam_watcher import Watcher\n")
    program = (
        "import airflow; airflow.__version__ = '3.4.0'\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"print(*DagBag({str(file)!r}, safe_mode=False).import_errors.values())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT / "plugins"
    )
    assert "iam-watcher was not tested with this version of Airflow: this is Airflow 3.4.0" in done.stdout


# While a DAG file is parsed


def test_the_current_dag():
    with DAG("outer", schedule=None) as dag:
        assert dag_files.current_dag() is dag
    assert dag_files.current_dag() is None


def test_the_module_that_is_parsed_and_its_dags(tmp_path):
    from airflow.dag_processing.dagbag import DagBag

    file = tmp_path / "a_dag.py"
    file.write_text(
        "from airflow.sdk import DAG\n"
        "from iam_watcher.airflow_internals import dag_files\n"
        "assert dag_files.parsed_module() == __name__\n"
        "assert not dag_files.is_defined_before('one')\n"
        "with DAG('one', schedule=None):\n"
        "    pass\n"
        "assert dag_files.is_defined_before('one')\n"
        "assert not dag_files.is_defined_before('two')\n"
    )
    assert dag_files.parsed_module() is None
    bag = DagBag(str(file), safe_mode=False)
    assert (list(bag.dags), bag.import_errors) == (["one"], {})
    assert not dag_files.is_defined_before("one")


def test_where_the_sdk_is():
    assert inspect.getfile(DAG).startswith(str(dag_files.SDK_FOLDER))
    assert (dag_files.SDK_FOLDER / "bases" / "operator.py").is_file()


class Job(BaseOperator):
    def __init__(self, *, table="", rows=0, **arguments):
        super().__init__(**arguments)
        self.table, self.rows = table, rows


def test_a_mapped_operator():
    with DAG("mapping", schedule=None):
        plain = Job(task_id="plain")
        mapped = Job.partial(task_id="mapped", table="users").expand(rows=[1, 2])
    assert not dag_files.is_mapped(plain)
    assert dag_files.is_mapped(mapped)
    assert dag_files.class_of(plain) is type(plain)
    assert dag_files.class_of(mapped) is type(plain)
    assert dag_files.partial_argument(mapped, "table") == "users"
    assert dag_files.partial_argument(mapped, "rows", 7) == 7


def test_the_parts_of_a_mapped_operator():
    with DAG("parts", schedule=None, default_args={"owner": "iam"}) as dag:
        by_expand = Job.partial(task_id="e", table="users").expand(rows=[1, 2], doc=["a", "b"])
        by_kwargs = Job.partial(task_id="k", rows=3).expand_kwargs([{"table": "a"}, {}])
        refused = Job.partial(task_id="refused").expand(doc=[5])
    parts = dag_files.parts_of(by_expand)
    assert [(one.table, one.rows, one.doc) for one in parts] == [
        *(("users", 1, "a"), ("users", 1, "b")),
        *(("users", 2, "a"), ("users", 2, "b")),
    ]
    assert {(one.task_id, one.dag_id, one.owner) for one in parts} == {("e", "parts", "iam")}
    assert [(one.table, one.rows) for one in dag_files.parts_of(by_kwargs)] == [("a", 3), ("", 3)]
    assert dag.task_dict["e"] is by_expand
    with pytest.raises(TypeError, match="doc"):
        dag_files.parts_of(refused)


def test_a_mapped_operator_that_only_a_run_knows():
    with DAG("half", schedule=None, default_args={"table": "t"}):
        rows = Job(task_id="rows").output
        by_expand = Job.partial(task_id="e").expand(rows=rows, doc=["a", "b"])
        in_list = Job.partial(task_id="i", rows=1).expand(doc=[rows, "b"])
        some = Job.partial(task_id="s").expand_kwargs([{"rows": 7}, rows, {}])
        by_kwargs = Job.partial(task_id="k", rows=3).expand_kwargs(rows)

        @task_group
        def group(number):
            Job(task_id="inside", rows=number)

        inside = group.expand(number=[1, 2]).children["group.inside"]
    values = dag_files.values_in_file
    for one in (by_expand, in_list, some, by_kwargs):
        assert dag_files.parts_of(one) is None
        assert not dag_files.is_in_mapped_group(one)
    assert dag_files.is_in_mapped_group(inside)
    assert (values(by_expand, "doc"), values(by_expand, "rows")) == (["a", "b"], [])
    assert (values(by_expand, "table"), values(by_expand, "other", 5)) == (["t"], [5])
    assert values(some, "rows", 0) == [7, 0]
    assert (values(by_kwargs, "rows"), values(by_kwargs, "table")) == ([3], [])


def test_callbacks_that_are_added():
    called = []
    own = {"on_failure_callback": lambda _: called.append("own")}
    with DAG("callbacks", schedule=None) as dag:
        operators = [Job(task_id="none"), Job(task_id="own", **own)]
        mapped = [
            Job.partial(task_id="m").expand(rows=[1]),
            Job.partial(task_id="n", **own).expand(rows=[1]),
        ]
    for operator in (*operators, *mapped):
        dag_files.add_callback(operator, "on_failure_callback", lambda _: called.append("ours"))
        called.append("|")
    for operator in (*operators, *(one.unmap({"rows": 1}) for one in mapped)):
        called.append("then")
        for callback in operator.on_failure_callback:
            callback({})
    assert "".join(called).split("then")[1:] == ["ours", "ownours", "ours", "ownours"]
    for name in ("on_success_callback", "on_failure_callback"):
        assert f"has_{name}" not in DagSerialization.to_dict(dag)["dag"]
        dag_files.add_dag_callback(dag, name, print)
        assert DagSerialization.to_dict(dag)["dag"][f"has_{name}"] is True
        assert getattr(dag, name) == [print]


def test_the_hook_before_execute():
    called = []
    with DAG("hooks", schedule=None):
        operators = [
            Job(task_id="none"),
            Job(task_id="own", pre_execute=lambda _: called.append("own")),
            Job.partial(task_id="mapped", pre_execute=lambda _: called.append("mapped")).expand(rows=[1]),
        ]
    for operator in operators:
        dag_files.wrap_pre_execute(operator, lambda _: called.append("ours"))
    operators[-1] = operators[-1].unmap({"rows": 1})
    for operator in operators:
        operator._pre_execute_hook({})
    assert called == ["ours", "ours", "own", "ours", "mapped"]
    assert "task._pre_execute_hook" in source("airflow.sdk.execution_time.task_runner")


def test_what_makes_a_task_by_a_call():
    @task
    def decorated():
        pass

    assert dag_files.makes_tasks_by_a_call(decorated)
    assert dag_files.makes_tasks_by_a_call(task)
    assert not dag_files.makes_tasks_by_a_call(test_the_current_dag)


def test_a_dag_is_validated_when_the_file_is_taken_in():
    """`Watcher.validate` overrides it."""
    assert "validate()" in source("airflow.dag_processing.dagbag")


# In the process of a task


def test_a_task_in_the_process_of_a_test(monkeypatch):
    from airflow.sdk.execution_time import supervisor, task_runner

    assert not tasks.is_in_process()
    ours = object.__new__(supervisor.InProcessSupervisorComms)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", ours, raising=False)
    assert tasks.is_in_process()
    with supervisor.set_supervisor_comms(None):  # what `InProcessTestSupervisor.start` enters
        assert not tasks.is_in_process()
    assert not tasks.is_tasks_test()
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    assert tasks.is_tasks_test()
    assert '"AIRFLOW_TEST_MODE": "True"' in source("airflow.cli.commands.task_command")


def test_callbacks_are_lists_that_airflow_reads_at_the_end():
    def own(context):
        pass

    def end(context):
        pass

    operator = BaseOperator(task_id="work", on_success_callback=own)
    assert set(tasks.CALLBACKS) == {name for name in vars(operator) if name.endswith("_callback")} - {
        "on_execute_callback"
    }
    tasks.call_at_the_end(operator, end)
    assert operator.on_success_callback == [end, own]
    assert operator.on_failure_callback == operator.on_retry_callback == operator.on_skipped_callback == [end]
    runner = source("airflow.sdk.execution_time.task_runner")
    assert all(f'_run_task_state_change_callbacks(task, "{name}"' in runner for name in tasks.CALLBACKS)


class Trigger(BaseTrigger):
    def serialize(self):
        return "", {}

    async def run(self):
        yield


def test_a_secret_is_hidden():
    from airflow.sdk.log import mask_secret

    mask_secret("swordfish-of-the-canary")
    assert tasks.masked("begin swordfish-of-the-canary end") == "begin *** end"


def test_what_the_triggerer_sets_on_a_trigger():
    from airflow.jobs.triggerer_job_runner import TriggerRunner

    made = inspect.getsource(TriggerRunner.create_triggers)
    assert [name for name in tasks.SET_BY_TRIGGERER if f"trigger_instance.{name} =" not in made] == []
    inner, outer = Trigger(), Trigger()
    outer.trigger_id, outer.task_instance = 7, SimpleNamespace(task_id="work")
    tasks.set_as_the_triggerer_does(inner, outer)
    assert (inner.trigger_id, inner.task_instance, inner.task_id) == (7, outer.task_instance, "work")


def test_a_command_finds_stored_connections(monkeypatch):
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    before = {type(backend).__name__ for backend in ensure_secrets_backend_loaded()}
    tasks.use_stored_connections()
    after = {type(backend).__name__ for backend in ensure_secrets_backend_loaded()}
    assert after - before == {"MetastoreBackend"}


def test_the_timetables_of_plugins():
    timetables, errors = deployment.plugins()
    assert errors == {}
    assert {f"{one.__module__}.{one.__qualname__}" for one in TIMETABLES} <= timetables


def test_the_folders_of_dag_bundles(monkeypatch, tmp_path):
    bundle = {"name": "ours", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle"}
    bundles = json.dumps([bundle | {"kwargs": {"path": str(tmp_path)}}])
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)
    assert deployment.dag_folders() == {"ours": tmp_path}


@pytest.mark.parametrize("safe_mode", ["True", "False"])
def test_the_files_that_safe_mode_skips(monkeypatch, tmp_path, safe_mode):
    monkeypatch.setenv("AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE", safe_mode)
    (tmp_path / ".airflowignore").write_text("ignored.py\n")
    texts = {
        "made.py": "from airflow.sdk import DAG\nDAG('made')",
        "plain.py": "1",
        "ignored.py": "airflow dag",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    skipped = {tmp_path / "plain.py"} if safe_mode == "True" else set()
    assert deployment.skipped_files(tmp_path) == skipped


def test_dag_files_are_parsed(tmp_path):
    (tmp_path / "made.py").write_text("from airflow.sdk import DAG\nmade = DAG('made')")
    (tmp_path / "broken.py").write_text("import airflow.sdk.no_such_dag")
    dags, errors = deployment.parse(tmp_path, "ours")
    assert [dag.dag_id for dag in dags] == ["made"]
    ((path, error),) = errors.items()
    assert path.endswith("broken.py")
    assert "ModuleNotFoundError" in error


def test_the_name_of_this_machine(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__HOSTNAME_CALLABLE", "socket.gethostname")
    assert deployment.host() == socket.gethostname()


def test_variables_that_are_not_encrypted(session):
    from airflow.models.variable import Variable

    for name, value in (("ours_b", "1"), ("ours_a", "2"), ("oursXc", "3"), ("ours_b", "4")):
        deployment.store_plain_variable(session, name, value, "A test.")
    encrypted = Variable(key="ours_d", val="5")
    encrypted.is_encrypted = True
    session.add(encrypted)
    session.flush()
    session.expire_all()
    assert deployment.plain_variables(session, "ours_") == {"ours_a": "2", "ours_b": "4"}
    deployment.delete_variable(session, "ours_a")
    assert deployment.plain_variables(session, "ours_") == {"ours_b": "4"}


def test_which_components_run(session):
    from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    runners = (SchedulerJobRunner, TriggererJobRunner, DagProcessorJobRunner)
    assert deployment.COMPONENTS.keys() == {runner.job_type for runner in runners}
    for host, kind, state, minutes in (
        ("a", "SchedulerJob", "running", 0),
        ("a", "TriggererJob", "running", 0),
        ("b", "SchedulerJob", "running", -2),
        ("c", "SchedulerJob", "success", 0),
        ("d", "OtherJob", "running", 0),
    ):
        job = Job(job_type=kind, state=state)
        job.hostname, job.latest_heartbeat = host, NOW + minutes * MINUTE
        session.add(job)
    session.flush()
    assert deployment.components_since(session, NOW - MINUTE) == {("a", "scheduler"), ("a", "triggerer")}


def test_where_tasks_ran(session):
    from airflow.models.dag_version import DagVersion
    from airflow.models.taskinstance import TaskInstance

    (version,) = session.query(DagVersion)
    for number, (host, minutes) in enumerate([("a", 0), ("a", 0), ("b", -2)]):
        task = TaskInstance(BaseOperator(task_id=f"t{number}"), dag_version_id=version.id, run_id="0")
        task.dag_id, task.hostname, task.last_heartbeat_at = "clean", host, NOW + minutes * MINUTE
        session.add(task)
    session.flush()
    assert deployment.hosts_of_tasks_since(session, NOW - MINUTE) == {"a"}


def test_the_arguments_of_a_mysql_connection():
    """`database.hook` overrides it: the hook has no other place for the settings of a client."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    assert "self._get_conn_config_mysql_client(conn)" in inspect.getsource(MySqlHook.get_conn)


# In the scheduler


@pytest.fixture
def session():
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.utils.types import DagRunType

    import_all_models()  # Tables refer to each other.
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(DagBundleModel(name="files"))
        session.add(DagModel(dag_id="clean", bundle_name="files", max_active_runs=1, is_paused=False))
        session.add(DagVersion(dag_id="clean", bundle_name="files", version_number=1, created_at=NOW))
        for number, kind in enumerate([DagRunType.SCHEDULED, DagRunType.SCHEDULED, DagRunType.MANUAL]):
            run = DagRun(
                dag_id="clean", run_id=str(number), run_type=kind, logical_date=NOW + number * MINUTE
            )
            run.run_after, run.state = run.logical_date, "running"
            session.add(run)
        session.flush()
        session.query(DagRun).filter_by(run_id="0").one().end_date = NOW + MINUTE / 2
        session.add(Log(event="patch_dag", dag_id="clean"))
        session.flush()
        session.query(Log).one().dttm = NOW
        yield session


def test_runs_of_the_past(session):
    assert runs.ends_of_runs_going_at(session, "clean", NOW + MINUTE / 4) == [NOW + MINUTE / 2]
    assert runs.ends_of_runs_going_at(session, "clean", NOW + 2 * MINUTE) == [None]
    assert runs.ends_of_runs_going_at(session, "clean", NOW + 3 * MINUTE) == [None, None]
    last = runs.last_scheduled_run(session, "clean")
    assert last.run_id == "1"
    assert runs.session_of(last) is session
    assert runs.last_scheduled_run(session, "other") is None


def test_since_when_a_dag_is_known_and_unpaused(session):
    assert runs.known_since(session, "clean") == NOW
    assert runs.was_unpaused_after(session, "clean", NOW - MINUTE)
    assert not runs.was_unpaused_after(session, "clean", NOW)
    assert not runs.was_unpaused_after(session, "other", NOW - MINUTE)


def test_an_unpause_is_in_the_audit_log_by_these_names():
    """The name of an endpoint, or `cli_` and the name of a command's function."""
    assert {"patch_dag", "patch_dags"} <= functions("airflow.api_fastapi.core_api.routes.public.dags")
    assert "dag_unpause" in functions("airflow.cli.commands.dag_command")
    assert set(runs.UNPAUSES) == {"patch_dag", "patch_dags", "cli_dag_unpause"}


def test_room_for_a_run(session):
    model = runs.model_of(session, "clean")
    assert model.exceeds_max_non_backfill is False
    runs.update_room_for_runs(session, model)
    assert model.exceeds_max_non_backfill is True
    model.max_active_runs = 4
    runs.update_room_for_runs(session, model)
    assert model.exceeds_max_non_backfill is False


def test_the_next_run(session):
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.timetables.base import DagRunInfo

    following = NOW + 9 * MINUTE
    model = runs.model_of(session, "clean")
    assert model.next_dagrun_create_after is None
    with DAG("clean", schedule=timetables.timetable("@every 4m")) as dag:
        BaseOperator(task_id="work")
    dag = LazyDeserializedDAG.from_dag(dag)
    runs.compute_next_run(model, dag, runs.last_scheduled_run(session, "clean"))
    stored = model.next_dagrun_create_after
    assert stored == model.next_dagrun
    assert stored > datetime.now(UTC)
    session.flush()
    columns = runs.next_run_columns(DagRunInfo.exact(following))
    runs.replace_next_run(session, "clean", stored=following, columns=columns)
    session.refresh(model)
    assert model.next_dagrun_create_after == stored
    runs.replace_next_run(session, "clean", stored=stored, columns=columns)
    session.refresh(model)
    assert [getattr(model, name) for name in columns] == [following] * 4
    assert set(runs.next_run_columns(None).values()) == {None}


def test_what_a_timetable_overrides():
    from airflow.timetables.base import Timetable

    for name in ("next_dagrun_info_v2", "run_info_from_dag_run", "next_run_info_from_dag_model"):
        assert callable(getattr(Timetable, name)), name


# The rule itself

PRIVATE = (
    "airflow.models",
    "airflow.utils",
    "airflow.jobs",
    "airflow.cli",
    "airflow.dag_processing",
    "airflow.sdk.bases",
    "airflow.sdk.definitions",
    "airflow.sdk.execution_time",
    "airflow.serialization",
)


def test_no_other_module_imports_what_is_not_public():
    package = Path(iam_watcher.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        if "airflow_internals" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        for_types = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in for_types:
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names = [f"{module}{name.name}" for name in node.names]
                bad = [name for name in names if name.startswith(PRIVATE) or "._" in name]
                found += [(path.name, name) for name in bad]
    assert found == []


def test_no_other_module_uses_an_attribute_that_begins_with_an_underscore():
    """The linter finds such attributes, except where a comment allows one: `sys._getframe` is Python's."""
    package = Path(iam_watcher.__file__).parent
    allowed = [path for path in package.rglob("*.py") if "noqa: SLF001" in path.read_text()]
    assert {path.name for path in allowed if "airflow_internals" not in path.parts} == {"call_site.py"}


# The command line


def test_a_command_adds_its_arguments_to_the_parser_that_airflow_gives_it():
    code = source("airflow.cli.cli_parser")
    assert "arg.add_to_parser(sub_proc)" in code
    assert "set_defaults(func=sub.func)" in code
