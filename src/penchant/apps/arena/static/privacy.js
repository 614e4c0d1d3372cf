// Everything of this browser is deleted at its wish; asked twice, as nothing brings it back.
"use strict";
const button = document.getElementById("forget");
const said = document.getElementById("said");
let isSure = false;
button?.addEventListener("click", async () => {
  if (!isSure) {
    isSure = true;
    button.textContent = "Yes, delete my votes and prompts";
    return;
  }
  button.disabled = true;
  try {
    const session = await (await fetch("/api/session")).json();
    const reply = await fetch("/api/forget", {
      method: "POST", body: "{}", headers: { "content-type": "application/json", "x-token": session.token },
    });
    const found = await reply.json();
    if (!reply.ok) throw new Error(found.error);
    said.textContent = `Deleted: ${found.battles} battles, ${found.votes} votes.`;
  } catch (error) {
    button.disabled = false;
    said.textContent = `This did not work: ${error.message}`;
  }
});
