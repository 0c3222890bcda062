-- Sample rows with known results, for the demo. Load it after schema.sql, into empty tables.
--
-- Settings these results belong to: max_inactive_days 180, exempt names svc-*, admins exempt;
-- max_reserve_days 180; expired secrets without grace; max_share 0.5 (not reached).
--
-- Every row says what must become of it, so that a program can check:
--   user.nickname        'expect-enabled'  status is 1 after the run (and was before)
--                        'expect-disabled' status is 0 after the run; those whose name starts with
--                                          'already-disabled-' had 0 before, all others had 1
--   policy_audit.name    'expect-kept-…' is still there, 'expect-deleted-…' is gone
--   secret.name          the same
--   user_provisioning.name  'expect-normal-…' has the status normal and a home after the run,
--                        'expect failed …' has the status failed: no folder can have that name
-- user.name starts with the reason: active- inactive- never-old- never-new- already-disabled-
-- admin- svc-. In policy_audit 'expect-kept-fresh-', 'expect-kept-zero-', 'expect-deleted-old-';
-- in secret 'expect-kept-living-', 'expect-kept-never-', 'expect-deleted-expired-'.
-- The dates are relative to NOW(), so the results stay the same however late the file is loaded.

USE iam;
SET NAMES utf8;
SET SESSION time_zone = '+00:00';
SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';

CREATE TEMPORARY TABLE n (i int NOT NULL PRIMARY KEY);
INSERT INTO n
WITH digit (d) AS (
  SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
  UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
)
SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d
FROM digit a CROSS JOIN digit b CROSS JOIN digit c CROSS JOIN digit e;

-- More than 1,000 inactive users: a job that looks at the newest 1,000 only would miss most of them.
INSERT INTO user (name, nickname, status, password, email, isAdmin, loginedAt, createdAt)
SELECT
  CONCAT(kind.prefix, LPAD(n.i, 4, '0')),
  kind.nickname,
  kind.status,
  'not-a-password',
  CONCAT(kind.prefix, LPAD(n.i, 4, '0'), '@example.invalid'),
  kind.isAdmin,
  NOW() - INTERVAL kind.login_first + MOD(n.i, kind.login_spread) DAY,
  NOW() - INTERVAL kind.created DAY
FROM (
  SELECT 'inactive-' AS prefix, 1200 AS how_many, 'expect-disabled' AS nickname, 1 AS status,
         0 AS isAdmin, 181 AS login_first, 700 AS login_spread, 900 AS created
  UNION ALL SELECT 'active-', 1500, 'expect-enabled', 1, 0, 0, 180, 900
  UNION ALL SELECT 'never-old-', 40, 'expect-disabled', 1, 0, NULL, 1, 181
  UNION ALL SELECT 'never-new-', 60, 'expect-enabled', 1, 0, NULL, 1, 179
  UNION ALL SELECT 'already-disabled-', 100, 'expect-disabled', 0, 0, 400, 1, 900
  UNION ALL SELECT 'admin-', 5, 'expect-enabled', 1, 1, 400, 1, 900
  UNION ALL SELECT 'svc-', 15, 'expect-enabled', 1, 0, 400, 1, 900
) AS kind JOIN n ON n.i <= kind.how_many
ORDER BY n.i;

INSERT INTO policy (name, username, policyShadow)
SELECT CONCAT('policy-of-', name), name, '{"effect": "allow"}' FROM user WHERE name LIKE 'active-00%';

INSERT INTO policy_audit (id, name, username, policyShadow, createdAt, updatedAt, deletedAt)
SELECT
  1000000 + n.i * 3 + kind.place,
  CONCAT(kind.prefix, LPAD(n.i, 4, '0')),
  'active-0001',
  '{"effect": "deny"}',
  NOW() - INTERVAL 900 DAY,
  NOW() - INTERVAL 900 DAY,
  NOW() - INTERVAL kind.deleted_first + MOD(n.i, kind.deleted_spread) DAY
FROM (
  SELECT 'expect-deleted-old-' AS prefix, 6000 AS how_many, 0 AS place,
         181 AS deleted_first, 500 AS deleted_spread
  UNION ALL SELECT 'expect-kept-fresh-', 4000, 1, 0, 180
) AS kind JOIN n ON n.i <= kind.how_many;

-- Without a deletedAt a row gets the column's default: a zero date, which is not an old date.
INSERT INTO policy_audit (id, name, username, policyShadow, createdAt)
SELECT
  1000000 + n.i * 3 + 2,
  CONCAT('expect-kept-zero-', LPAD(n.i, 4, '0')),
  'active-0001',
  '{"effect": "deny"}',
  NOW() - INTERVAL 900 DAY
FROM n WHERE n.i <= 25;

INSERT INTO secret (name, username, secretID, secretKey, expires)
SELECT
  CONCAT(kind.prefix, LPAD(n.i, 4, '0')),
  CONCAT('active-', LPAD(n.i, 4, '0')),
  CONCAT('id-', kind.prefix, LPAD(n.i, 4, '0')),
  'not-a-secret',
  CASE kind.prefix
    WHEN 'expect-kept-never-' THEN 0
    WHEN 'expect-kept-living-' THEN UNIX_TIMESTAMP() + 86400 * n.i
    ELSE UNIX_TIMESTAMP() - 3600 * n.i
  END
FROM (
  SELECT 'expect-deleted-expired-' AS prefix, 300 AS how_many
  UNION ALL SELECT 'expect-kept-living-', 500
  UNION ALL SELECT 'expect-kept-never-', 200
) AS kind JOIN n ON n.i <= kind.how_many;

INSERT INTO user_provisioning (name)
SELECT CONCAT(kind.prefix, LPAD(n.i, 4, '0'))
FROM (
  SELECT 'expect-normal-' AS prefix, 400 AS how_many
  UNION ALL SELECT 'expect failed ', 20
) AS kind JOIN n ON n.i <= kind.how_many;

DROP TEMPORARY TABLE n;
