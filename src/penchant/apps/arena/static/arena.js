// The page of an arena: no framework, no build, nothing from elsewhere. What systems made is set as text, never as HTML.
const $ = (id) => document.getElementById(id);
const SIDES = ["a", "b"];
const LABELS = { A: "A is better", B: "B is better", TIE: "a tie", BOTH_BAD: "both bad" };
let token = "";
let battle = null; // {id, isHeard, open, voted, revealed, players, urls}
let ticking = 0;

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", keepalive: true, body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-token": token },
  };
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Error("The arena cannot be reached. Is the connection up?");
  }
  const found = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(found.error ?? `The arena replied with ${reply.status}.`), { status: reply.status });
  return found;
}

function say(text) { $("say").textContent = text; }
function wrong(error) { $("error").textContent = error.message; $("error").hidden = false; }
function show(name) {
  for (const id of ["consent", "ask", "making", "battle"]) $(id).hidden = id !== name;
  $("error").hidden = true;
}
function attempt(action) { return (...given) => Promise.resolve(action(...given)).catch(wrong); }

// Asking
function isMusic() { return new FormData($("ask-form")).get("modality") === "audio"; }
function askForm() { $("music").hidden = !isMusic(); }
async function ask() {
  const form = new FormData($("ask-form"));
  const wish = { prompt: form.get("prompt").trim(), modality: form.get("modality") };
  if (isMusic()) {
    if (form.get("voice")) wish.instrumental = form.get("voice") === "no";
    if (form.get("duration")) wish.duration = Number(form.get("duration"));
    if (form.get("lyrics")?.trim()) wish.lyrics = form.get("lyrics").trim();
  }
  if (!wish.prompt) { $("prompt").focus(); return; }
  const button = $("ask-form").querySelector("[type=submit]");
  button.disabled = true;
  try {
    const made = await call("/api/battles", wish);
    await wait(made.battle, wish.prompt);
  } finally {
    button.disabled = false;
  }
}
async function wait(id, prompt) {
  for (const place of document.querySelectorAll("[data-prompt]")) place.textContent = prompt;
  show("making");
  say("Two systems are at work.");
  $("making-title").focus();
  const since = performance.now();
  for (;;) {
    const found = await call(`/api/battles/${id}`);
    $("elapsed").textContent = Math.round((performance.now() - since) / 1000);
    if (found.state === "ready") { await present(found); return; }
    if (found.state === "failed") { show("ask"); throw new Error(found.why); }
    await new Promise((done) => setTimeout(done, 700));
  }
}

