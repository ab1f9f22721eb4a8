// Tiles of all cameras, where there are several: a small picture of each with its boxes, and a link to its own page.

const EVERY = 1000; // ms between two pictures of a tile
const WORD = {
  "starting": "… starting",
  "guarding": "● guarding",
  "camera fault": "▲ camera fault",
  "stale": "▲ old picture",
  "source lost": "▲ source lost",
  "returning": "▲ coming back",
  "overloaded": "▲ overloaded",
  "ended": "■ ended",
  "not ready": "▲ not ready",
  "stopped": "■ stopped",
};

const whole = new Intl.NumberFormat("en");
const tiles = new Map(); // name -> its parts

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function tileOf(name) {
  if (!tiles.has(name)) {
    const link = make("a", "tile", document.getElementById("tiles"));
    link.href = `?camera=${encodeURIComponent(name)}`;
    link.dataset.camera = name;
    const shown = make("div", "shown", link);
    const picture = make("canvas", "", shown);
    picture.width = 16;
    picture.height = 9;
    picture.setAttribute("aria-hidden", "true");
    const boxes = make("div", "boxes", shown);
    const title = make("strong", "", link);
    title.textContent = name;
    tiles.set(name, { link, shown, picture, boxes, word: make("span", "word", link), facts: make("span", "facts", link), at: -EVERY, busy: false, sequence: null });
  }
  return tiles.get(name);
}

async function paint(tile, camera) {
  if (tile.busy || performance.now() - tile.at < EVERY || tile.sequence === camera.frame.sequence) return;
  tile.busy = true;
  tile.at = performance.now();
  try {
    const where = `frame.jpg?camera=${encodeURIComponent(camera.name)}&sequence=${camera.frame.sequence}&small=1`;
    const answer = await fetch(where, { cache: "no-store" });
    if (!answer.ok) return;
    tile.sequence = Number(answer.headers.get("X-Sequence"));
    const bitmap = await createImageBitmap(await answer.blob());
    tile.picture.width = bitmap.width;
    tile.picture.height = bitmap.height;
    tile.picture.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    // Boxes are drawn only over the very picture that they belong to.
    const verdicts = tile.sequence === camera.frame.sequence ? camera.frame.verdicts : [];
    tile.boxes.replaceChildren(...verdicts.filter((verdict) => verdict.reason !== "nothing found").map((verdict) => box(verdict, camera.frame)));
  } catch {
    // The connection is gone; the event stream notices and says so.
  } finally {
    tile.busy = false;
  }
}

function box(verdict, frame) {
  const element = document.createElement("div");
  element.className = "tile-box";
  element.dataset.decision = verdict.decision;
  const [x, y, width, height] = verdict.region;
  const percent = (part, all) => `${(100 * part) / all}%`;
  element.style.left = percent(x, frame.width);
  element.style.top = percent(y, frame.height);
  element.style.width = percent(width, frame.width);
  element.style.height = percent(height, frame.height);
  return element;
}

/** Show all cameras; `chosen` is the one that the rest of the page shows. */
export function show(cameras, chosen) {
  document.getElementById("cameras").hidden = false;
  for (const camera of cameras) {
    const tile = tileOf(camera.name);
    const word = WORD[camera.status] ?? camera.status;
    tile.link.dataset.status = camera.status;
    tile.link.title = `${camera.source}: ${camera.detail || camera.status}`;
    if (camera.name === chosen) tile.link.setAttribute("aria-current", "true");
    else tile.link.removeAttribute("aria-current");
    if (tile.word.textContent !== word) tile.word.textContent = word;
    tile.facts.textContent = `${camera.fps.toFixed(1)} a second · ✓ ${whole.format(camera.released)} · ✕ ${whole.format(camera.withheld)}${camera.drift ? " · ▲ drift" : ""}`;
    if (!["guarding", "overloaded"].includes(camera.status)) {
      tile.boxes.replaceChildren(); // nothing that was said of this picture may be taken for news
      tile.sequence = null;
    } else if (camera.frame) {
      paint(tile, camera);
    }
  }
}

/** The cameras that give nothing to judge. */
export function lost(cameras) {
  return cameras.filter((camera) => ["camera fault", "stale", "source lost"].includes(camera.status));
}
