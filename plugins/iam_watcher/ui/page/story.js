// What a run did, in a sentence; and what a watcher needs a person for. Data in, texts out.
import { at, duration, number, percent, relative, short } from "./format.js";
import { errorOf, hasWritten, jobOf, leftAlone, limitsOf, reportsOf, sums, total } from "./reports.js";
import { has, isByAssets, say, tell } from "./words.js";
import { h } from "./react.js";

const GO = "unknown (Go)";

export const isDone = (run) => run.state === "success" || run.state === "skipped" || run.state === "failed";

/** Return the state of a run as its dot and its bar show it. */
export const shownState = (run) => {
  if (run.state === "skipped" && run.elsewhere) return "elsewhere";
  return run.state === "success" && run.dry ? "dry" : run.state;
};

/** Return the run that tells whether a watcher fails: no skip and no dry run makes a failure good, but of a dry run. */
export const verdict = (watcher) => {
  const tried = watcher.runs.filter((run) => isDone(run) && run.state !== "skipped");
  const isDry = (run) => Boolean(run.dry || run.dag); // `dag`: the DAG that does dry runs of others
  return tried[0]?.state === "failed" ? tried[0] : tried.find((run) => !isDry(run));
};

/** Return what the safety limit said, or undefined. */
export const stopped = (run) => {
  for (const [task, report] of reportsOf(run)) {
    if (run.state === "failed" && !report.changed && report.max_share !== undefined && report.eligible !== undefined
      && report.matched > report.max_share * report.eligible) return { task, report };
  }
  return undefined;
};

/** Return who an owner is, in short: a deployment, another watcher of this one, or the Go program. */
export const who = (owner, home, since) => {
  if (!owner) return "";
  const [deployment, dag] = owner.split("/");
  if (since === undefined || since === null || dag === undefined) return say("lock.foreign");
  return deployment === home ? dag : deployment;
};

const skipped = (run, home, now) => {
  const { owner, since, deployment } = run.holder ?? {};
  if (!owner) return tell("run.skipped");
  if (!since && deployment !== GO) return tell("run.skipped.done", { who: deployment ?? owner });
  const name = deployment === GO ? say("lock.foreign") : who(owner, home, since);
  const began = since ? Date.parse(since) / 1000 : undefined;
  return began ? tell("run.skipped.since", { who: name, when: short(began, now) }) : tell("run.skipped.who", { who: name });
};

const did = ({ job, isDry, n, of }) => {
  const words = { n: number(n), of: number(of), rows: say(`rows.${job.rows}`, { n: n || of }), done: say(`job.${job.done}`) };
  if (n === 0) return tell(isDry ? "did.dry.none" : "did.none", { ...words, rows: say(`rows.${job.rows}`, { n: 2 }) });
  return tell(isDry ? "did.dry" : "did.plain", { ...words, rows: say(`rows.${job.rows}`, { n: of }) });
};

const didAll = (watcher, run) => {
  const all = sums(watcher, run);
  const some = all.filter((sum) => sum.n > 0);
  const sentences = (some.length ? some : all.slice(0, 1)).map(did);
  return sentences.length === 1 ? sentences[0]
    : sentences.flatMap((nodes, n) => [n ? say("did.join") : "", h("span", { key: `s${n}` }, ...nodes)]).filter(Boolean);
};

/** Return an error's sentence without the name of its class. */
export const plainError = (text) => text.replace(/^\w+(Error|Exception)?: (?=[A-Z])/, "");

