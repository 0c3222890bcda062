// Every text of the page, in Airflow's language: English, Chinese; any other falls back to English.
// {name} is filled in, {*name} as well and in bold. "one | more" are the forms for n = 1 and for others.
// A translator finds all texts in one object: hence the length.
import { h, useEffect, useState } from "./react.js";
import { chinese, chineseSchedule } from "./words-zh.js";

const english = {
  title: "Watchers",
  lead: "{watchers} watcher | {watchers} watchers",
  "lead.running": "{n} running",
  "lead.waiting": "{n} waiting",
  "lead.failed": "{n} failed in 24 h",
  "lead.skipped": "{n} skipped in 24 h",
  "lead.next": "next: {*name} {when}",
  attention: "Needs attention",
  loading: "Loading …",
  "error.load": "The watchers can't be loaded: {error}",
  "error.live": "The page is not updated at the moment: {error}",
  "error.redis": "Redis can't be reached, so the page can't show the locks: {error}",
  "error.try": "Try again",
  "empty.title": "No watcher yet",
  "empty.text": "A watcher is a DAG file that names a schedule and a job. Put one into the DAGs folder:",
  "empty.none": "No watcher matches.",
  "empty.clear": "Clear the filters",
  search: "Search names, tables, locks",
  filter: "Filter",
  "filter.all": "All",
  "filter.attention": "Needs attention",
  "filter.running": "Running",
  "filter.waiting": "Waiting",
  "filter.failed": "Failed",
  "filter.idle": "Not working",
  "filter.paused": "Paused",
  "filter.held": "Lock held",
  "filter.tag": "Tag: {tag}",
  sort: "Sorted by",
  "sort.next": "next run",
  "sort.name": "name",
  "sort.last": "last run",
  "sort.state": "state",
  "col.watcher": "Watcher",
  "col.last": "Last run",
  "col.bars": "30 runs",
  "col.next": "Next",
  "col.lock": "Lock",
  "col.actions": "Actions",
  more: "Show {n} more",
  legend: "Each bar is a run. Its height shows how many rows the run changed, or how long it took. Its colour shows how it ended.",
  "attention.more": "{n} more needs attention. | {n} more need attention.",
  "attention.all": "Show all in the list",
  "state.success": "worked",
  "state.dry": "dry run",
  "state.skipped": "skipped",
  "state.elsewhere": "done by another deployment",
  "state.failed": "failed",
  "state.running": "running",
  "state.queued": "queued",
  "state.broken": "the file can't be loaded",
  "state.none": "never ran",
  "bars.label": "The last {n} runs: {worked} worked, {skipped} skipped, {failed} failed",
  "bar.rows": "{n} row changed | {n} rows changed",
  paused: "paused",
  "next.none": "no schedule",
  "next.after": "after this run",
  "next.broken": "the file can't be loaded",
  "next.change": "when rows or assets change",
  "next.end": "no further time",
  "next.due": "due",
  "next.hand": "started by hand",
  "lock.free": "free",
  "lock.none": "none",
  "lock.unknown": "not known",
  "lock.this": "{*deployment} · this run",
  "lock.foreign": "the Go iam-watcher",
  "lock.waiting": "{n} waiting",
  "lock.since": "since {when}",
  "by.schedule": "by schedule",
  "by.user": "by {user}",
  "by.event": "by an event",
  "run.never": "Has not run yet",
  "run.done": "Done",
  "run.idle": "Did nothing: all tasks were skipped",
  "run.queued": "Queued",
  "run.queued.paused": "Queued until the watcher is unpaused",
  "run.running": "Running",
  "run.waiting": "Waiting for the lock",
  "run.waiting.who": "Waiting for the lock, held by {*who}",
  "run.failed": "Failed",
  "run.failed.task": "Failed in the task {*task}",
  "run.failed.error": "Failed: {error}",
  "run.skipped": "Skipped: the lock stayed busy",
  "run.skipped.who": "Skipped: the lock was held by {*who}",
  "run.skipped.since": "Skipped: the lock was held by {*who} since {when}",
  "run.skipped.done": "Skipped: {*who} did this scheduled time already",
  "run.stopped": "Stopped by the safety limit: {*n} of {*of} {rows}",
  "run.nothing": "nothing was changed",
  "run.worked": "last worked {when}",
  "run.unreal": "no real run among the last {n}",
  "run.progress": "{*share} · {examined} examined · {changed} {done}",
  "run.progress.count": "{*share} · {examined} examined",
  "run.speed": "{n} rows/s",
  "run.left": "{time} left",
  "run.old": "progress is {time} old",
  "did.plain": "{*n} of {*of} {rows} {done}",
  "did.dry": "Dry run: {*n} of {*of} {rows} would be {done}",
  "did.none": "No {rows} {done}; {*of} examined",
  "did.dry.none": "Dry run: no {rows} would be {done}; {*of} examined",
  "did.join": "; ",
  "did.limit": "stopped at the {limit}",
  "limit.max_rows": "row limit",
  "limit.time_budget": "time limit",
  "job.disabled": "disabled",
  "job.deleted": "deleted",
  "job.enabled": "re-enabled",
  "job.restored": "restored",
  "job.processed": "processed",
  "job.changed": "changed",
  "rows.users": "user | users",
  "rows.rows": "row | rows",
  "need.failed": "{*name} failed {when}: {error}",
  "need.failed.plain": "{*name} failed {when}.",
  "need.failed.task": "{*name} failed {when} in the task {task}.",
  "need.stopped": "{*name} was stopped by its safety limit {when}: {n} of {of} {rows} would be {done} ({share}, limit {limit}). {nothing}",
  "need.stopped.nothing": "Nothing was changed.",
  "need.idle": "{*name} has not worked since {when} ({ago}): its last {n} runs were skipped.",
  "need.idle.who": "{*name} has not worked since {when} ({ago}): the lock was held by {*who} at each of its last {n} runs.",
  "need.idle.never": "{*name} did not work: all of its last {n} runs were skipped.",
  "need.idle.never.who": "{*name} did not work: the lock was held by {*who} at each of its last {n} runs.",
  "need.late": "{*name} should have started {when}. The scheduler has not started it.",
  "need.broken": "The file of {*name} can't be loaded. Airflow starts no run of it until the file is mended.",
  "step.run": "Look at the run",
  "step.lock": "See the lock",
  "step.dryrun": "Look at the rows (dry run)",
  "step.allow": "Allow once …",
  "step.again": "Run again …",
  "step.file": "Look at the DAG",
  "do.run": "Run {name} …",
  "do.more": "More for {name}",
  "do.dry": "Dry run …",
  "do.release": "Release the lock by force …",
  "do.open": "Open the watcher",
  "do.on": "{name} is switched on",
  "do.cancel": "Cancel",
  "form.run": "Run {name}",
  "form.dry": "Dry run of {name}",
  "form.hint": "This run changes data. Values are for this run only.",
  "form.hint.dry": "A dry run counts and lists what would change, and changes nothing.",
  "form.paused": "This watcher is paused. The run waits until you unpause the watcher.",
  "form.paused.on": "Unpause the watcher. Its schedule then starts runs too.",
  "form.paused.dry": "This watcher stays paused: another DAG does the dry run.",
  "form.start": "Run",
  "form.start.dry": "Start the dry run",
  "form.lines": "Write one on each line.",
  "form.json": "Write JSON.",
  "form.range": "{low} to {high}",
  "form.min": "at least {low}",
  "form.max": "at most {high}",
  "form.over": "more than {low}",
  "form.bad": "{name}: {error}",
  "release.title": "Release the lock by force",
  "release.text": "{*who} holds {key} {since}. If its task is still alive, it is stopped within 2 seconds, and can't acquire the lock again for twice the lease.",
  "release.go": "If the Go iam-watcher holds the lock, it continues to work: nothing stops it.",
  "release.reason": "Reason (kept for 90 days, with your name)",
  "release.do": "Release the lock",
  "pause.title": "Pause {name}?",
  "pause.text": "Airflow starts no run of a paused watcher. An active run stops after its current task, until you unpause the watcher.",
  "pause.do": "Pause",
  "tab.not": "This DAG is not a watcher.",
  "tab.not.text": "The Watchers page shows DAGs that are made with iam_watcher.Watcher.",
  "tab.schedule": "Schedule",
  "tab.lock": "Lock",
  "tab.queue": "Waiting queue",
  "tab.settings": "Settings in force",
  "tab.run": "Run",
  "tab.run.text": "A dry run changes nothing, and leaves a paused watcher paused.",
  "tab.history": "Forced releases",
  "tab.forced": "{at} by {by}: “{reason}”",
  "tab.runs": "Runs",
  "tab.older": "Older runs",
  "tab.noruns": "This watcher has not run yet.",
  "tab.clock": "clock change",
  "tab.splay": "The DAG id decides the values of ~: {spec}",
  "tab.noticks": "No further scheduled time.",
  "tab.noschedule": "No schedule: a person or another DAG starts it.",
  "tab.airflows": "Schedule of Airflow: {words}",
  "overlap.skip": "A scheduled time during an active run is skipped.",
  "overlap.delay": "A scheduled time during an active run gets its run when the active run has ended.",
  "overlap.allow": "Runs can work at the same time: each run has its own lock.",
  "overlap.after": "The interval begins when the last scheduled run ends.",
  "grace.default": "If scheduled times were missed because Airflow was down or the watcher was paused, the latest one still gets a run, if it is not too old: at most half of the time to the next one, and at most one hour.",
  "grace.some": "If scheduled times were missed because Airflow was down or the watcher was paused, the latest one still gets a run, if it is less than {time} old.",
  "grace.none": "Scheduled times that were missed because Airflow was down or the watcher was paused get no run.",
  "lock.key": "Key",
  "lock.key.tick": "Key of each run",
  "lock.holder": "Held by",
  "lock.since.label": "Since",
  "lock.since.value": "{when} ({time}), expires in {left} unless renewed",
  "lock.busy": "Working tasks",
  "lock.lease": "Lease",
  "lock.wait": "Waits",
  "lock.busy.skip": "{time}, then the run is skipped",
  "lock.busy.fail": "{time}, then the run fails",
  "lock.maxhold": "Held at most",
  "lock.servers": "Redis",
  "lock.servers.quorum": "{names} (a majority decides)",
  "lock.some": "{n} of {of} servers can't be reached. A majority answers, so the lock works.",
  "lock.no": "This watcher has no lock.",
  "wait.until": "stops waiting {when}",
  "wait.since": "waits since {when}",
  "report.examined": "examined",
  "report.before": "by earlier tries",
  "report.matched": "matched",
  "report.failed": "failed",
  "report.retried": "will be tried again",
  "report.not_ready": "not ready",
  "report.remaining": "pending",
  "report.lost": "lost to another worker",
  "report.longest": "longest transaction",
  "report.speed": "rows a second",
  "report.seconds": "duration",
  "report.retries": "retries",
  "report.secrets": "secrets restored",
  "report.secrets.left": "secrets not restored: {reason}",
  "report.altered": "with another value in {column}",
  "also.secrets_expired": "secrets expired",
  "also.due_in_days": "will be disabled within {n} day | will be disabled within {n} days",
  "also.due_without_a_date": "due, without a valid date",
  "also.due_list_incomplete": "incomplete list of users who are due",
  "report.cutoff": "Older than",
  "report.archive": "Archive",
  "report.undo": "Undo record",
  "report.listed": "List of all rows",
  "report.examples": "Examples",
  "report.real": "The real run would",
  "report.error": "Error",
  "report.table": "Table",
  "report.task": "Task {task}",
  "report.parts": "Task {task}: the sum of {n} other part | Task {task}: the sum of {n} other parts",
  "report.hidden": "You need Airflow's right to XComs to see what this run did.",
  "report.none": "The tasks of this run have no run report.",
  "report.unconfirmed": "{n} more may be {done}: the connection was lost during their commit.",
  "report.copy": "Copy",
  "report.copied": "Copied",
  "report.open": "Open the run in Airflow",
  "users.title": "Who",
  "users.show": "Show the users",
  "users.more": "Show more",
  "users.seen": "last login {when}",
  "users.never": "never logged in",
  "undo.users": "Re-enable them …",
  "undo.rows": "Restore the rows …",
  "reason.admin": "admins",
  "reason.exempt_name": "exempt names",
  "reason.new_account": "new accounts",
  "reason.zero_date": "with a zero date or one before 1980",
  "reason.no_date": "without a date",
  "reason.never_expires": "never expire",
  "reason.foreign_key": "protected by a foreign key",
  "reason.restored.no_parent": "without the row that they refer to",
  "reason.exists": "exist already",
  "reason.changed_meanwhile": "changed meanwhile",
  "reason.enabled_already": "enabled already",
  "reason.changed_since": "changed since",
  "reason.gone": "gone",
  "reason.no_name": "without a name",
  "reason.no_time": "with a value that is no time",
  "reason.newest": "among the newest",
  "reason.not_in_record": "not in the undo record",
  "reason.named_twice": "named twice",
  "reason.replaced": "of a row that was replaced",
  "reason.unique_key": "refused by a unique key",
  "reason.check": "refused by a CHECK constraint",
  "reason.trigger": "refused by a trigger",
  "reason.does_not_fit": "that don't fit the columns",
  "reason.archive_too_large": "too large for an archive",
  "reason.archive_json_type": "with JSON values that an archive can't have",
  "reason.archive_check": "not archived: they violate a CHECK constraint",
  "time.now": "now",
  "time.in": "in {time}",
  "time.ago": "{time} ago",
  "time.s": "{n} s",
  "time.min": "{n} min",
  "time.h": "{n} h",
  "time.d": "{n} day | {n} days",
  "time.at": "at {clock}",
  "time.today": "{clock}",
  "time.tomorrow": "tomorrow {clock}",
  "time.yesterday": "yesterday {clock}",
};

