// What the run reports of a run say together. A run has one of each job, and of each part of a mapped job; the server
// sends them in a fixed order.

// What each job does with what, and which reasons mean something else there; any other operator that returns a run report "changes rows".
const JOBS = {
  DisableInactiveUsersOperator: { rows: "users", done: "disabled", undo: "undo" },
  PurgeRowsOperator: { rows: "rows", done: "deleted", undo: "archive" },
  ReenableUsersOperator: { rows: "users", done: "enabled", n: "enabled", of: "listed" },
  ProcessRowsOperator: { rows: "rows", done: "processed", n: "done", of: "claimed", dry: "remaining", ofDry: "remaining" },
  RestoreRowsOperator: {
    rows: "rows", done: "restored", n: "restored", of: "rows", reasons: { foreign_key: "restored.no_parent" },
  },
};
const OTHER = { rows: "rows", done: "changed" };

export const jobOf = (watcher, task) => JOBS[watcher.jobs?.[task.split("/")[0]]] ?? OTHER;

/** Return the reports of a run, each with its name: the task, or "task/map index". */
export const reportsOf = (run) => Object.entries(run.reports ?? {});

/**
 * Return the counts of a report under the names that all jobs share. Earlier tries of the run count; `before` is how
 * many rows they wrote. Of what they examined, a report knows no more than these rows.
 */
export const counts = (report, job) => {
  const before = report.changed_before ?? 0;
  const n = (report[job.n ?? "changed"] ?? 0) + before;
  const dry = job.dry ? report[job.dry] : job.n ? n : report.matched;
  const of = report[(report.dry_run && job.ofDry) || (job.of ?? "examined")] ?? 0;
  return { n: (report.dry_run ? dry : n) ?? 0, of: of + before, before };
};

/** Return the counts of a run's reports, with those added that the page has the same words for. */
export const sums = (watcher, run) => {
  const found = new Map();
  for (const [task, report] of reportsOf(run)) {
    const job = jobOf(watcher, task);
    const isDry = report.dry_run === true;
    const words = [job.rows, job.done, isDry].join();
    const { n, of } = counts(report, job);
    const sum = found.get(words) ?? { job, isDry, n: 0, of: 0 };
    found.set(words, { ...sum, n: sum.n + n, of: sum.of + of });
  }
  return [...found.values()];
};

/** Return whether the jobs of a run wrote something, as far as their reports say. */
export const hasWritten = (watcher, run) => sums(watcher, run).some((sum) => sum.n > 0 && !sum.isDry);

export const errorOf = (run) => reportsOf(run).find(([, report]) => report.error)?.[1].error;

export const limitsOf = (run) => [...new Set(reportsOf(run).map(([, report]) => report.stopped).filter(Boolean))];

/** Return the sum of a number of all reports. */
export const total = (run, name) => reportsOf(run).reduce((sum, [, report]) => sum + (report[name] ?? 0), 0);

/** Return pairs of a report: why rows were left alone, as the words call it, and how many. */
export const reasonsOf = ({ skipped = {} }, job) =>
  Object.entries(skipped).map(([reason, n]) => [job.reasons?.[reason] ?? reason, n]);

/** Return pairs: a reason, and how many rows all jobs left alone for it. */
export const leftAlone = (watcher, run) => {
  const found = new Map();
  for (const [task, report] of reportsOf(run)) {
    for (const [reason, n] of reasonsOf(report, jobOf(watcher, task))) found.set(reason, (found.get(reason) ?? 0) + n);
  }
  return [...found];
};
