-- The tables of `make chaos`. Triggers write the log of the witness, in the same transaction as each change. MariaDB
-- keeps the order of the commits (system versioning by transactions), by its own clock.

USE iam;

CREATE TABLE chaos_log (
  id      bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  kind    varchar(20)     NOT NULL COMMENT 'purge, user, rows',
  row_id  bigint unsigned NOT NULL,
  good    tinyint         NOT NULL COMMENT 'whether the job may do that to this row',
  session bigint unsigned NOT NULL COMMENT 'of the database',
  at      timestamp(6)    NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  began   bigint unsigned GENERATED ALWAYS AS ROW START,
  ended   bigint unsigned GENERATED ALWAYS AS ROW END,
  PERIOD FOR SYSTEM_TIME (began, ended)
) ENGINE = InnoDB WITH SYSTEM VERSIONING;

-- Steps of the jobs that change no row.
CREATE TABLE chaos_step (
  id         bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  watcher    varchar(50)     NOT NULL,
  deployment varchar(20)     NOT NULL,
  worker     varchar(20)     NOT NULL,
  tick       varchar(40)     NOT NULL,
  hold       varchar(250)    NOT NULL COMMENT 'one execution of the work',
  what       varchar(10)     NOT NULL COMMENT 'begin, step, end',
  at         timestamp(6)    NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB;

-- The clients choose the keys at random, as UUIDs are. So a second purge finds rows before those that a stopped first
-- one has locked, and would write between two of its transactions.
CREATE TABLE chaos_purge (
  id        bigint unsigned NOT NULL PRIMARY KEY,
  createdAt datetime        NOT NULL,
  KEY idx_createdAt (createdAt)
) ENGINE = InnoDB;

CREATE TABLE chaos_rows (
  id        bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  fails    tinyint         NOT NULL,
  status    enum('pending', 'work', 'done', 'failed') NOT NULL DEFAULT 'pending',
  claimedAt datetime(6)         NULL,
  claimedBy varchar(255)        NULL,
  attempts  int unsigned    NOT NULL DEFAULT 0,
  retryAt   datetime(6)         NULL,
  error     text                NULL,
  createdAt datetime(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  KEY idx_status_retryAt (status, retryAt)
) ENGINE = InnoDB;

-- What the function of the rows did outside of their table.
CREATE TABLE chaos_effect (
  id     bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  row_id bigint unsigned NOT NULL,
  at     timestamp(6)    NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB;

DELIMITER $$

-- Some milliseconds for each row, so that a run takes seconds and most of them are within a transaction.
CREATE TRIGGER chaos_purged BEFORE DELETE ON chaos_purge FOR EACH ROW
BEGIN
  DO SLEEP(0.008);
  INSERT INTO chaos_log (kind, row_id, good, session)
    VALUES ('purge', OLD.id, OLD.createdAt < NOW() - INTERVAL 30 DAY, CONNECTION_ID());
END$$

CREATE TRIGGER chaos_user_disabled AFTER UPDATE ON user FOR EACH ROW
BEGIN
  IF OLD.status = 1 AND NEW.status = 0 THEN
    DO SLEEP(0.008);
    INSERT INTO chaos_log (kind, row_id, good, session) VALUES ('user', OLD.id,
      COALESCE(OLD.loginedAt, OLD.createdAt) < NOW() - INTERVAL 30 DAY AND OLD.isAdmin = 0
        AND OLD.name NOT LIKE 'svc-%', CONNECTION_ID());
  END IF;
END$$

CREATE TRIGGER chaos_row_finished AFTER UPDATE ON chaos_rows FOR EACH ROW
BEGIN
  IF NEW.status IN ('done', 'failed') THEN
    INSERT INTO chaos_log (kind, row_id, good, session)
      VALUES ('rows', NEW.id, (NEW.status = 'failed') = NEW.fails, CONNECTION_ID());
  END IF;
END$$

DELIMITER ;

GRANT SELECT, DELETE ON iam.chaos_purge TO iam_watcher;
GRANT SELECT, UPDATE ON iam.chaos_rows TO iam_watcher;
GRANT INSERT ON iam.chaos_step TO iam_watcher;
GRANT INSERT ON iam.chaos_effect TO iam_watcher;
