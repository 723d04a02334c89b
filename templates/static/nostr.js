// Logging in with the Nostr key that a browser extension holds (NIP-07). Without one, nothing is shown.
"use strict";

(() => {
  const button = document.getElementById("nostr-login");
  const said = document.getElementById("nostr-said");
  if (!button) return;

  const say = (text) => {
    said.textContent = text;
    said.hidden = !text;
  };

  // A refusal is a page; its headline says what is wrong.
  const refusal = async (response) => {
    const template = document.createElement("template");
    template.innerHTML = await response.text();
    return template.content.querySelector("h1")?.textContent.trim() || said.dataset.answered.replace("{status}", response.status);
  };

  const challenge = async () => {
    const response = await fetch("/api/identity/challenge", { method: "POST", cache: "no-store" });
    const body = await response.json();
    if (!response.ok) throw new Error(body.title);
    return body;
  };

  const logIn = async () => {
    const asked = await challenge();
    const event = await window.nostr.signEvent({
      kind: 22242,
      created_at: Math.floor(Date.now() / 1000),
      tags: [["relay", asked.relay], ["challenge", asked.challenge]],
      content: "",
    });
    const response = await fetch("/login", {
      method: "POST",
      body: new URLSearchParams({ event: JSON.stringify(event) }),
    });
    if (!response.ok) throw new Error(await refusal(response));
    location.replace(location.pathname + location.search);
  };

  button.addEventListener("click", async () => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    say("");
    try {
      await logIn();
    } catch (error) {
      say(said.dataset.not.replace("{why}", () => error?.message || said.dataset.refused));
    }
    button.ariaDisabled = "false";
  });

  // Extensions may arrive a little later than the page.
  const look = (again) => {
    if (window.nostr) button.hidden = false;
    else if (again > 0) setTimeout(look, 250, again - 1);
  };
  look(20);
})();
