"""Every name of Airflow that the page needs and that Airflow does not promise to keep.

tests/dags/test_page_airflow.py has a test for each, which says what would break.
"""

from __future__ import annotations

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.models.dag import DagModel, DagTag
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

__all__ = [
    "DISPLAY_NAME",
    "DagAccessEntity",
    "DagDetails",
    "DagModel",
    "DagRun",
    "DagRunTriggeredByType",
    "DagRunType",
    "DagTag",
    "DagVersion",
    "GetUserDep",
    "ParseImportError",
    "SerializedDagModel",
    "SessionDep",
    "TaskInstance",
    "XComModel",
    "action_logging",
    "create_session",
    "get_auth_manager",
    "get_user",
    "requires_access_dag",
    "trigger_dag",
]

# The name that a DAG file gives to a DAG beside its id; NULL without one. The public `dag_display_name` is
# the id then, which each answer of the page has already.
DISPLAY_NAME = DagModel._dag_display_property_value  # noqa: SLF001  see above
