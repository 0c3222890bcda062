// The right side of the tab: the runs, newest first, each with its report laid out for reading.
import * as api from "./api.js";
import { duration, exactZone, number, short } from "./format.js";
import { Button, dotted, Dot, LinkButton, Progress, tasksOf } from "./parts.js";
import { isDone, plainError, reasonWords, sentence, shownState, startedBy } from "./story.js";
import { counts, jobOf, reasonsOf, reportsOf } from "./reports.js";
import { has, say } from "./words.js";
import { h, Link, useId, useState } from "./react.js";
import { runOf } from "./head.js";

const Fact = (label, ...value) => [h("dt", { key: `${label}.` }, label), h("dd", { key: label }, ...value)];

const Copy = ({ text }) => {
  const [done, setDone] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setDone(true));
  return [h("code", { key: "text" }, h("bdi", null, text)), " ", h(LinkButton, { key: "copy", onClick: copy, "aria-live": "polite" }, say(done ? "report.copied" : "report.copy"))];
};

// What the jobs count besides the rows of their table.
const alsoWords = (name) => {
  const days = /^due_in_(\d+)_days$/.exec(name)?.[1];
  if (days) return say("also.due_in_days", { n: days });
  return has(`also.${name}`) ? say(`also.${name}`) : name.replaceAll("_", " ");
};

const Numbers = ({ report, job }) => {
  const { n, of, before } = counts(report, job);
  const matched = report.matched === undefined ? undefined : report.matched + before;
  const speed = report.duration_seconds > 0 && of > before ? (of - before) / report.duration_seconds : undefined;
  const shown = [
    [number(of), say("report.examined")],
    [report.dry_run ? undefined : number(n), say(`job.${job.done}`)],
    [before ? number(before) : undefined, say("report.before")],
    [matched === undefined || (matched === n && !report.dry_run) ? undefined : number(matched), say("report.matched")],
    ...["failed", "retried", "not_ready", "remaining", "lost"].map((name) => [report[name] ? number(report[name]) : undefined, say(`report.${name}`)]),
    ...reasonsOf(report, job).map(([reason, count]) => [number(count), reasonWords(reason)]),
    [report.longest_chunk_seconds ? duration(report.longest_chunk_seconds) : undefined, say("report.longest")],
    [speed ? number(Math.round(speed)) : undefined, say("report.speed")],
    [report.duration_seconds ? duration(report.duration_seconds) : undefined, say("report.seconds")],
    [report.retries ? number(report.retries) : undefined, say("report.retries")],
    [report.secrets_restored ? number(report.secrets_restored) : undefined, say("report.secrets")],
    ...Object.entries(report.secrets_left ?? {}).map(([reason, count]) => [number(count), say("report.secrets.left", { reason: reasonWords(reason) })]),
    ...Object.entries(report.altered ?? {}).map(([column, count]) => [number(count), say("report.altered", { column })]),
    ...Object.entries(report.also ?? {}).map(([name, count]) => [number(count), alsoWords(name)]),
  ];
  return h("div", { className: "nums" }, ...shown.filter(([value]) => value !== undefined).map(([value, label]) => h("div", { key: label }, h("b", null, value), label)));
};

const example = (one) => {
  const { name, key, since, why } = one;
  return dotted([name ?? key, since ?? "", why ?? ""].map(String));
};

const Users = ({ watcher, run, task }) => {
  const [found, setFound] = useState(null);
  const [error, setError] = useState("");
  const load = () => api.users(watcher.id, run.id, task, found?.users.length ?? 0).then(
    (page) => setFound((old) => ({ ...page, users: [...(old?.users ?? []), ...page.users] })),
    (failure) => setError(failure.message));
  if (error) return h("span", { className: "small", role: "alert" }, error);
  if (!found) return h(LinkButton, { onClick: load }, say("users.show"));
  const seen = (user) => (user.seen ? say("users.seen", { when: user.seen.slice(0, 10) }) : say("users.never"));
  return h("div", null,
    h("ul", { className: "people" }, ...found.users.map((user, n) => h("li", { key: n }, h("bdi", null, user.name), " ", h("small", { style: { display: "inline" } }, seen(user))))),
    found.more && h(LinkButton, { onClick: load }, say("users.more")));
};

