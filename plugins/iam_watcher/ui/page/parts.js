// Small parts that the list and the tab share.
import { duration, exactZone, number, percent } from "./format.js";
import { jobOf } from "./reports.js";
import { barsIn, isDone, shownState, STATES } from "./story.js";
import { say, tell } from "./words.js";
import { C, h } from "./react.js";

/** A dot in the colour of a state, with its name for those who don't see it. */
export const Dot = ({ state }) => h("span", { className: `dot ${state}`, role: "img", "aria-label": say(`state.${state}`), title: say(`state.${state}`) });

/** Texts with a dot between them. */
export const dotted = (texts) => texts.filter(Boolean).join(" · ");

/** A checkbox with its label; `about` is the id of a text that describes it. */
export const Check = ({ checked, onChange, label, about }) =>
  h(C.Checkbox.Root, { checked, onCheckedChange: (change) => onChange(change.checked === true), colorPalette: "brand", className: "check" },
    h(C.Checkbox.HiddenInput, { "aria-describedby": about }), h(C.Checkbox.Control), h(C.Checkbox.Label, null, label));

export const Button = (props) => h(C.Button, { size: "sm", variant: "outline", ...props });
export const LinkButton = ({ children, ...props }) => h("button", { type: "button", className: "link", ...props }, children);

/** A line with a coloured edge: what is wrong, and the next steps. */
export const Notice = ({ tone, text, children }) => h("div", { className: `note ${tone}` }, h("span", null, text), children);

const HEIGHT = 28;

/** Return the bars of a watcher, oldest first: state, height from 0 to 1, what hover tells. */
const barsOf = (watcher) => {
  const others = barsIn(watcher).map((bar) => ({ ...bar, state: STATES[bar.letter] ?? "none" }));
  const whole = [...watcher.runs].reverse().map((run) => ({
    state: shownState(run),
    at: run.after,
    rows: run.changed ?? null,
    time: run.took ?? null,
  }));
  const all = [...others, ...whole].sort((a, b) => a.at - b.at).slice(-30);
  const byRows = all.some((bar) => bar.rows > 0);
  const values = all.map((bar) => (byRows ? bar.rows : bar.time) ?? 0);
  const most = Math.max(...values, 1e-9);
  return all.map((bar, n) => ({ ...bar, height: Math.sqrt(values[n] / most) }));
};

const about = (bar) => dotted([
  exactZone(bar.at),
  say(`state.${bar.state}`),
  bar.rows === null ? "" : say("bar.rows", { n: number(bar.rows) }),
  bar.time === null ? "" : duration(bar.time),
]);

/** The last runs as bars: one picture for a screen reader. */
export const Bars = ({ watcher }) => {
  const bars = barsOf(watcher);
  if (!bars.length) return null;
  const count = (...states) => bars.filter((bar) => states.includes(bar.state)).length;
  const label = say("bars.label", { n: bars.length, worked: count("success", "dry"), skipped: count("skipped", "elsewhere"), failed: count("failed") });
  const height = (bar) => (["skipped", "elsewhere", "queued"].includes(bar.state) ? 3 : Math.max(3, Math.round(bar.height * HEIGHT)));
  return h("div", { className: "barrow", role: "img", "aria-label": label },
    ...bars.map((bar, n) => h("span", { key: n, title: about(bar) }, h("i", { className: bar.state, style: { height: `${height(bar)}px` } }))));
};

/** The tasks of a run that tell how far they are. */
export const tasksOf = (watcher, run, home) =>
  (watcher.lock?.tasks && watcher.lock.owner === `${home}/${watcher.id}/${run.id}` ? watcher.lock.tasks : []);

/** How far a task is: share, rows, speed, time left, and a thin bar. */
export const Progress = ({ watcher, task }) => {
  const values = {
    share: percent(task.share), examined: number(task.examined), changed: number(task.changed), done: say(`job.${jobOf(watcher, task.task).done}`),
  };
  const label = say("run.progress.count", values);
  return h("div", null,
    h("div", null, tell(task.changed ? "run.progress" : "run.progress.count", values)),
    h("small", null, dotted([
      task.rate ? say("run.speed", { n: number(task.rate) }) : "",
      task.left === undefined ? "" : say("run.left", { time: duration(task.left) }),
      task.age > 30 ? say("run.old", { time: duration(task.age) }) : "",
    ])),
    h("div", { className: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(task.share * 100) },
      h("i", { style: { width: `${Math.min(100, task.share * 100)}%` } })));
};

/** The state that a watcher shows: that its file can't be loaded, of what works now, else of its last run. */
export const stateOf = (watcher) => {
  if (watcher.broken) return "broken";
  const run = activeOf(watcher) ?? watcher.runs[0];
  return run ? shownState(run) : "none";
};

export const activeOf = (watcher) => watcher.runs.find((run) => run.state === "running") ?? watcher.runs.find((run) => !isDone(run));
