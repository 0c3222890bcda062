"""Jobs that change rows of a MySQL or MariaDB table, each an operator over the chunk walk of `walk`."""
