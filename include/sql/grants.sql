-- All that the account of the watchers may do in IAM's database. Load it after schema.sql, as an admin.
-- The account must exist:  CREATE USER iam_watcher IDENTIFIED BY '<password>';

-- By column: no fault of ours can read a password, or change more of a user than the status.
GRANT SELECT (id, name, email, status, isAdmin, loginedAt, createdAt, updatedAt), UPDATE (status)
  ON iam.user TO iam_watcher;
GRANT SELECT, DELETE ON iam.policy_audit TO iam_watcher;
GRANT SELECT, DELETE ON iam.secret TO iam_watcher;

-- The way back from a purge, restore_archive. Without it, leave this out.
GRANT INSERT ON iam.policy_audit TO iam_watcher;

-- The way back for users, reenable_users. Without it, leave this out.
GRANT UPDATE (loginedAt) ON iam.user TO iam_watcher;

-- Secrets that expire with their user (on_disable="expire_secrets"), and their way back.
GRANT UPDATE (expires) ON iam.secret TO iam_watcher;
