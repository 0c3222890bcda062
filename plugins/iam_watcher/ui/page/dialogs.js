// What a person does: run with the watcher's form, dry run, pause, release a lock. Airflow decides who may.
import * as api from "./api.js";
import { Fields, read } from "./form.js";
import { activeOf, Button, Check } from "./parts.js";
import { duration } from "./format.js";
import { who } from "./story.js";
import { say, tell } from "./words.js";
import { C, h, useEffect, useId, useNavigate, useState } from "./react.js";
import { tabOf } from "./head.js";

/** A dialog with one action. It stays open, with the server's words, when the action fails. */
const Ask = ({ title, action, tone = "brand", ready = true, onAct, onClose, children }) => {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const act = async () => {
    setBusy(true);
    setError("");
    try {
      await onAct();
      onClose();
    } catch (failure) {
      setError(failure.message);
      setBusy(false);
    }
  };
  return h(C.Dialog.Root, { open: true, onOpenChange: ({ open }) => open || onClose(), size: "md", scrollBehavior: "inside", placement: "center" },
    h(C.Portal, null,
      h(C.Dialog.Backdrop),
      h(C.Dialog.Positioner, null,
        h(C.Dialog.Content, null,
          h(C.Dialog.Header, null, h(C.Dialog.Title, null, title)),
          h(C.Dialog.Body, null, h("div", { className: "iw-form" }, children, error && h("div", { className: "error", role: "alert" }, error))),
          h(C.Dialog.Footer, null,
            h(Button, { onClick: onClose }, say("do.cancel")),
            h(Button, { variant: "solid", colorPalette: tone, disabled: !ready || busy, loading: busy, onClick: act }, action))))));
};

const Run = ({ watcher, dry: asked, values: given, onClose, onDone }) => {
  const name = watcher.name ?? watcher.id;
  const [params, setParams] = useState(null);
  const [values, setValues] = useState({});
  const [error, setError] = useState("");
  const navigate = useNavigate();
  const [switchOn, setSwitchOn] = useState(false);
  useEffect(() => {
    api.params(watcher.id).then((found) => {
      setParams(found);
      const preset = { ...given, ...(asked ? { dry_run: true } : {}) };
      setValues(Object.fromEntries(Object.entries(found).map(([param, { value }]) => [param, preset[param] ?? value])));
    }, (failure) => setError(failure.message));
  }, [watcher.id]);
  const dry = values.dry_run === true;
  const maySwitch = watcher.edit ?? watcher.may?.change ?? true;
  const { conf, problem } = params ? read(params, values) : {};
  const act = async () => {
    if (watcher.paused && dry && !switchOn) {
      await api.dryRun(watcher.id, conf);
      navigate(tabOf(watcher.id));
    } else {
      // The run comes last: if one of the two fails, a second try starts no second run.
      if (watcher.paused && switchOn) await api.pause(watcher.id, false);
      await api.trigger(watcher.id, conf);
    }
    onDone();
  };
  return h(Ask, {
    title: say(dry ? "form.dry" : "form.run", { name }), action: say(dry ? "form.start.dry" : "form.start"), tone: dry ? "brand" : "red",
    ready: Boolean(params) && !problem, onAct: act, onClose,
  },
    h("p", null, say(dry ? "form.hint.dry" : "form.hint")),
    error && h("div", { className: "error", role: "alert" }, error),
    params ? h(Fields, { params, values, onChange: (param, value) => setValues((old) => ({ ...old, [param]: value })) }) : !error && h(C.Skeleton, { height: "120px" }),
    problem && h("div", { className: "error", role: "alert" }, problem),
    watcher.paused && h("div", null,
      h("p", null, say(dry && !switchOn ? "form.paused.dry" : "form.paused")),
      (!dry || switchOn) && maySwitch && h(Check, { checked: switchOn, onChange: setSwitchOn, label: say("form.paused.on") })));
};

const Release = ({ watcher, home, onClose, onDone }) => {
  const [reason, setReason] = useState("");
  const field = useId();
  const [lock] = useState(watcher.lock ?? {}); // the holder that the person saw: another one keeps the lock
  const since = lock.since ? duration(Date.now() / 1000 - lock.since) : "";
  return h(Ask, {
    title: say("release.title"), action: say("release.do"), tone: "red", ready: reason.trim().length > 2, onClose,
    onAct: async () => {
      await api.forceRelease(watcher.id, lock.owner, reason.trim());
      onDone();
    },
  },
    h("p", null, tell("release.text", { who: who(lock.owner, home, lock.since), key: watcher.key, since })),
    h("code", null, h("bdi", null, lock.owner)),
    !lock.since && h("p", null, say("release.go")),
    h("div", { className: "field" }, h("label", { htmlFor: field }, say("release.reason")), h(C.Input, { id: field, size: "sm", maxLength: 500, value: reason, onChange: (event) => setReason(event.target.value) })));
};

const Pause = ({ watcher, paused, onClose, onDone }) => {
  const name = watcher.name ?? watcher.id;
  const [error, setError] = useState("");
  const isAsked = paused && activeOf(watcher);
  const act = async () => {
    await api.pause(watcher.id, paused);
    onDone();
  };
  useEffect(() => {
    if (!isAsked) act().then(onClose, (failure) => setError(failure.message));
  }, []);
  if (isAsked) return h(Ask, { title: say("pause.title", { name }), action: say("pause.do"), onAct: act, onClose }, h("p", null, say("pause.text")));
  return error && h(Ask, { title: name, action: say("error.try"), onAct: act, onClose }, h("div", { className: "error", role: "alert" }, error));
};

const KINDS = { run: Run, release: Release, pause: Pause };

/** The dialog that is open: `open` names it and has what it needs. */
export const Dialogs = ({ open, ...rest }) => (open ? h(KINDS[open.what], { key: `${open.what} ${open.watcher.id}`, ...open, ...rest }) : null);
