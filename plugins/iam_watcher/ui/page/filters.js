// Search, filters and order of the list, all in the URL: a link shows the same rows.
import { stateOf } from "./parts.js";
import { idle, need, verdict } from "./story.js";
import { say } from "./words.js";
import { C, h, useEffect, useRef, useSearchParams, useState } from "./react.js";

const KINDS = {
  all: () => true,
  attention: (watcher, home, now) => Boolean(need(watcher, home, now)),
  running: (watcher) => watcher.runs.some((run) => run.state === "running" && !run.waits),
  waiting: (watcher) => watcher.runs.some((run) => run.waits || run.state === "queued"),
  failed: (watcher) => verdict(watcher)?.state === "failed",
  idle: (watcher) => !watcher.paused && idle(watcher) > 0,
  paused: (watcher) => Boolean(watcher.paused),
  held: (watcher) => Boolean(watcher.lock?.owner),
};
const FAR = Number.MAX_SAFE_INTEGER;
const STATE_ORDER = ["running", "queued", "broken", "failed", "skipped", "elsewhere", "success", "dry", "none"];
const byName = (a, b) => (a.id < b.id ? -1 : 1);
const ORDERS = {
  next: (a, b) => (a.paused ? FAR : a.next ?? FAR - 1) - (b.paused ? FAR : b.next ?? FAR - 1) || byName(a, b),
  name: byName,
  last: (a, b) => (b.runs[0]?.after ?? 0) - (a.runs[0]?.after ?? 0) || byName(a, b),
  state: (a, b) => STATE_ORDER.indexOf(stateOf(a)) - STATE_ORDER.indexOf(stateOf(b)) || byName(a, b),
};
const PAUSE = 250; // ms after the last key until the URL changes

const text = (watcher) => [
  watcher.id, watcher.name, watcher.key, ...(watcher.tags ?? []),
  ...watcher.runs.flatMap((run) => Object.values(run.reports ?? {}).map((report) => report.table)),
].join("\n").toLowerCase();

/** Return the ids of the rows in an order that stays while the page updates itself, until the user sorts or filters. */
export const inOrder = (kept, shown, ask, isPart) => {
  // While the first list comes in parts, rows of a later part may belong before those of an earlier one.
  const ids = kept.ask === ask && !kept.isPart ? kept.ids : [];
  const known = new Set(ids);
  return { ask, isPart, ids: [...ids, ...shown.map((watcher) => watcher.id).filter((id) => !known.has(id))] };
};

/** Return the rows that match, in order, and what sets the filters. */
export const useFilters = (watchers, home, now) => {
  const [search, setSearch] = useSearchParams();
  const pick = (name, known) => (search.get(name) in known ? search.get(name) : Object.keys(known)[0]);
  const kind = pick("show", KINDS);
  const order = pick("sort", ORDERS);
  const words = search.get("q") ?? "";
  const tag = search.get("tag") ?? "";
  const set = (name, value) => setSearch((old) => {
    const found = new URLSearchParams(old);
    if (value) found.set(name, value);
    else found.delete(name);
    return found;
  }, { replace: true });
  const matching = watchers.filter((watcher) => (!tag || watcher.tags?.includes(tag)) && text(watcher).includes(words.trim().toLowerCase()));
  const ofKind = (name) => matching.filter((watcher) => KINDS[name](watcher, home, now));
  return {
    shown: ofKind(kind).sort(ORDERS[order]),
    counts: Object.fromEntries(Object.keys(KINDS).map((name) => [name, ofKind(name).length])),
    ask: [kind, order, words, tag].join("\n"),
    kind, order, words, tag, set,
    setTag: (value) => set("tag", value),
    clear: () => setSearch({}, { replace: true }),
    showAttention: () => setSearch({ show: "attention" }, { replace: true }),
    home, now,
  };
};

const Search = ({ words, set }) => {
  const [typed, setTyped] = useState(words);
  const timer = useRef();
  useEffect(() => setTyped(words), [words]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const onChange = (event) => {
    const { value } = event.target;
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => set("q", value), PAUSE);
  };
  return h(C.Input, { className: "search", size: "sm", type: "search", placeholder: say("search"), "aria-label": say("search"), value: typed, onChange });
};

export const Filters = ({ kind, order, words, tag, counts, set }) =>
  h("div", { className: "tools" },
    h(Search, { words, set }),
    h("div", { className: "chips", role: "group", "aria-label": say("filter") },
      ...Object.keys(KINDS).filter((name) => counts[name] || name === kind || name === "all").map((name) =>
        h("button", { key: name, type: "button", className: "chip", "aria-pressed": kind === name, onClick: () => set("show", name === "all" ? "" : name) },
          `${say(`filter.${name}`)} ${counts[name]}`)),
      tag && h("button", { type: "button", className: "chip", "aria-pressed": true, onClick: () => set("tag", "") }, `${say("filter.tag", { tag })} ×`)),
    h("label", { className: "sort" }, `${say("sort")} `,
      h("select", { value: order, onChange: (event) => set("sort", event.target.value) },
        ...Object.keys(ORDERS).map((name) => h("option", { key: name, value: name }, say(`sort.${name}`))))));