let language = "en";
const listeners = new Set();

const read = () => localStorage.getItem("i18nextLng") || document.documentElement.lang || "en";

const refresh = () => {
  const found = read();
  if (found === language) return;
  language = found;
  for (const listener of listeners) listener(found);
};

language = read();
new MutationObserver(refresh).observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
addEventListener("storage", refresh);

/** Render again when Airflow's language changes. */
export const useLanguage = () => {
  const [found, set] = useState(language);
  useEffect(() => {
    listeners.add(set);
    refresh();
    set(language);
    return () => listeners.delete(set);
  }, []);
  return found;
};

const isChinese = () => language.startsWith("zh");

/** The language for numbers: the one of the texts around them. */
export const numberLanguage = () => (isChinese() ? "zh-CN" : "en");

const template = (key, values) => {
  const found = (isChinese() && chinese[key]) || english[key] || key;
  const [one, more] = found.split(" | ");
  return more === undefined || Number(values?.n ?? values?.watchers) === 1 ? one : more;
};

const PART = /(\{\*?\w+\})/;

/** Return a text as one string. */
export const say = (key, values = {}) =>
  template(key, values).split(PART).map((part) => {
    const name = /^\{\*?(\w+)\}$/.exec(part)?.[1];
    return name === undefined ? part : String(values[name] ?? "");
  }).join("");

/** Return a text as nodes, with its {*names} in bold. */
export const tell = (key, values = {}) =>
  template(key, values).split(PART).map((part, number) => {
    const bold = /^\{\*(\w+)\}$/.exec(part)?.[1];
    if (bold !== undefined) return h("bdi", { key: number }, h("strong", null, values[bold] ?? ""));
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    return name === undefined ? part : h("bdi", { key: number }, values[name] ?? "");
  });

export const has = (key) => key in english;

// Airflow's words for a schedule by assets; they end in "or" if the other part has no words of its own.
const ASSETS = /^Triggered by assets(?: or ?(.*))?$/;

/** Return whether these are the words of a schedule by assets; `rows_in_state` is one. */
export const isByAssets = (words) => ASSETS.test(words ?? "");

/** Return a schedule's English words in the page's language, where they have a known form. */
export const schedule = (words) => {
  const assets = ASSETS.exec(words ?? "");
  const text = assets ? ["when an asset has changed", assets[1]].filter(Boolean).join(", or ") : words;
  return text && isChinese() ? chineseSchedule(text) : text;
};
