// The watchers as the server tells of them: the history at first and each five minutes, and what changed each two seconds.
import { changes, watchers } from "./api.js";
import { barsIn, COUNTED, countedAs, DAY, isDone, shownState, STATES, verdict } from "./story.js";
import { useEffect, useRef, useState } from "./react.js";

const EVERY = 2_000; // ms between two questions
const AFTER_ERROR = 10_000;
const AGAIN = 300_000; // ms after which everything is asked for again: a person may have changed an old run, and old ones leave the totals

const LETTERS = Object.fromEntries(Object.entries(STATES).map(([letter, state]) => [state, letter]));

/** Return bars, oldest first, as the server sends them. */
const inColumns = (bars) => ({
  s: bars.map((bar) => bar.letter).join(""),
  r: bars.some((bar) => bar.rows !== null) ? bars.map((bar) => bar.rows) : null,
  d: bars.map((bar) => bar.time),
  t: bars.map((bar, n) => bar.at - (bars[n - 1]?.at ?? 0)),
});

/** Put runs that changed into a watcher: those that are over become bars when newer ones come. */
export const withRuns = (watcher, found, now) => {
  const known = new Map(watcher.runs.map((run) => [run.n, run]));
  for (const run of found) known.set(run.n, run);
  const runs = [...known.values()].sort((a, b) => b.after - a.after || b.n - a.n);
  const lastDone = runs.find(isDone);
  const failed = [verdict({ runs }), verdict({ runs: runs.filter((run) => !run.dry) })].filter((run) => run?.state === "failed");
  const isWhole = (run) => !isDone(run) || run === lastDone || failed.includes(run);
  const bars = barsIn(watcher);
  const last = bars.at(-1)?.at;
  for (const run of runs.filter((one) => !isWhole(one)).reverse()) {
    // A run that has a bar already, such as one that was cleared and ran again: the bar stands where it stood.
    if (run.after <= last && bars.some((bar) => bar.at === run.after)) continue;
    bars.push({ letter: LETTERS[shownState(run)], at: run.after, rows: run.changed ?? null, time: run.took ?? null });
  }
  bars.sort((a, b) => a.at - b.at);
  const earlier = { ...watcher.earlier };
  for (const bar of bars.splice(0, Math.max(0, bars.length - 29))) {
    const state = countedAs(STATES[bar.letter]);
    if (bar.at > now - DAY && COUNTED.includes(state)) earlier[state] = (earlier[state] ?? 0) + 1;
  }
  return { ...watcher, runs: runs.filter(isWhole), bars: inColumns(bars), earlier };
};

const changed = (all, delta) => {
  const next = new Map((delta.next ?? []).map(([id, ...rest]) => [id, rest]));
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  return all
    .filter((watcher) => !delta.next || next.has(watcher.id))
    .map((watcher) => {
      const lock = delta.locks[watcher.id];
      const runs = (delta.runs[watcher.id] ?? []).filter((run) => !watcher.runs.some((known) => same(known, run)));
      const coming = next.get(watcher.id);
      const plan = coming && { paused: coming[0] === 1, next: coming[1] ?? undefined, broken: coming[2] === 1 };
      const isNew = plan && (plan.paused !== Boolean(watcher.paused) || plan.next !== watcher.next || plan.broken !== Boolean(watcher.broken));
      if (!runs.length && !isNew && same(lock, watcher.lock)) return watcher;
      const updated = { ...watcher, lock, ...(isNew ? plan : {}) };
      return runs.length ? withRuns(updated, runs, delta.now) : updated;
    });
};

const loadAll = async (signal, onPart) => {
  let all = [];
  let isPart;
  do {
    const answer = await watchers(all.length, signal);
    all = [...all, ...answer.watchers];
    isPart = all.length < answer.total && answer.watchers.length > 0;
    onPart({ ...answer, watchers: all, isPart });
  } while (isPart);
};

/** Return `{watchers, now, home, isPart, error, reload}`; watchers is undefined until the first answer. */
export const useLive = () => {
  const [state, set] = useState({});
  const [generation, setGeneration] = useState(0);
  const latest = useRef({});
  useEffect(() => {
    const stop = new AbortController();
    let timer;
    let loadedAt = 0;
    const put = (found) => {
      latest.current = { ...latest.current, ...found, error: undefined, asked: Date.now() };
      set(latest.current);
    };
    const ask = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      let pause = EVERY;
      try {
        if (!loadedAt || Date.now() - loadedAt > AGAIN) {
          const isFirst = !latest.current.watchers;
          // Later the list stays as it is until the new one is complete.
          await loadAll(stop.signal, (found) => (isFirst || !found.isPart) && put(found));
          loadedAt = Date.now();
        } else {
          const { watchers: all, digest } = latest.current;
          const after = Math.max(latest.current.newest ?? 0, ...all.flatMap((watcher) => watcher.runs.map((run) => run.n)));
          const unfinished = all.flatMap((watcher) => watcher.runs.filter((run) => !isDone(run)).map((run) => run.n));
          const delta = await changes(after, digest, unfinished, stop.signal);
          const isUnknown = (delta.next ?? []).some(([id]) => !all.some((watcher) => watcher.id === id));
          if (isUnknown) loadedAt = 0;
          const newest = Math.max(after, ...Object.values(delta.runs).flat().map((run) => run.n));
          put({ watchers: changed(all, delta), now: delta.now, digest: delta.digest, newest });
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        pause = AFTER_ERROR;
        latest.current = { ...latest.current, error };
        set(latest.current);
      }
      timer = setTimeout(ask, pause);
    };
    const onVisible = () => {
      if (!document.hidden) ask();
    };
    document.addEventListener("visibilitychange", onVisible);
    ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [generation]);
  return { ...state, reload: () => setGeneration((number) => number + 1) };
};
