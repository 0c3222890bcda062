-- A table with three old sessions, two new ones, and one that has not ended.
CREATE DATABASE IF NOT EXISTS shop;
CREATE TABLE shop.session (
  id      int       NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user    int       NOT NULL,
  endedAt timestamp NULL DEFAULT NULL
);
INSERT INTO shop.session (user, endedAt) VALUES
  (1, NOW() - INTERVAL 90 DAY), (2, NOW() - INTERVAL 60 DAY), (3, NOW() - INTERVAL 31 DAY),
  (1, NOW() - INTERVAL 29 DAY), (2, NOW() - INTERVAL 1 DAY), (4, NULL);

-- The rights of the watcher: no others are needed.
CREATE USER IF NOT EXISTS watcher IDENTIFIED BY 'watcher';
GRANT SELECT, DELETE ON shop.session TO watcher;
