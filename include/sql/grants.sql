-- All rights that the account of the watchers needs in IAM's database. Run it as an admin, after schema.sql.
-- The account must exist:  CREATE USER iam_watcher IDENTIFIED BY '<password>';

-- Rights on single columns: no error in a job can read a password, or change more of a user than the status.
GRANT SELECT (id, name, email, status, isAdmin, loginedAt, createdAt, updatedAt), UPDATE (status)
  ON iam.user TO iam_watcher;
GRANT SELECT, DELETE ON iam.policy_audit TO iam_watcher;
GRANT SELECT, DELETE ON iam.secret TO iam_watcher;

-- To restore deleted rows (restore_archive). Leave it out if you don't use restore_archive.
GRANT INSERT ON iam.policy_audit TO iam_watcher;

-- To re-enable users (reenable_users). Leave it out if you don't use reenable_users.
GRANT UPDATE (loginedAt) ON iam.user TO iam_watcher;

-- To expire the secrets of disabled users (on_disable="expire_secrets"), and to restore these secrets.
GRANT UPDATE (expires) ON iam.secret TO iam_watcher;

-- The example provision_users, whose table is no table of IAM. Without it, leave this out.
GRANT SELECT, UPDATE ON iam.user_provisioning TO iam_watcher;
