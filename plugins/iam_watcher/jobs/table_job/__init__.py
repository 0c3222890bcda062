"""What the jobs on the rows of one table share: arguments, conditions, the plan, one run, its report."""