/** Return what a run did as nodes. */
export const sentence = (watcher, run, home, now) => {
  if (!run) return tell("run.never");
  if (run.state === "queued") return tell(watcher.paused ? "run.queued.paused" : "run.queued");
  if (run.state === "running") {
    const owner = watcher.lock?.owner;
    if (run.waits) {
      return owner && owner !== ownerOf(watcher, run, home)
        ? tell("run.waiting.who", { who: who(owner, home, watcher.lock.since) }) : tell("run.waiting");
    }
    return tell("run.running");
  }
  if (run.state === "skipped") return skipped(run, home, now);
  if (run.state === "failed") {
    const limit = stopped(run);
    if (limit) {
      const { matched, eligible } = limit.report;
      return tell("run.stopped", {
        n: number(matched), of: number(eligible), rows: say(`rows.${jobOf(watcher, limit.task).rows}`, { n: eligible }),
      });
    }
    const error = errorOf(run);
    if (error) return tell("run.failed.error", { error: plainError(error) });
    return run.failed ? tell("run.failed.task", { task: run.failed }) : tell("run.failed");
  }
  if (run.nothing) return tell("run.idle");
  return reportsOf(run).length ? didAll(watcher, run) : tell("run.done");
};

export const ownerOf = (watcher, run, home) => `${home}/${watcher.id}/${run.id}`;

export const startedBy = (run) => {
  if (run.user) return say("by.user", { user: run.user });
  return say(run.kind === "scheduled" ? "by.schedule" : "by.event");
};

/** Return the small facts below a finished run's sentence. */
export const facts = (watcher, run, now) => {
  const found = [short(run.start ?? run.after, now)];
  if (run.took !== undefined && run.state !== "skipped") found.push(duration(run.took));
  found.push(startedBy(run));
  if (stopped(run) && !hasWritten(watcher, run)) found.push(say("run.nothing"));
  for (const limit of limitsOf(run)) if (has(`limit.${limit}`)) found.push(say("did.limit", { limit: say(`limit.${limit}`) }));
  for (const name of ["failed", "retried", "remaining"]) {
    const n = total(run, name);
    if (n) found.push(`${number(n)} ${say(`report.${name}`)}`);
  }
  if (run.state === "success") for (const [reason, n] of leftAlone(watcher, run).slice(0, 2)) found.push(`${number(n)} ${reasonWords(reason)}`);
  const worked = lastWorked(watcher);
  if (run.state !== "success" && !run.elsewhere && worked) found.push(say("run.worked", { when: short(worked, now) }));
  const unreal = noReal(watcher);
  if (unreal) found.push(say("run.unreal", { n: unreal }));
  return found;
};

export const reasonWords = (reason) => (has(`reason.${reason}`) ? say(`reason.${reason}`) : reason.replaceAll("_", " "));

/** Return the finished runs, newest first, as far as the page knows them: state and time. */
export const past = (watcher) => {
  const found = watcher.runs.filter(isDone).map((run) => ({ state: shownState(run), at: run.start ?? run.after, after: run.after }));
  const others = barsIn(watcher).map(({ letter, at: after }) => ({ state: STATES[letter], at: after, after }));
  return [...found, ...others.reverse()].sort((a, b) => b.after - a.after);
};

/** Return the runs that the page has as bars, oldest first. */
export const barsIn = ({ bars: { s, r, d, t } }) => {
  let moment = 0;
  return [...s].map((letter, n) => ({ letter, at: (moment += t[n]), rows: r?.[n] ?? null, time: d[n] }));
};

export const DAY = 86_400;
export const COUNTED = ["failed", "skipped"]; // states of which the totals tell

export const countedAs = (state) => (state === "elsewhere" ? "skipped" : state);

/** Return how many runs ended in a state within 24 hours; the server counts those that are older than the bars. */
export const inADay = (watcher, state, now) =>
  (watcher.earlier?.[state] ?? 0) + past(watcher).filter((run) => countedAs(run.state) === state && run.at > now - DAY).length;

export const STATES = { s: "success", d: "dry", k: "skipped", e: "elsewhere", f: "failed", r: "running", q: "queued" };

// As the notices have it: a watcher whose scheduled time another deployment did has worked.
export const lastWorked = (watcher) => past(watcher).find((run) => run.state === "success" || run.state === "elsewhere")?.at;

const KNOWN = 30; // runs of a watcher that the list has

