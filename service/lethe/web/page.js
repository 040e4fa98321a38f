// Listens to /events and shows the run.
(() => {
  const by = (id) => document.getElementById(id);
  const AGAIN_MS = 2000; // until the next attempt to connect
  const SILENCE_MS = 8000; // the service sends an event every second
  const KEY = "lethe-token";
  let drawn = null; // the latest figures, to redraw them in another theme

  // number formatting
  const THIN = "\u202f";
  const number = (value) => Math.round(value).toLocaleString("en").replaceAll(",", THIN);
  const duration = (s) => (s < 0.0995 ? `${(1000 * s).toFixed(0)}${THIN}ms` : s < 120 ? `${s.toFixed(1)}${THIN}s`
    : s < 7200 ? `${Math.floor(s / 60)}${THIN}min` : `${(s / 3600).toFixed(1)}${THIN}h`);
  const sum = (counts) => Object.values(counts).reduce((all, count) => all + count, 0);
  const listed = (counts) => Object.entries(counts).map(([name, count]) => `${name} ${number(count)}`).join(", ");

  const pill = (id, kind, text) => {
    const item = by(id);
    item.hidden = !text;
    item.className = `pill ${kind}`;
    if (item.textContent !== text) item.textContent = text;
  };

  const rows = (id, entries) => {
    const list = by(id);
    list.replaceChildren(...entries.filter(([, value]) => value != null).flatMap(([name, value, bad]) => {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = name;
      dd.textContent = value;
      dd.classList.toggle("bad", Boolean(bad));
      return [dt, dd];
    }));
  };

  const tile = (name, text) => {
    document.querySelector(`[data-number="${name}"]`).textContent = text;
  };

  const percent = (ratio) => (ratio == null ? "–" : `${(100 * ratio).toFixed(1)}${THIN}%`);
  const points = (lost) => (lost == null ? "–" : `${lost > 0.0005 ? "\u2212" : ""}${Math.abs(100 * lost).toFixed(1)}`);

  // a card for each watched model
  const showModels = (models) => {
    const labels = by("models").dataset;
    by("watched").hidden = !models.length;
    by("models").replaceChildren(...models.map((model) => {
      const card = element("article", element("h3", model.name));
      card.className = "card";
      const asked = model.requests == null ? [] : [`${number(model.requests)} requests in the latest round`];
      if (model.latency_seconds != null) asked.push(`each ${duration(model.latency_seconds)}`);
      const measured = model.measured_seconds == null ? "not measured yet"
        : `measured ${duration(model.measured_seconds)} ago`;
      card.append(element("p", [model.up ? "answers" : `unknown: ${model.detail}`, measured, ...asked].join("; ")));
      const figure = (value, about, verdict = "") => {
        const dd = element("dd", value);
        dd.className = verdict;
        return element("div", dd, element("dt", about));
      };
      card.append(element("dl",
        figure(points(model.lost), model.probe == null ? "nothing is old yet" : `points below its best: ${model.probe}`,
          model.verdict),
        figure(percent(model.wc_acc), `${labels.wcAcc}, its worst case`),
        figure(percent(model.acc), labels.acc)));
      return card;
    }));
  };

  const showState = (state) => {
    const watched = state.source === "watched";
    document.body.classList.toggle("watched", watched);
    document.querySelector("[data-state=kind]").textContent = watched ? "model at" : "topic";
    showModels(state.models);
    const { samples, standing: privacy, privacy: account, judged } = state;
    document.querySelector("[data-state=topic]").textContent = state.topic;
    const working = watched ? "watching" : "learning";
    pill("loop", state.alive ? "good" : "bad", state.alive ? working : "stuck");
    const [reached, lacking] = watched ? ["the model answers", "unknown"] : ["broker connected", "no broker"];
    pill("broker", state.ready ? "good" : "bad", state.ready ? reached : lacking);
    const violations = sum(privacy.violations);
    pill("retention", violations ? "bad" : "good", violations ? "policy violated" : watched ? "" : `retains ${state.retains}`);
    tile("rate", number(state.samples_per_second));
    tile("lag", number(sum(state.lag)));
    tile("resident", number(samples.resident));
    rows("stream", [
      ["segment", state.segment ?? (samples.learned ? "not named in the stream" : "none yet")],
      ["received", number(samples.received)],
      ["learned and discarded", number(samples.discarded)],
      ["dead letters", samples.dead_lettered ? `${number(samples.dead_lettered)} (${listed(state.dead_letters)})` : "0"],
      ["lost (gaps in the topic)", number(samples.lost), samples.lost],
      ["detected boundaries", sum(state.boundaries) ? listed(state.boundaries) : null],
      ["segment switches", judged == null ? null : `${judged.found} of ${judged.found + judged.missed
        + judged.awaited} detected; false alarms: ${judged.false_alarms}`, judged?.missed || judged?.false_alarms],
      ["regime", state.regime == null ? null : number(state.regime)],
      ["returning regimes", judged?.returns ? `${judged.recognised} of ${judged.returns} recognised` : null,
        judged?.recognised < judged?.returns],
      ["time learning", duration(state.seconds - state.evaluation_seconds)],
      ["time evaluating", duration(state.evaluation_seconds)],
      ["broker", state.broker.up ? "connected" : state.broker.detail, !state.broker.up],
    ]);
    rows("privacy", [
      ["learner retains", state.retains],
      ["samples in the learner's memory", number(samples.kept)],
      ["privacy budget spent", account == null ? null
        : account.simulated ? `none: seeded noise gives no privacy (simulated \u03b5 = ${account.simulated_epsilon.toFixed(2)})`
        : `\u03b5 = ${account.epsilon.toFixed(2)} of ${account.budget}, \u03b4 = ${account.delta}`, account?.spent],
      ["policy", privacy.policy ? `${privacy.policy}, allows ${privacy.allows}` : "none"],
      ["violations", privacy.policy || violations ? (violations ? listed(privacy.violations) : "0") : null, violations],
      ["residency of the last batch", privacy.residency_seconds == null ? null : duration(privacy.residency_seconds)
        + (privacy.residency_allowed_seconds == null ? "" : ` of ${duration(privacy.residency_allowed_seconds)} allowed`)],
      ["learned but not purged", privacy.unpurged_records == null ? null
        : `${number(privacy.unpurged_records)}${privacy.unpurged_records ? `, for ${duration(privacy.purge_lag_seconds)}` : ""}`],
      ["receipts in the ledger", privacy.ledger_entries == null ? null : number(privacy.ledger_entries)],
      ["ledger head", privacy.ledger_head == null ? null : `${privacy.ledger_head.slice(0, 16)}…`],
    ]);
  };

  // one heat map for each probe, created with the first event that has them
  const heatmapPlaces = (classes) => {
    const list = by("classes");
    if (list.children.length !== classes.length)
      list.replaceChildren(...classes.map(({ name }) => {
        const panel = document.createElement("figure"), caption = document.createElement("figcaption");
        const plot = document.createElement("div");
        panel.className = "panel";
        caption.textContent = name;
        plot.className = "plot";
        plot.role = "img";
        plot.ariaLabel = `accuracy on each class of ${name} over the stream`;
        panel.append(caption, plot);
        return panel;
      }));
    by("by-class").hidden = !classes.length;
    return [...list.querySelectorAll(".plot")];
  };

  const plotlyAt = document.currentScript.dataset.plotly;
  let plotly = null; // the promise that Plotly's script has run

  // a script element cannot send the token, so the script is fetched; the page's security policy allows its hash
  const run = async (headers) => {
    const answer = await fetch(plotlyAt, { headers });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const script = document.createElement("script");
    script.textContent = await answer.text();
    document.head.append(script);
    draw();
  };

  const draw = () => {
    if (drawn === null || !window.Plotly) return;
    heatmapPlaces(drawn.classes).forEach((place, i) => drawFigure(place, drawn.classes[i].figure));
    for (const name of ["accuracy", "forgetting", "prequential", "calibration", "throughput"]) {
      const figure = drawn.figures[name];
      const without = document.querySelector(`[data-without=${name}]`);
      if (without) without.hidden = Boolean(figure);
      by(name).hidden = !figure;
      if (figure) drawFigure(name, figure);
    }
  };

  const element = (name, ...children) => {
    const made = document.createElement(name);
    made.append(...children);
    return made;
  };

  const showFigures = (view) => {
    drawn = view;
    const { verdict, numbers, circumstance } = view.headline;
    by("headline").replaceChildren(element("span", verdict, ...(numbers ? [": ", element("b", numbers)] : []), " ",
      element("small", circumstance)));
    document.title = `${by("headline").textContent.trim()} · Lethe`;
    by("summary").textContent = `${view.summary[0].toUpperCase()}${view.summary.slice(1)}.`;
    document.querySelectorAll("[data-sign]").forEach((place, i) => {
      const { question, value, about, verdict } = view.signs[i];
      const [shown, caption] = place.children;
      shown.textContent = value;
      shown.className = verdict;
      caption.replaceChildren(element("b", question), ` ${about}`);
    });
    document.body.classList.toggle("crowded", view.crowded);
    by("scores").innerHTML = view.scores; // escaped by the service, as the matrix is
    by("legend").replaceChildren(...view.legend.map(({ name, colour, dashed }) => {
      const item = document.createElement("li"), chip = document.createElement("i");
      chip.style.setProperty("--chip", colour);
      chip.classList.toggle("dashed", dashed);
      item.append(chip, name);
      return item;
    }));
    by("numbered").textContent = view.numbered.length
      ? `Segments: ${view.numbered.map((name, i) => `${i + 1}\u00a0${name}`).join(", ")}.` : "";
    by("matrix").innerHTML = view.matrix || '<p class="nothing">No evaluation yet.</p>';
    draw();
  };

  const KINDS = { state: showState, figures: showFigures };

  const handle = (message) => {
    const lines = message.split("\n");
    const kind = lines.find((line) => line.startsWith("event: "))?.slice(7);
    const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
    if (kind in KINDS) KINDS[kind](JSON.parse(data));
  };

  const askForToken = () => new Promise((resolve) => {
    by("ask").addEventListener("close", () => {
      sessionStorage.setItem(KEY, by("token").value);
      resolve();
    }, { once: true });
    by("ask").showModal();
  });

  // EventSource cannot send a token, so the stream is parsed here
  const listen = async () => {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const control = new AbortController();
    let silence = setTimeout(() => control.abort(), SILENCE_MS);
    try {
      const answer = await fetch("events", { headers, cache: "no-store", signal: control.signal });
      if (answer.status === 401) {
        clearTimeout(silence);
        return await askForToken();
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      plotly ??= run(headers).catch(() => { plotly = null; }); // tried again with the next connection
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(() => control.abort(), SILENCE_MS);
        const messages = (rest + value).split("\n\n");
        rest = messages.pop();
        messages.forEach(handle);
        pill("connection", "good", "live");
        document.body.classList.remove("stale");
      }
    } finally {
      clearTimeout(silence);
    }
  };

  const keepListening = async () => {
    for (;;) {
      try {
        await listen();
      } catch (error) {
        if (!(error instanceof TypeError || error.name === "AbortError" || /^status /.test(error.message))) throw error;
      }
      pill("connection", "bad", "not connected");
      document.body.classList.add("stale");
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  };

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  keepListening();
})();
