// The watchers as the server tells of them: the history at first and each five minutes, and what changed each two seconds.
import { changes, watchers } from "./api.js";
import { COUNTED, DAY, isDone, STATES } from "./story.js";
import { useEffect, useRef, useState } from "./react.js";

const EVERY = 2_000; // ms between two questions
const AFTER_ERROR = 10_000;
const AGAIN = 300_000; // ms after which everything is asked for again: a person may have changed an old run, and old ones leave the totals

/** Put runs that changed into a watcher: those that are over become bars when newer ones come. */
const withRuns = (watcher, found, now) => {
  const known = new Map(watcher.runs.map((run) => [run.n, run]));
  for (const run of found) known.set(run.n, run);
  const runs = [...known.values()].sort((a, b) => b.after - a.after || b.n - a.n);
  const lastDone = runs.find(isDone);
  const whole = runs.filter((run) => !isDone(run) || run === lastDone);
  const over = runs.filter((run) => isDone(run) && run !== lastDone).reverse();
  const { s, r, d, t } = watcher.bars;
  const letters = { success: "s", skipped: "k", failed: "f" };
  let last = t.reduce((sum, step) => sum + step, 0);
  const bars = { s, r: r && [...r], d: [...d], t: [...t] };
  for (const run of over) {
    if (run.after < last) continue; // an old run that was cleared and ran again: its bar stands where it stood
    bars.s += run.dry ? "d" : letters[run.state];
    if (bars.r === null && run.changed !== undefined) bars.r = bars.d.map(() => null);
    bars.r?.push(run.changed ?? null);
    bars.d.push(run.took ?? null);
    bars.t.push(run.after - last);
    last = run.after;
  }
  const cut = Math.max(0, bars.s.length - 29);
  const earlier = { ...watcher.earlier };
  if (cut) {
    let moment = 0;
    for (let number = 0; number < cut; number += 1) {
      moment += bars.t[number];
      const state = STATES[bars.s[number]];
      if (moment > now - DAY && COUNTED.includes(state)) earlier[state] = (earlier[state] ?? 0) + 1;
    }
    const first = bars.t.slice(0, cut + 1).reduce((sum, step) => sum + step, 0);
    bars.s = bars.s.slice(cut);
    bars.r = bars.r && bars.r.slice(cut);
    bars.d = bars.d.slice(cut);
    bars.t = [first, ...bars.t.slice(cut + 1)];
  }
  return { ...watcher, runs: whole, bars, earlier };
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
  let answer;
  do {
    answer = await watchers(all.length, signal);
    all = [...all, ...answer.watchers];
    onPart({ ...answer, watchers: all });
  } while (all.length < answer.total && answer.watchers.length);
};

/** Return `{watchers, now, home, error, reload}`; watchers is undefined until the first answer. */
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
          await loadAll(stop.signal, put);
          loadedAt = Date.now();
        } else {
          const { watchers: all, digest } = latest.current;
          const after = Math.max(latest.current.newest ?? 0, ...all.flatMap((watcher) => watcher.runs.map((run) => run.n)));
          const unfinished = all.flatMap((watcher) => watcher.runs.filter((run) => !isDone(run)).map((run) => run.n));
          const delta = await changes(after, digest, unfinished, stop.signal);
          const isUnknown = (delta.next ?? []).some(([id]) => !all.some((watcher) => watcher.id === id));
          if (isUnknown) loadedAt = 0;
          put({ watchers: changed(all, delta), now: delta.now, digest: delta.digest, newest: after });
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
