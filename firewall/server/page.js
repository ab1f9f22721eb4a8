// The live page: listens to /events, fetches /frame.jpg, and shows both. It sends nothing.
"use strict";

(() => {
  const LISTED = 50; // sightings in each list
  const SILENCE = 4000; // ms without an event after which the connection counts as lost
  const RETRY = 1500; // ms
  const ANNOUNCED = 10000; // ms between two spoken announcements

  const WHY = {
    "suspicious": "It behaves like an adversarial example.",
    "not a sign": "A second network takes it for no sign at all, or for one of another kind.",
    "obstructed": "Something lies on the sign: a sticker, dirt, a drop or the edge of a shadow.",
    "unfit region": "It is too small, or too long and narrow, to be judged.",
    "too little contrast": "There is too little to see for a label.",
    "contradictory": "Two boxes of the same place were taken for different things.",
    "not certified": "A sticker could have changed the label.",
    "not confirmed yet": "The label has to be seen in a few frames running.",
    "revoked": "A label that was released before is taken back: the sign has become suspicious.",
    "late": "The verdict came after the deadline.",
    "nothing found": "There is nothing in the frame to classify.",
    "bad image": "The image can't be judged.",
    "source error": "The source gave no frame.",
    "stale": "The camera shows an old picture.",
    "camera fault": "The camera shows nothing new, or next to nothing: it is frozen, blank, blocked or over-exposed.",
    "self-test failed": "The bundle's golden frames are judged otherwise than they should be: this device can't be relied on.",
    "engine error": "The classifier failed.",
    "detector error": "A detector failed.",
    "unknown": "No reason was given.",
  };
  const STATUS = {
    "connecting": ["…", "Connecting"], "starting": ["…", "Starting"],
    "guarding": ["●", "Guarding"],
    "camera fault": ["▲", "Camera fault"],
    "stale": ["▲", "Old picture"],
    "source lost": ["▲", "Source lost"],
    "returning": ["▲", "Coming back"], "overloaded": ["▲", "Overloaded"],
    "not ready": ["▲", "Not ready"],
    "ended": ["■", "Source ended"], "stopped": ["■", "Stopped"],
    "disconnected": ["▲", "Not connected"],
  };

  const judged = (status) => status === "guarding" || status === "overloaded";
  const byId = (id) => document.getElementById(id);
  const put = (id, text) => {
    const element = byId(id);
    if (element.textContent !== text) element.textContent = text;
  };
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  };
  const whole = new Intl.NumberFormat("en");
  const ms = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : whole.format(Math.round(value))} ms`);
  const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
  const labelOf = (verdict) => verdict.label_name ?? (verdict.label === null ? "no label" : `class ${verdict.label}`);
  const isReleased = (verdict) => verdict.decision === "release";
  const saying = (verdict) => (isReleased(verdict) ? labelOf(verdict) : verdict.reason);

  let state = null;
  const chosen = new URLSearchParams(location.search).get("camera"); // of several; null: the first
  let tiles = null; // the module that shows several, once it is there

  // ---- the connection

  let stream = null;
  let retry = 0;
  let watch = 0;

  function connect() {
    disconnect();
    stream = new EventSource(chosen === null ? "events" : `events?camera=${encodeURIComponent(chosen)}`);
    stream.onmessage = (event) => {
      heard();
      show(JSON.parse(event.data));
    };
    stream.onerror = lost;
    heard();
  }

  function disconnect() {
    clearTimeout(retry);
    clearTimeout(watch);
    if (stream) stream.close();
    stream = null;
  }

  function heard() {
    clearTimeout(watch);
    watch = setTimeout(lost, SILENCE);
  }

  function lost() {
    disconnect();
    showStatus("disconnected", "");
    retry = setTimeout(connect, RETRY);
  }

  // A page that nobody sees costs the guarded machine nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));

  // ---- the newest frame: boxes are drawn only over the very picture that they belong to

  let fetching = false;
  let drawn = null; // sequence of the picture shown with its boxes
  let painted = false;

  async function showFrame() {
    if (fetching || !judged(document.body.dataset.status)) return;
    fetching = true;
    try {
      while (state && state.frame && state.frame.sequence !== drawn) {
        const wanted = state.frame;
        const ofCamera = state.cameras.length ? `&camera=${encodeURIComponent(state.camera)}` : "";
        const answer = await fetch(`frame.jpg?sequence=${wanted.sequence}${ofCamera}`, { cache: "no-store" });
        if (!answer.ok) break;
        const sequence = Number(answer.headers.get("X-Sequence"));
        const bitmap = await createImageBitmap(await answer.blob());
        const picture = byId("picture");
        picture.width = bitmap.width;
        picture.height = bitmap.height;
        picture.getContext("2d").drawImage(bitmap, 0, 0);
        picture.classList.toggle("small", bitmap.width < 400);
        bitmap.close();
        byId("frame").style.setProperty("--ratio", String(wanted.width / wanted.height));
        drawn = sequence;
        painted = true;
        showVerdicts(sequence === wanted.sequence ? wanted : { ...wanted, sequence, verdicts: [] });
        if (sequence !== wanted.sequence) break;
      }
    } catch {
      // The connection is gone; the event stream notices and says so.
    } finally {
      fetching = false;
      showStage();
    }
  }

  function showVerdicts(frame) {
    const released = frame.verdicts.filter(isReleased);
    const withheld = frame.verdicts.filter((verdict) => !isReleased(verdict));
    byId("boxes").replaceChildren(...looked(frame), ...frame.verdicts.map((verdict) => box(verdict, frame)));
    const parts = [];
    if (released.length) parts.push(`✓ released: ${released.map(saying).join(", ")}`);
    if (withheld.length) parts.push(`✕ withheld: ${withheld.map(saying).join(", ")}`);
    put("frame-verdict", parts.join("  ·  "));
    put("frame-number", `frame ${whole.format(frame.sequence)}`);
    put("frame-size", `${frame.width} × ${frame.height}`);
    byId("picture").setAttribute("aria-label", `Newest frame. ${parts.join(". ")}`);
  }

  function place(element, [x, y, width, height], frame) {
    const percent = (part, all) => `${(100 * part) / all}%`;
    element.style.left = percent(x, frame.width);
    element.style.top = percent(y, frame.height);
    element.style.width = percent(width, frame.width);
    element.style.height = percent(height, frame.height);
    return element;
  }

  // The part of the frame that is looked at, if one is named.
  function looked(frame) {
    if (!frame.looked_at) return [];
    const element = place(make("div", "looked-at", ""), frame.looked_at, frame);
    element.setAttribute("role", "listitem");
    element.setAttribute("aria-label", "Signs are looked for inside of this line only");
    return [element];
  }

  function box(verdict, frame) {
    const [x, y, width, height] = verdict.region;
    const element = place(make("div", "box", ""), verdict.region, frame);
    element.setAttribute("role", "listitem");
    element.dataset.decision = verdict.decision;
    if (isReleased(verdict)) element.dataset.label = labelOf(verdict);
    element.dataset.reason = verdict.reason;
    // The tag goes above its box; below where there is no room; inside a box that fills the frame.
    const above = y / frame.height > 0.09;
    const below = (y + height) / frame.height < 0.91;
    if (!above) element.classList.add(below ? "low" : "inside");
    if ((x + width / 2) / frame.width > 0.6) element.classList.add("right");
    element.append(make("span", "tag", `${isReleased(verdict) ? "✓" : "✕"} ${saying(verdict)}`));
    return element;
  }

  function showStage() {
    const status = document.body.dataset.status;
    const stage = !painted ? "empty" : judged(status) ? "current" : "old";
    byId("stage").dataset.state = stage;
    if (stage === "empty") {
      put("stage-note", judged(status) || status === "starting" ? "Waiting for the first frame" : "No picture");
    }
    if (stage === "old") {
      drawn = null; // nothing that was said of this picture may be taken for news
      byId("boxes").replaceChildren();
      byId("picture").setAttribute("aria-label", "An old frame");
      put("frame-verdict", "");
      put("stage-note", "This picture is old.\nNothing is released from it.");
    }
  }

  // ---- status and banner

  function showStatus(status, detail) {
    if (document.body.dataset.status !== status) document.body.dataset.status = status;
    const [glyph, word] = STATUS[status] ?? ["?", status];
    put("status-glyph", glyph);
    put("status-word", word);
    const because = detail ? `${detail}. `.replace(/\.\. $/, ". ") : "";
    if (status === "disconnected") {
      put("frame-age", "");
      showBanner("connection", "The connection to the firewall is lost.", "What you see here is old. Trying again.");
    } else if (status === "camera fault") {
      showBanner("camera", "The camera has a fault.", `${because}Nothing is released until it shows the road again.`);
    } else if (status === "stale") {
      showBanner("stale", "The camera shows an old picture.", `${because}Nothing is released until new ones arrive.`);
    } else if (status === "source lost") {
      showBanner("source", "The source is lost.", `${because}Nothing is released until frames arrive again.`);
    } else if (status === "not ready" || status === "returning") {
      showBanner("not-ready", "The firewall is not ready.", `${because}Nothing is released.`);
    } else if (status === "overloaded") {
      showBanner("overloaded", "The firewall is overloaded.", `${because}What is late is withheld.`);
    } else if (status === "stopped") {
      showBanner("stopped", "The firewall has stopped.", "Nothing is released.");
    } else if (status === "ended") {
      showBanner("ended", "This source has ended.", "Nothing more is released from it.");
    } else {
      showOthers();
    }
    showStage();
  }

  // Several cameras: another one's loss is news on this one's page, too.
  function showOthers() {
    const lost = tiles && state ? tiles.lost(state.cameras) : [];
    const named = lost.map((camera) => `${camera.name}: ${camera.detail || "it gives nothing"}`).join("; ");
    const title = lost.length === 1 ? "One camera gives nothing to judge." : `${lost.length} cameras give nothing to judge.`;
    if (lost.length) showBanner("cameras", title, `${named}. Nothing is released from there until frames arrive again.`);
    else byId("banner").hidden = true;
  }

  function showCameras() {
    if (tiles) tiles.show(state.cameras, state.camera);
    else if (state.cameras.length) import("./cameras.js").then((module) => { tiles = module; });
  }

  function showBanner(kind, title, text) {
    const banner = byId("banner");
    banner.dataset.kind = kind;
    put("banner-title", title);
    put("banner-text", text);
    banner.hidden = false;
  }

  // ---- numbers

  function showNumbers() {
    const { totals, latency_ms: latency, deadline_ms: deadline } = state;
    put("source", state.cameras.length ? `${state.camera}: ${state.source}` : state.source);
    byId("source").title = state.source;
    put("bundle", state.unsigned ? `${state.bundle} (unsigned)` : state.bundle);
    byId("bundle").title = state.unsigned ? "No key that is trusted here has signed this bundle" : "";
    put("version", state.version);
    byId("drift-entry").hidden = !state.drift;
    if (state.drift) {
      byId("drift-entry").dataset.spoken = String(state.drift.spoken);
      byId("drift-entry").title = state.drift.line;
      put("drift", state.drift.spoken ? "▲ differs from calibration" : "as calibrated");
    }
    put("count-frames", whole.format(totals.frames));
    put("count-released", whole.format(totals.released));
    put("count-withheld", whole.format(totals.withheld));
    put("count-dropped", whole.format(totals.dropped));
    put("count-restarts", whole.format(totals.restarts));
    put("rate", `${state.fps.toFixed(1)} a second`);
    put("frame-age", state.age_s === null ? "" : `${state.age_s.toFixed(1)} s old`);
    put("latency-count", whole.format(latency.count));
    put("deadline", deadline === null ? "none" : ms(deadline));
    for (const name of ["p50", "p99", "max"]) {
      put(`latency-${name}`, ms(latency[name]));
      byId(`latency-${name}`).dataset.over = String(deadline !== null && latency[name] > deadline);
    }
    const reasons = Object.entries(totals.reasons).map(([reason, count]) => `${reason}\n${whole.format(count)}`);
    const listed = byId("reasons");
    if (listed.dataset.shown === reasons.join()) return;
    listed.dataset.shown = reasons.join();
    listed.replaceChildren(
      ...reasons.map((entry) => {
        const [reason, count] = entry.split("\n");
        const item = make("li", "", `${reason} `);
        item.append(make("b", "", count));
        return item;
      }),
    );
  }

  function showTrace() {
    const canvas = byId("trace");
    const density = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
    if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const pen = canvas.getContext("2d");
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);
    const deadline = state.deadline_ms;
    const ordered = state.trace.map(([latency]) => latency).sort((a, b) => a - b);
    // One late verdict must not flatten all others: bars above the top are cut.
    const typical = ordered[Math.floor(0.95 * (ordered.length - 1))] ?? 0;
    const top = Math.max(deadline === null ? 0 : 1.2 * deadline, 1.3 * typical, 1);
    const fitting = Math.min(120, Math.floor(width / 5));
    const step = width / fitting;
    const trace = state.trace.slice(-fitting);
    pen.fillStyle = colour("--good");
    pen.strokeStyle = colour("--bad");
    pen.lineWidth = 1.5;
    trace.forEach(([latency, released], index) => {
      const x = width - (trace.length - index) * step;
      const tall = Math.max(2, Math.min(1, latency / top) * (height - 1));
      if (released) pen.fillRect(x, height - tall, Math.max(1, step - 2), tall);
      else pen.strokeRect(x + 0.75, height - tall + 0.75, Math.max(1, step - 3.5), Math.max(1, tall - 1.5));
    });
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, height - 0.5);
    pen.lineTo(width, height - 0.5);
    pen.stroke();
    if (deadline === null) return;
    const y = height - (deadline / top) * (height - 1);
    pen.strokeStyle = colour("--soft");
    pen.setLineDash([5, 4]);
    pen.beginPath();
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    pen.stroke();
    pen.setLineDash([]);
  }

  // ---- the lists

  function showList(id, sightings, full) {
    const list = byId(id);
    if (full) list.replaceChildren();
    for (const sighting of [...sightings].reverse()) {
      const known = list.querySelector(`[data-number="${sighting.number}"]`);
      if (known) {
        fill(known, sighting);
      } else {
        list.prepend(fill(row(sighting, !full), sighting));
        if (!full && !isReleased(sighting) && sighting.reason !== "nothing found") announce(`Withheld: ${sighting.reason}`);
      }
    }
    while (list.children.length > LISTED) list.lastElementChild.remove();
  }

  function row(sighting, fresh) {
    const item = make("li", fresh ? "fresh" : "", "");
    item.dataset.number = sighting.number;
    item.dataset.decision = sighting.decision;
    if (isReleased(sighting)) item.dataset.label = labelOf(sighting);
    item.dataset.reason = sighting.reason;
    const mark = make("span", "mark", isReleased(sighting) ? "✓" : "✕");
    mark.setAttribute("aria-hidden", "true");
    item.append(mark, make("span", "what", saying(sighting)), make("span", "count", ""));
    if (!isReleased(sighting)) item.append(make("span", "why", ""));
    item.append(make("span", "meta", ""));
    return item;
  }

  function fill(item, sighting) {
    const { count, first_sequence: first, sequence: last } = sighting;
    item.dataset.count = count;
    item.querySelector(".count").textContent = count > 1 ? `${whole.format(count)} times` : "";
    const why = item.querySelector(".why");
    if (why) why.textContent = sighting.detail || WHY[sighting.reason] || "";
    const frames = first === last ? `frame ${whole.format(last)}` : `frames ${whole.format(first)} – ${whole.format(last)}`;
    const facts = [clock(sighting.began), frames];
    if (!["source error", "stale", "camera fault"].includes(sighting.reason)) facts.push(ms(sighting.latency_ms)); // without a frame there is no latency
    item.querySelector(".meta").textContent = facts.join("  ·  ");
    return item;
  }

  let announced = -ANNOUNCED;

  function announce(text) {
    if (performance.now() - announced < ANNOUNCED) return;
    announced = performance.now();
    put("announcer", "");
    put("announcer", text);
  }

  // ---- all of it

  function show(next) {
    if (next.full) drawn = null; // perhaps another run of the firewall
    state = next;
    showCameras();
    showStatus(state.status, state.detail);
    showNumbers();
    showTrace();
    showList("released", state.released, state.full);
    showList("withheld", state.withheld, state.full);
    showFrame();
  }

  if (!document.hidden) connect();
})();
