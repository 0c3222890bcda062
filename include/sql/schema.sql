-- The tables of IAM that the watchers work on, as our tests and the demo create them.
-- Load it with the mariadb (or mysql) client, or as a container's init file:
--     mariadb < include/sql/schema.sql
-- It creates the database `iam` and refuses (error 1050) to touch tables that are already there.

-- policy_audit.deletedAt defaults to a zero date, which a session with NO_ZERO_DATE refuses to create;
-- the triggers keep the mode they were created under.
SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION';
SET NAMES utf8;

CREATE DATABASE IF NOT EXISTS iam DEFAULT CHARACTER SET utf8;
USE iam;

CREATE TABLE user (
  id           bigint unsigned  NOT NULL AUTO_INCREMENT,
  instanceID   varchar(32)          NULL DEFAULT NULL,
  name         varchar(45)      NOT NULL,
  status       int              NOT NULL DEFAULT 1 COMMENT '1 usable, 0 disabled',
  nickname     varchar(30)      NOT NULL,
  password     varchar(255)     NOT NULL,
  email        varchar(256)     NOT NULL,
  phone        varchar(20)          NULL DEFAULT NULL,
  isAdmin      tinyint unsigned NOT NULL DEFAULT 0,
  extendShadow longtext             NULL DEFAULT NULL,
  loginedAt    timestamp            NULL DEFAULT NULL COMMENT 'last login',
  createdAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updatedAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY idx_name (name),
  UNIQUE KEY idx_instanceID (instanceID)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8;

CREATE TABLE policy (
  id           bigint unsigned  NOT NULL AUTO_INCREMENT,
  instanceID   varchar(32)          NULL DEFAULT NULL,
  name         varchar(45)      NOT NULL,
  username     varchar(255)     NOT NULL,
  policyShadow longtext             NULL DEFAULT NULL,
  extendShadow longtext             NULL DEFAULT NULL,
  createdAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updatedAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY idx_instanceID (instanceID),
  KEY idx_username (username),
  CONSTRAINT fk_policy_user FOREIGN KEY (username) REFERENCES user (name)
    ON DELETE NO ACTION ON UPDATE NO ACTION
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8;

-- Its id is the policy's: the order of the ids is not the order of the deletions.
CREATE TABLE policy_audit (
  id           bigint unsigned  NOT NULL,
  instanceID   varchar(32)          NULL DEFAULT NULL,
  name         varchar(45)      NOT NULL,
  username     varchar(255)     NOT NULL,
  policyShadow longtext             NULL DEFAULT NULL,
  extendShadow longtext             NULL DEFAULT NULL,
  createdAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updatedAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  deletedAt    timestamp        NOT NULL DEFAULT '0000-00-00 00:00:00',
  PRIMARY KEY (id),
  KEY idx_username (username)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8;

CREATE TABLE secret (
  id           bigint unsigned  NOT NULL AUTO_INCREMENT,
  instanceID   varchar(32)          NULL DEFAULT NULL,
  name         varchar(45)      NOT NULL,
  username     varchar(255)     NOT NULL,
  secretID     varchar(36)      NOT NULL,
  secretKey    varchar(255)     NOT NULL,
  expires      int unsigned     NOT NULL DEFAULT 1534308590 COMMENT 'unix seconds, 0 never expires',
  description  varchar(255)     NOT NULL DEFAULT '',
  extendShadow longtext             NULL DEFAULT NULL,
  createdAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updatedAt    timestamp        NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY idx_instanceID (instanceID),
  KEY idx_username (username),
  CONSTRAINT fk_secret_user FOREIGN KEY (username) REFERENCES user (name)
    ON DELETE NO ACTION ON UPDATE NO ACTION
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8;

-- Not a table of IAM: the example of row processing, dags/provision_users.py.
CREATE TABLE user_provisioning (
  id        bigint unsigned NOT NULL AUTO_INCREMENT,
  name      varchar(45)     NOT NULL COMMENT 'of the user',
  status    enum('pending', 'work', 'normal', 'failed') NOT NULL DEFAULT 'pending',
  home      varchar(255)        NULL COMMENT 'the folder that was made for the user',
  createdAt datetime(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  claimedAt datetime(6)         NULL,
  claimedBy varchar(255)        NULL,
  attempts  int unsigned    NOT NULL DEFAULT 0,
  retryAt   datetime(6)         NULL,
  error     text                NULL,
  PRIMARY KEY (id),
  KEY idx_status_retryAt (status, retryAt)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8;

DELIMITER $$

CREATE TRIGGER policy_before_delete BEFORE DELETE ON policy FOR EACH ROW
BEGIN
  INSERT INTO policy_audit
    (id, instanceID, name, username, policyShadow, extendShadow, createdAt, updatedAt, deletedAt)
  VALUES
    (OLD.id, OLD.instanceID, OLD.name, OLD.username, OLD.policyShadow, OLD.extendShadow,
     OLD.createdAt, OLD.updatedAt, CURRENT_TIMESTAMP);
END$$

CREATE TRIGGER user_before_delete BEFORE DELETE ON user FOR EACH ROW
BEGIN
  DELETE FROM secret WHERE username = OLD.name;
  DELETE FROM policy WHERE username = OLD.name;
END$$

DELIMITER ;
