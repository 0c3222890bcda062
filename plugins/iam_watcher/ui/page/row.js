// A watcher in the list.
import { duration, exactZone, relative, short } from "./format.js";
import { activeOf, Bars, dotted, Dot, Progress, stateOf, tasksOf } from "./parts.js";
import { facts, hasSchedule, isDone, ownerOf, sentence, startedBy, who, whyNoNext } from "./story.js";
import { schedule, say, tell } from "./words.js";
import { C, h, Link, memo } from "./react.js";
import { tabOf } from "./head.js";

const What = ({ watcher, home, now }) => {
  const active = activeOf(watcher);
  const run = active ?? watcher.runs[0];
  const tasks = active ? tasksOf(watcher, active, home) : [];
  if (tasks.length) return tasks.map((task) => h(Progress, { key: task.task, watcher, task }));
  const small = !run ? "" : isDone(run) ? dotted(facts(watcher, run, now))
    : dotted([run.start ? duration(now - run.start) : relative(run.after, now), startedBy(run)]);
  const at = run && exactZone(run.start ?? run.after);
  return [h("div", { key: "what", className: "clip" }, sentence(watcher, run, home, now)), small && h("small", { key: "facts", title: at }, small)];
};

const Next = ({ watcher, now }) => {
  if (watcher.paused && !watcher.broken) return ["—", h("small", { key: "when" }, say("paused"))];
  if (!watcher.next || watcher.broken) return [h("div", { key: "at" }, "—"), h("small", { key: "why" }, say(whyNoNext(watcher)))];
  return [h("div", { key: "at", title: exactZone(watcher.next) }, short(watcher.next, now)), h("small", { key: "in" }, watcher.next > now ? relative(watcher.next, now) : say("next.due"))];
};

const LockCell = ({ watcher, home, now }) => {
  const { lock, key } = watcher;
  if (!key) return h("span", { className: "free" }, say("lock.none"));
  if (lock?.unknown) return h("span", { className: "free", title: lock.errors?.join("\n") }, say("lock.unknown"));
  const waiting = lock?.waiters ? say("lock.waiting", { n: lock.waiters }) : "";
  if (!lock?.owner) return [h("div", { key: "free", className: "free" }, say("lock.free")), waiting && h("small", { key: "w" }, waiting)];
  const isOwn = watcher.runs.some((run) => ownerOf(watcher, run, home) === lock.owner);
  const name = isOwn ? tell("lock.this", { deployment: home }) : h("strong", null, h("bdi", null, who(lock.owner, home, lock.since)));
  return [
    h("div", { key: "who", title: lock.owner }, name),
    h("small", { key: "since", title: lock.since && exactZone(lock.since) }, dotted([
      lock.since ? (now - lock.since < 3600 ? duration(now - lock.since) : say("lock.since", { when: short(lock.since, now) })) : "", waiting,
    ])),
  ];
};

const More = ({ watcher, may, onOpen }) => {
  const name = watcher.name ?? watcher.id;
  const items = [
    may.run && !watcher.broken && watcher.drydefault && ["do.dry", () => onOpen({ what: "run", watcher, dry: true })],
    watcher.edit && watcher.lock?.owner && ["do.release", () => onOpen({ what: "release", watcher })],
  ].filter(Boolean);
  return h(C.Menu.Root, { lazyMount: true, unmountOnExit: true, positioning: { placement: "bottom-end" } },
    h(C.Menu.Trigger, { asChild: true }, h(C.IconButton, { size: "xs", variant: "outline", "aria-label": say("do.more", { name }) }, "⋯")),
    h(C.Portal, null, h(C.Menu.Positioner, null, h(C.Menu.Content, null,
      ...items.map(([key, onClick]) => h(C.Menu.Item, { key, value: key, onClick }, say(key))),
      h(C.Menu.Item, { value: "open", asChild: true }, h(Link, { to: tabOf(watcher.id) }, say("do.open")))))));
};

const Do = ({ watcher, may, onOpen }) => {
  const name = watcher.name ?? watcher.id;
  return h("div", null,
    may.run && !watcher.broken && h(C.IconButton, { size: "xs", variant: "outline", "aria-label": say("do.run", { name }), title: say("do.run", { name }), onClick: () => onOpen({ what: "run", watcher }) }, h(Play)),
    h(More, { watcher, may, onOpen }),
    h(C.Switch.Root, {
      size: "sm", colorPalette: "brand", checked: !watcher.paused, disabled: !watcher.edit,
      onCheckedChange: ({ checked }) => onOpen({ what: "pause", watcher, paused: !checked }),
    },
      h(C.Switch.HiddenInput, { "aria-label": say("do.on", { name }) }),
      h(C.Switch.Control, null, h(C.Switch.Thumb))));
};

const Play = () => h("svg", { width: 12, height: 12, viewBox: "0 0 12 12", fill: "currentColor", "aria-hidden": true }, h("path", { d: "M2.5 1.2v9.6L10.5 6z" }));

const Cells = ({ watcher, home, now, may, onOpen, onTag }) => {
  return h("tr", { className: watcher.paused ? "paused" : undefined },
    h("td", { className: "who" },
      h("div", { className: "name" }, h(Dot, { state: stateOf(watcher) }),
        h("span", null, h(Link, { to: tabOf(watcher.id) }, h("bdi", null, watcher.name ?? watcher.id)), " ",
          ...(watcher.tags ?? []).map((tag) => h("button", { key: tag, type: "button", className: "tag", title: tag, onClick: () => onTag(tag) }, tag)))),
      h("small", null, dotted([hasSchedule(watcher) ? schedule(watcher.words) || watcher.spec : say("next.none"), watcher.paused && say("paused")]))),
    h("td", { className: "what" }, h(What, { watcher, home, now })),
    h("td", { className: "bars" }, h(Bars, { watcher })),
    h("td", { className: "when", "data-label": say("col.next") }, h("div", null, h(Next, { watcher, now }))),
    h("td", { className: "lock", "data-label": say("col.lock") }, h("div", null, h(LockCell, { watcher, home, now }))),
    h("td", { className: "do" }, h(Do, { watcher, may, onOpen })));
};

// A row is drawn again when something of it changed, or its relative times are old (`clock`).
const SAME = ["watcher", "home", "clock", "language", "zone", "may"];
export const Row = memo(Cells, (before, after) => SAME.every((name) => before[name] === after[name]));

/** Return the clock of a row: it goes by seconds where something happens, else by half minutes. */
export const clockOf = (watcher, now) =>
  (watcher.runs.some((run) => !isDone(run)) || watcher.lock?.owner || Math.abs((watcher.next ?? 0) - now) < 100 ? now : Math.floor(now / 30));
