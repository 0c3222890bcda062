// The runs that the tab knows: its newest page, which is asked for again and again, and older pages on demand.

const newestFirst = (a, b) => b.after - a.after || b.n - a.n;

/** Return two lists of runs as one, newest first: by their numbers, and as `found` has them. */
export const merged = (known, found) =>
  [...new Map([...known, ...found].map((run) => [run.n, run])).values()].sort(newestFirst);

/** Return whether there are runs that are not known. */
export const hasOthers = (known, found) => found.some((run) => !known.some(({ n }) => n === run.n));

/** Return what is known with the newest page: `{runs, more}` as the server tells. */
export const withNewest = (known, { runs, more }) => {
  const oldest = runs.at(-1)?.after;
  const numbers = new Set(runs.map((run) => run.n));
  // Between the two can be runs that nobody asked for yet: the person asks for older ones again.
  if (!more || !known.runs.some((run) => numbers.has(run.n))) return { ...known, runs, isMore: more };
  // A later run that the page does not have is gone.
  return { ...known, runs: merged(known.runs.filter((run) => run.after <= oldest), runs) };
};

/** Return the moments before which to ask for older runs, until the answer has one that is not known. */
export const beforeOf = (runs) => {
  const { after } = runs.at(-1);
  return [after + 1, after]; // whole seconds: runs of the last one's second can be on the next page
};
