// The list of all watchers: first those that need a person, then a row for each.
import { Attention, Lead } from "./head.js";
import { Button, Notice } from "./parts.js";
import { Dialogs } from "./dialogs.js";
import { Empty } from "./empty.js";
import { Filters, inOrder, useFilters } from "./filters.js";
import { clockOf, Row } from "./row.js";
import { css } from "./style.js";
import { numberLanguage, say } from "./words.js";
import { useLive } from "./live.js";
import { useZone } from "./format.js";
import { C, h, useCallback, useEffect, useRef, useState } from "./react.js";

const AT_ONCE = 100; // rows; more on demand
const MORE = 500;

/** Return the rows of the list; `isPart`: more of them come. */
const useOrder = (shown, all, ask, isPart) => {
  const kept = useRef({ ids: [] });
  kept.current = inOrder(kept.current, shown, ask, isPart);
  const byId = new Map(all.map((watcher) => [watcher.id, watcher]));
  // A row that no longer matches stays, too, or the rows below would jump under the pointer.
  return kept.current.ids.map((id) => byId.get(id)).filter(Boolean);
};

const serverErrors = (watchers) => [
  ...new Set(watchers.flatMap((watcher) => (watcher.lock?.unknown ? watcher.lock.errors ?? [] : [])).map((text) => text.replace(/ (for|refused) '[^']*'/, " $1"))),
];

const Head = () => h("thead", null, h("tr", null,
  ...["watcher", "last", "bars", "next", "lock"].map((name) => h("th", { key: name, scope: "col" }, say(`col.${name}`))),
  h("th", { scope: "col" }, h("span", { className: "hidden" }, say("col.actions")))));

const Legend = () => h("div", { className: "foot small" }, say("legend"),
  ...["success", "skipped", "failed", "running"].map((state) => h("span", { key: state, className: state }, h("span", { className: "key" }), say(`state.${state}`))));

export const List = () => {
  const { watchers, total, now, deployment: home, may = {}, isPart, error, reload } = useLive();
  const filters = useFilters(watchers ?? [], home, now);
  const rows = useOrder(filters.shown, watchers ?? [], filters.ask, isPart);
  const [most, setMost] = useState(AT_ONCE);
  const [open, setOpen] = useState(null);
  const zone = useZone();
  const language = numberLanguage();
  const setTag = useRef();
  setTag.current = filters.setTag;
  const onTag = useCallback((tag) => setTag.current(tag), []);
  const mayKept = useRef(may);
  if (JSON.stringify(mayKept.current) !== JSON.stringify(may)) mayKept.current = may;
  useEffect(() => setMost(AT_ONCE), [filters.ask]);
  const again = h(Button, { size: "xs", onClick: reload }, say("error.try"));
  if (!watchers) {
    return h("div", { className: "iw", "aria-busy": !error }, h("style", null, css),
      error ? h(Notice, { tone: "failed", text: say("error.load", { error: error.message }) }, again)
        : h(C.Stack, { gap: 3, maxWidth: "900px", "aria-label": say("loading") }, ...[40, 54, 54, 54].map((height, n) => h(C.Skeleton, { key: n, height: `${height}px` }))));
  }
  const redis = serverErrors(watchers);
  return h("div", { className: "iw", lang: language }, h("style", null, css),
    h(Lead, { watchers, total, now }),
    error && h(Notice, { tone: "warn", text: say("error.live", { error: error.message }) }, again),
    ...redis.map((text) => h(Notice, { key: text, tone: "warn", text: say("error.redis", { error: text }) })),
    h(Attention, { watchers, home, now, may, onOpen: setOpen, onAll: filters.showAttention }),
    watchers.length === 0 ? h(Empty) : [
      h(Filters, { key: "filters", ...filters }),
      rows.length === 0
        ? h("div", { key: "none", className: "small" }, say("empty.none"), " ", h(Button, { size: "xs", onClick: filters.clear }, say("empty.clear")))
        : h("table", { key: "table" }, h(Head), h("tbody", null, ...rows.slice(0, most).map((watcher) =>
          h(Row, { key: watcher.id, watcher, home, now, clock: clockOf(watcher, now), language, zone, may: mayKept.current, onOpen: setOpen, onTag })))),
      rows.length > most && h(Button, { key: "more", mt: 3, onClick: () => setMost(most + MORE) }, say("more", { n: rows.length - most })),
      h(Legend, { key: "legend" }),
    ],
    h(Dialogs, { open, onClose: () => setOpen(null), home, onDone: reload }));
};