/** Return how many runs the list has of a watcher, if all are skips and dry runs: it may not know the last failure. */
const noReal = (watcher) => {
  const known = watcher.runs.length + watcher.bars.s.length;
  const isReal = ({ state }) => state === "success" || state === "failed";
  return known >= KNOWN && !past(watcher).some(isReal) ? known : 0;
};

/** Return how many of the last finished runs did not get the lock, if two or more. */
export const idle = (watcher) => {
  const states = past(watcher).map((run) => run.state).filter((state) => state !== "dry");
  const others = states.findIndex((state) => state !== "skipped");
  const runs = others < 0 ? states.length : others;
  return runs >= 2 ? runs : 0;
};

// Airflow calls the schedule None so.
export const hasSchedule = (watcher) => Boolean(watcher.spec) && watcher.spec !== "None";

/** Return why Airflow knows no next time of a watcher: a key of the words. */
export const whyNoNext = (watcher) => {
  if (watcher.broken) return "next.broken";
  if (!hasSchedule(watcher)) return "next.hand";
  if (isByAssets(watcher.words)) return "next.change";
  return watcher.spec.startsWith("@after ") && watcher.runs.some((run) => !isDone(run)) ? "next.after" : "next.end";
};

const LATE = 120; // seconds after its time until a run that did not start is worth a word

/** Return why a watcher needs a person: a kind, a tone, a sentence, next steps. None: undefined. */
export const need = (watcher, home, now) => {
  const name = watcher.name ?? watcher.id;
  if (watcher.broken) return { kind: "broken", tone: "failed", text: tell("need.broken", { name }), steps: ["file"] };
  if (watcher.paused) return undefined;
  const newest = watcher.runs.find(isDone);
  const last = verdict(watcher);
  const active = watcher.runs.some((run) => !isDone(run));
  const when = last && at(last.end ?? last.start ?? last.after, now);
  if (last?.state === "failed") {
    const limit = stopped(last);
    if (limit) {
      const { matched, eligible, max_share: most } = limit.report;
      const job = jobOf(watcher, limit.task);
      const text = tell("need.stopped", {
        name, when, n: number(matched), of: number(eligible), rows: say(`rows.${job.rows}`, { n: eligible }),
        done: say(`job.${job.done}`), share: percent(matched / eligible), limit: percent(most),
        nothing: hasWritten(watcher, last) ? "" : say("need.stopped.nothing"),
      });
      // The form keeps only values of params that the watcher has: without them it would start an ordinary run.
      const isOwnLimit = watcher.ownlimit?.includes(limit.task.split("/")[0]);
      const steps = [watcher.drydefault && "dryrun", isOwnLimit && "allow"].filter(Boolean);
      return { kind: "stopped", tone: "failed", text, steps: steps.length ? steps : ["run"], limit: limit.report, run: last };
    }
    const error = errorOf(last);
    const text = error ? tell("need.failed", { name, when, error: plainError(error) })
      : last.failed ? tell("need.failed.task", { name, when, task: last.failed }) : tell("need.failed.plain", { name, when });
    return { kind: "failed", tone: "failed", text, steps: ["run", "again"], run: last };
  }
  const runs = idle(watcher);
  if (runs) {
    const worked = lastWorked(watcher);
    const { owner, since } = newest?.holder ?? {};
    const holder = owner && since ? who(owner, home, since) : undefined;
    const key = `need.idle${worked ? "" : ".never"}${holder ? ".who" : ""}`;
    const text = tell(key, {
      name, n: number(runs), who: holder, when: worked && at(worked, now), ago: worked && duration(now - worked),
    });
    return { kind: "idle", tone: "warn", text, steps: ["lock"] };
  }
  if (watcher.next && watcher.next < now - LATE && !active) {
    return { kind: "late", tone: "warn", text: tell("need.late", { name, when: relative(watcher.next, now) }), steps: ["file"] };
  }
  return undefined;
};
