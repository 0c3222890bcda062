"""An auth manager in which a user may trigger runs and may not edit DAGs, as a role can say."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class TriggerOnlyAuthManager(SimpleAuthManager):
    """SimpleAuthManager, in which the user `user` may not edit DAGs."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        if user.username == "user" and method == "PUT" and access_entity is None:
            return False
        return super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )

    def filter_authorized_dag_ids(self, *, dag_ids, user, method="GET", team_name=None):
        found = super().filter_authorized_dag_ids(
            dag_ids=dag_ids, user=user, method=method, team_name=team_name
        )
        return set() if user.username == "user" and method == "PUT" else found
