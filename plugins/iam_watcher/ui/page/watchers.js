globalThis.Watchers = globalThis.Watcher = () => globalThis.React.createElement("h1", null, "Watchers");
