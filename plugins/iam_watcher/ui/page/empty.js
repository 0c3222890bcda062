// Without a watcher: how to write the first one.
import { say } from "./words.js";
import { h } from "./react.js";

const EXAMPLE = `"""An Airflow DAG that deletes old audit rows."""
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher("clean_old_audit", schedule="@every 1d"):
    PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=180,
    )
`;

export const Empty = () => h("section", { className: "card" },
  h("h2", null, say("empty.title")),
  h("p", null, say("empty.text")),
  h("pre", { style: { overflowX: "auto", marginTop: "10px", fontSize: "13px" } }, EXAMPLE));