// Showing both sides at once
async function present(found) {
  const files = await Promise.all(SIDES.map(async (side) => {
    const reply = await fetch(`/api/artefacts/${found.sides[side].artefact}`);
    if (!reply.ok) throw new Error("What was made cannot be fetched. Please ask again.");
    return reply.blob();
  }));
  battle = { id: found.battle, isHeard: false, open: false, voted: null, revealed: false, players: {}, urls: [] };
  for (const [place, side] of SIDES.entries()) await fill(side, files[place], found.sides[side].media_type);
  for (const side of SIDES) {
    $(`name-${side}`).textContent = side.toUpperCase();
    $(`about-${side}`).textContent = "";
    document.querySelector(`.side.${side}`).classList.remove("won");
  }
  $("battle-title").textContent = "Which is better?";
  $("why").reset(); $("why").hidden = true; $("again").hidden = true; $("votes").hidden = false;
  for (const button of document.querySelectorAll("[data-vote]")) button.setAttribute("aria-pressed", "false");
  gate(found.gate);
  show("battle");
  say(battle.isHeard ? "Both are ready. Listen to each before you vote." : "Both are ready. Look at each before you vote.");
  $("battle-title").focus();
  if (!battle.isHeard) watch();
}
async function fill(side, file, kind) {
  const place = $(`shown-${side}`);
  place.replaceChildren();
  if (kind === "text/plain") {
    const words = document.createElement("div");
    words.className = "words";
    words.textContent = (await file.text()).trimEnd();
    place.append(words);
    return;
  }
  const url = URL.createObjectURL(file);
  battle.urls.push(url);
  if (kind.startsWith("image/")) {
    const picture = document.createElement("img");
    picture.alt = `Picture ${side.toUpperCase()}`;
    picture.src = url;
    place.append(picture);
  } else {
    battle.isHeard = true;
    place.append(player(side, url));
  }
}
function player(side, url) {
  const name = side.toUpperCase();
  const audio = new Audio(url);
  const box = document.createElement("div");
  box.className = "player";
  const button = document.createElement("button");
  button.type = "button";
  const seek = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1, step: 0.1, value: 0 });
  seek.setAttribute("aria-label", `Position in ${name}`);
  const clock = document.createElement("output");
  const face = () => {
    button.textContent = audio.paused ? "▶" : "❚❚";
    button.setAttribute("aria-label", `${audio.paused ? "Play" : "Pause"} ${name} (key ${name})`);
  };
  const time = () => {
    const length = Number.isFinite(audio.duration) ? audio.duration : 0;
    seek.max = length; seek.value = audio.currentTime;
    clock.textContent = `${minutes(audio.currentTime)} / ${minutes(length)}`;
  };
  button.addEventListener("click", () => (audio.paused ? audio.play().catch(wrong) : audio.pause()));
  seek.addEventListener("input", () => { audio.currentTime = Number(seek.value); });
  audio.addEventListener("play", () => {
    for (const other of Object.values(battle.players)) if (other !== audio) other.pause();
    face(); happened([[side, "PLAY"]]);
  });
  audio.addEventListener("pause", () => { face(); happened([[side, audio.ended ? "STOP" : "PAUSE"]]); });
  for (const kind of ["timeupdate", "loadedmetadata", "ended"]) audio.addEventListener(kind, time);
  battle.players[side] = audio;
  face(); time();
  box.append(button, seek, clock);
  return box;
}
function minutes(seconds) { return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`; }

// Attention: said as it happens, counted by the server with its own clock
const inView = { a: false, b: false };
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const most = Math.min(entry.boundingClientRect.height, innerHeight);
    seen(entry.target.closest("[data-side]").dataset.side, entry.intersectionRect.height >= 0.4 * most);
  }
}, { threshold: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1] });
function watch() { for (const side of SIDES) { inView[side] = false; watcher.observe($(`shown-${side}`)); } }
function seen(side, isSeen) {
  isSeen &&= document.visibilityState === "visible";
  if (!battle || battle.isHeard || inView[side] === isSeen) return;
  inView[side] = isSeen;
  happened([[side, isSeen ? "PLAY" : "PAUSE"]]);
}
let order = Promise.resolve(); // events arrive in the order in which they happened
function happened(events) {
  if (!battle || battle.voted) return order;
  const { id } = battle;
  order = order.then(() => call(`/api/battles/${id}/attention`, { events }))
    .then((found) => { if (battle?.id === id) gate(found); })
    .catch((error) => { if (error.status !== 409) wrong(error); });
  return order;
}
ticking = setInterval(() => {
  if (!battle || battle.voted || $("battle").hidden) return;
  const on = SIDES.filter((side) => (battle.isHeard ? !battle.players[side]?.paused : inView[side]));
  if (on.length) happened(on.map((side) => [side, "TICK"]));
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") for (const side of SIDES) seen(side, false);
  else if (battle && !battle.isHeard) { watcher.disconnect(); watch(); }
});
addEventListener("pagehide", () => {
  clearInterval(ticking);
  for (const side of SIDES) { battle?.players[side]?.pause(); seen(side, false); }
});
function gate(found) {
  const verb = battle.isHeard ? "heard" : "in view";
  for (const side of SIDES) {
    const [got, wanted] = [found.attended[side], found.needed[side]];
    const share = wanted ? Math.min(1, got / wanted) : 1;
    $(`gate-${side}`).firstElementChild.style.width = `${100 * share}%`;
    $(`gate-${side}`).setAttribute("aria-valuenow", Math.round(100 * share));
    $(`gate-text-${side}`).textContent = share === 1 ? `✓ ${verb}` : `${Math.floor(got)} of ${Math.ceil(wanted)} s ${verb}`;
  }
  if (found.is_open && !battle.open) say("You may vote now: 1 for A, 2 for B, 3 for a tie, 4 for both bad.");
  battle.open = found.is_open;
  for (const button of document.querySelectorAll("[data-vote]")) button.disabled = !battle.open || battle.revealed;
  $("hint").textContent = battle.open ? "" : battle.isHeard
    ? `Listen to both; then you may vote.${matchMedia("(hover: hover)").matches ? " Keys: A and B play and pause." : ""}` : "Take both in; then you may vote.";
}

// Voting, reasons, names
async function vote(preference) {
  if (!battle?.open || battle.revealed) return;
  await order; // what was heard until now counts
  const found = await call(`/api/battles/${battle.id}/vote`, { preference });
  battle.voted = found.preference;
  for (const audio of Object.values(battle.players)) audio.pause();
  for (const button of document.querySelectorAll("[data-vote]")) {
    button.setAttribute("aria-pressed", String(button.dataset.vote === found.preference));
  }
  say(`Your vote is kept: ${LABELS[found.preference]}. You may say why, and then see who made them.`);
  const isNew = $("why").hidden;
  $("why").hidden = false;
  if (isNew) $("why").querySelector("textarea").focus();
}
async function reveal() {
  const form = new FormData($("why"));
  const words = Object.fromEntries([...form].filter(([, text]) => text.trim()));
  if (Object.keys(words).length) await call(`/api/battles/${battle.id}/reasons`, words);
  const { names } = await call(`/api/battles/${battle.id}/reveal`, {});
  battle.revealed = true;
  for (const side of SIDES) {
    const it = names[side];
    $(`name-${side}`).textContent = it.system;
    const facts = [it.organisation, it.access, it.speed ? `${it.speed.toFixed(1)} s of sound a second` : ""];
    $(`about-${side}`).textContent = `was ${side.toUpperCase()} · ${facts.filter(Boolean).join(" · ")}`;
  }
  if (["A", "B"].includes(battle.voted)) document.querySelector(`.side.${battle.voted.toLowerCase()}`).classList.add("won");
  $("battle-title").textContent = { A: "You preferred A", B: "You preferred B", TIE: "You found them even", BOTH_BAD: "You found both bad" }[battle.voted];
  $("why").hidden = true; $("votes").hidden = true; $("again").hidden = false;
  say(`A was ${names.a.system}, B was ${names.b.system}. You said: ${LABELS[battle.voted]}.`);
  $("next").focus();
}
function again() {
  watcher.disconnect();
  for (const audio of Object.values(battle?.players ?? {})) audio.pause();
  for (const url of battle?.urls ?? []) URL.revokeObjectURL(url);
  battle = null;
  show("ask");
  $("prompt").select();
}

// Keys
addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "Enter" && !$("ask").hidden) { event.preventDefault(); attempt(ask)(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || !battle) return;
  if (event.target.closest("textarea, select, input:not([type=range])")) return;
  const key = event.key.toLowerCase();
  const choice = { 1: "A", 2: "B", 3: "TIE", 4: "BOTH_BAD" }[key];
  if (choice) attempt(vote)(choice);
  else if (SIDES.includes(key) && battle.players[key]) {
    const audio = battle.players[key];
    if (audio.paused) audio.play().catch(wrong); else audio.pause();
  } else if (key === "n" && battle.revealed) again();
  else return;
  event.preventDefault();
});

$("prompt").addEventListener("input", () => {
  $("prompt-count").textContent = `${$("prompt").value.length} of ${$("prompt").maxLength}`;
});
$("ask-form").addEventListener("change", askForm);
$("ask-form").addEventListener("submit", (event) => { event.preventDefault(); attempt(ask)(); });
$("why").addEventListener("submit", (event) => { event.preventDefault(); attempt(reveal)(); });
$("next").addEventListener("click", again);
$("accept").addEventListener("click", attempt(async () => {
  await call("/api/consent", { terms: $("app").dataset.terms });
  show("ask"); $("prompt").focus();
}));
for (const button of document.querySelectorAll("[data-vote]")) button.addEventListener("click", attempt(() => vote(button.dataset.vote)));
attempt(async () => {
  const session = await call("/api/session");
  token = session.token;
  askForm();
  show(session.consented ? "ask" : "consent");
})();