const Report = ({ watcher, run, task, report, onOpen }) => {
  const job = jobOf(watcher, task);
  const isUndo = job.undo === "undo";
  const lists = report.examples?.map(example) ?? [];
  const record = report.undo_record ?? report.archive;
  const undo = record && counts(report, job).n > 0 && run.state !== "running" && watcher.may.undo?.[job.undo];
  return h("div", null,
    h(Numbers, { report, job }),
    h("dl", null,
      report.table && Fact(say("report.table"), h("code", null, report.table)),
      report.cut_off && Fact(say("report.cutoff"), report.cut_off.replace("T", " ").replace(/(\.\d+)?\+00:00$/, " UTC")),
      report.stopped && Fact(say("did.limit", { limit: "" }), say(`limit.${report.stopped}`)),
      record && Fact(say(isUndo ? "report.undo" : "report.archive"), h(Copy, { text: record })),
      report.listed && typeof report.listed === "string" && Fact(say("report.listed"), h(Copy, { text: report.listed })),
      report.real_run && Fact(say("report.real"), ...report.real_run.map((line, n) => h("div", { key: n }, line))),
      report.unconfirmed && Fact("!", say("report.unconfirmed", { n: number(report.unconfirmed), done: say(`job.${job.done}`) })),
      lists.length > 0 && Fact(say("report.examples"), h("bdi", null, lists.join("; "))),
      report.error && Fact(say("report.error"), plainError(report.error)),
      isUndo && record && counts(report, job).n > 0 && Fact(say("users.title"), h(Users, { watcher, run, task }))),
    undo && h("div", { className: "steps" }, h(Button, {
      size: "xs",
      onClick: () => onOpen({ what: "run", watcher: { id: undo.dag, paused: undo.paused, runs: [] }, values: { [undo.param]: record } }),
    }, say(isUndo ? "undo.users" : "undo.rows"))));
};

const nameOf = (task, { parts }) => (parts === undefined ? say("report.task", { task }) : say("report.parts", { task: task.split("/")[0], n: number(parts) }));

const Body = ({ watcher, run, id, onOpen }) => {
  const reports = reportsOf(run);
  return h("div", { className: "body", id },
    !watcher.may.reports ? h("p", null, say("report.hidden"))
      : reports.length ? reports.map(([task, report]) => h("div", { key: task }, reports.length > 1 && h("small", null, nameOf(task, report)), h(Report, { watcher, run, task, report, onOpen })))
        : isDone(run) && run.state !== "skipped" && h("p", { className: "small" }, say("report.none")),
    run.holder?.owner && h("dl", null, Fact(say("lock.holder"), h("code", null, h("bdi", null, run.holder.owner)))),
    h("div", { className: "steps" }, h(Link, { to: runOf(run.dag ?? watcher.id, run.id) }, say("report.open"))));
};

const Run = ({ watcher, run, home, now, isFirst, onOpen }) => {
  const [open, setOpen] = useState(isFirst && Boolean(run.reports));
  const id = useId();
  const tasks = tasksOf(watcher, run, home);
  const by = dotted([startedBy(run), run.took !== undefined && run.state !== "skipped" ? duration(run.took) : run.start && !run.end ? duration(now - run.start) : ""]);
  return h("article", { className: "run" },
    h("button", { type: "button", className: "head", "aria-expanded": open, "aria-controls": open ? id : undefined, onClick: () => setOpen(!open) },
      h("time", { title: exactZone(run.after) }, short(run.after, now)), h(Dot, { state: shownState(run) }),
      h("span", { className: "clip" }, tasks.length ? null : sentence({ ...watcher, runs: [run] }, run, home, now), ...tasks.map((task) => h(Progress, { key: task.task, watcher, task }))),
      h("span", { className: "by" }, by)),
    open && h(Body, { watcher, run, id, onOpen }));
};

export const Runs = ({ watcher, runs, isMore, home, now, more, onOpen }) => {
  if (!runs.length) return h("p", { className: "small" }, say("tab.noruns"));
  const firstReport = runs.find((run) => run.reports)?.id;
  return h("section", { "aria-label": say("tab.runs") },
    ...runs.map((run) => h(Run, { key: run.n, watcher, run, home, now, isFirst: run.id === firstReport, onOpen })),
    isMore && h(Button, { onClick: more }, say("tab.older")));
};
